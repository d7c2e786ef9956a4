"""From the tidy table to words and pictures."""
