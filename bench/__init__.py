"""Measure which runtime, precision and batch size serves a Transformer best on this machine."""
