"""A TensorRT of which only the version is known."""

__version__ = "99.0"
