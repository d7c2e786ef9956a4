"""One worker process at a time, how it is started, told what to do and ended; and TensorRT engines, built and used."""
