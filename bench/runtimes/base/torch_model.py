"""The classifier in PyTorch as its runtimes load it, and what its tensors show.

Importing it imports PyTorch and transformers: seconds, and much longer on a slow disk.
"""

import importlib.util
import warnings
from collections import Counter
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from bench.runtimes.base.session import SessionSpec, Unavailable


def check_gpu(is_compiled: bool) -> None:
    """Raise Unavailable where PyTorch sees no GPU, or cannot compile for it."""
    if not torch.cuda.is_available():
        raise Unavailable("PyTorch sees no CUDA GPU (CPU build of PyTorch, or a driver that is too old)")
    if is_compiled and importlib.util.find_spec("triton") is None:
        raise Unavailable("torch.compile needs Triton on the GPU, and it is not installed (pip has it for Linux alone)")


def load_model(spec: SessionSpec) -> Any:
    """Return the classifier of the folder `spec.graph` in the precision and on the device asked for."""
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


def shown_by(model: Any) -> dict[str, Any]:
    """Return the fields of `Evidence` that the model's tensors show, packed INT8 weights of quantized layers included.

    `device`: the kinds of devices; by dtype, `weight_bytes`: of all weights; `product_weights`: elements of the weights
    of linear layers and convolutions.
    """
    gemms = (torch.nn.Linear, torch.nn.modules.conv._ConvNd, Conv1D)
    tensors = [value for value in model.state_dict().values() if isinstance(value, torch.Tensor)]
    sizes: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.dim() > 0:
            sizes[_dtype(tensor)] += tensor.numel() * tensor.element_size()
    for module in model.modules():
        weight: Any = getattr(module, "weight", None)
        if callable(weight):
            weight = weight()
            sizes[_dtype(weight)] += weight.numel() * weight.element_size()
        elif not isinstance(module, gemms):
            continue
        elements[_dtype(weight)] += weight.numel()
    return {
        "device": sorted({tensor.device.type for tensor in tensors}),
        "weight_bytes": dict(sizes),
        "product_weights": dict(elements),
    }


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
