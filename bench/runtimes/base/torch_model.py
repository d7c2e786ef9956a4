"""The classifier in PyTorch as its runtimes load it, and what it shows of itself."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np

from bench.runtimes.base.session import SessionSpec


def load_model(spec: SessionSpec) -> Any:
    """Return the classifier of the folder `spec.graph` in the precision and on the device asked for."""
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    types = {"fp16": torch.float16, "bf16": torch.bfloat16}
    dtype = types.get(spec.precision, torch.float32)  # whatever the checkpoint was saved in
    model = AutoModelForSequenceClassification.from_pretrained(
        spec.graph, local_files_only=True, use_safetensors=True, dtype=dtype
    )
    model = model.eval().to(spec.device)
    if spec.precision != "int8":
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but torchao has no CPU path of comparable speed
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def devices(model: Any) -> list[str]:
    """Return the kinds of devices that the model's tensors lie on."""
    return sorted({tensor.device.type for tensor in model.state_dict().values() if _is_tensor(tensor)})


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "device") and hasattr(value, "element_size")


def weight_bytes(model: Any) -> dict[str, int]:
    """Return the bytes of all weights by dtype, packed INT8 weights of quantized layers included."""
    sizes: Counter[str] = Counter()
    for tensor in model.state_dict().values():
        if _is_tensor(tensor) and tensor.dim() > 0:
            sizes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel() * tensor.element_size()
    for module in model.modules():
        if callable(getattr(module, "weight", None)):
            weight = module.weight()
            sizes[str(weight.dtype).removeprefix("torch.")] += int(np.prod(weight.shape)) * weight.element_size()
    return dict(sizes)


def product_weights(model: Any) -> dict[str, int]:
    """Return the elements of the weights of all linear layers and convolutions by dtype, quantized ones included."""
    import torch
    from transformers.pytorch_utils import Conv1D

    products = (torch.nn.Linear, torch.nn.modules.conv._ConvNd, Conv1D)
    elements: Counter[str] = Counter()
    for module in model.modules():
        weight: Any = getattr(module, "weight", None)
        if callable(weight):
            weight = weight()
        elif not isinstance(module, products):
            continue
        elements[str(weight.dtype).removeprefix("torch.")] += weight.numel()
    return dict(elements)
