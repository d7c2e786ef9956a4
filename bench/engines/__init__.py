"""TensorRT's engines: how they are built, named, and used as they were built."""
