"""The classifier in PyTorch as its runtimes load it, and what its tensors show.

Importing it imports PyTorch and transformers: seconds, and much longer on a slow disk.
"""

import importlib.util
import os
import re
import shlex
import sys
import sysconfig
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from bench.core.files import shortened
from bench.runtimes.base.session import SessionSpec, Unavailable

BUILD_ERROR = re.compile(r"^.*(?:error:|cannot find|failed to map|Failed to find|No such file).*$", re.MULTILINE)
"""A line in which a compiler, a linker or a loader says what is wrong."""


def check_gpu(is_compiled: bool) -> None:
    """Raise Unavailable where PyTorch sees no GPU, or cannot compile for it."""
    if not torch.cuda.is_available():
        raise Unavailable("PyTorch sees no CUDA GPU (CPU build of PyTorch, or a driver that is too old)")
    if is_compiled and importlib.util.find_spec("triton") is None:
        raise Unavailable("torch.compile needs Triton on the GPU, and it is not installed (pip has it for Linux alone)")


def check_compiler() -> None:
    """Raise Unavailable where there is no C++ compiler: torch.compile writes C++ for the CPU."""
    from torch._inductor import cpp_builder, exc

    quote_folders()
    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, RuntimeError, OSError) as problem:
        raise Unavailable(
            f"torch.compile needs a C++ compiler on the CPU, and none was found: {shortened(str(problem))}; "
            "install one (Debian and Ubuntu: build-essential)"
        ) from None


@cache
def quote_folders() -> None:
    """Quote the folders of libraries, and those that code is built in, for the compiler and the linker.

    PyTorch 2.13 does it for headers alone: a folder whose path has a space becomes two.  On Windows it quotes them.
    """
    from torch._inductor.cpp_builder import BuildOptionsBase, CppBuilder
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    if os.name != "posix":
        return
    libraries, command = BuildOptionsBase.get_libraries_dirs, CppBuilder.get_command_line

    def quoted_command(self: Any) -> str:
        text = str(command(self))
        for folder in (cache_dir(), tempfile.gettempdir()):
            text = text.replace(folder, re.sub(r"([^\w/.-])", r"\\\1", folder))
        return text

    BuildOptionsBase.get_libraries_dirs = lambda self: [shlex.quote(folder) for folder in libraries(self)]
    CppBuilder.get_command_line = quoted_command


@contextmanager
def compiling(device: str) -> Iterator[None]:
    """Raise Unavailable with the way out if what is run here fails and not even one line can be compiled."""
    try:
        yield
    except Exception:
        if reason := why_nothing_compiles(device):
            again = "then `dvc repro -f infer@ROW` tries it again"
            raise Unavailable(f"torch.compile cannot build one line of code: {reason}; {again}") from None
        raise


def why_nothing_compiles(device: str) -> str:
    """Return why a line cannot be compiled and run, with the way out; empty if it can."""
    torch.compiler.reset()
    try:
        torch.compile(lambda numbers: numbers + 1, fullgraph=True)(torch.ones(8, device=device))
    except (torch.OutOfMemoryError, MemoryError):
        return ""
    except Exception as problem:  # of PyTorch, Triton, the compiler's process or the loader
        return describe_build_failure(str(problem))
    return ""


def describe_build_failure(text: str) -> str:
    """Return why a line cannot be compiled, from what was said and what is missing, with the way out."""
    header, temporary = Path(sysconfig.get_path("include"), "Python.h"), tempfile.gettempdir()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not header.is_file():
        packages = f"Debian and Ubuntu: python{version}-dev; Fedora: python3-devel"
        return f"Python's headers are missing ({header}): install them ({packages})"
    variable = "TEMP" if os.name == "nt" else "TMPDIR"
    if "failed to map" in text:
        return f"no code may run from the folder of temporary files ({temporary}): set {variable} to another"
    said = BUILD_ERROR.search(text)
    what = shortened(said[0] if said else text.strip().partition("\n")[0] or "no reason given")
    return f"{what}; install a whole compiler (Debian and Ubuntu: build-essential), or unset CC and CXX if they are set"


def load_model(spec: SessionSpec) -> Any:
    """Return the classifier of the folder `spec.graph` in the precision and on the device asked for."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    types = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float16}
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

    By dtype, `weight_bytes`: of all weights; `product_weights`: elements of those of linear layers and convolutions.
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
