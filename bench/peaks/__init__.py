"""What this machine can do at most: matrix products, copies, idle power."""
