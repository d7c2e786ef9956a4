"""What this machine can do at most: matrix products and copies."""
