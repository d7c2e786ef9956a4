"""Sentences as arrays, and the batches that are made of them."""
