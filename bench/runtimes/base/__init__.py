"""What every runtime offers, and how one is found."""
