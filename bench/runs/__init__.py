"""Runs that were kept, and machines side by side."""
