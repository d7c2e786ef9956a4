"""What is this machine: hardware, cores, versions, and its one timing lock."""
