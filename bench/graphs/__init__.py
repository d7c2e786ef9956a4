"""ONNX: the export and the graphs of lower precision that are made of it."""
