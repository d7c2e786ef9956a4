"""Which version of a library is installed here."""

from __future__ import annotations

import ctypes
import importlib

TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer.so.8", "nvinfer_10.dll", "nvinfer.dll")


def library_version(name: str) -> str | None:
    """Return the version that the imported library states, None where it cannot be imported.

    The module is asked, not the package metadata: several packages may offer one module.
    """
    if name == "tensorrt":
        return _tensorrt_version()
    try:
        return str(importlib.import_module(name).__version__)
    except (ImportError, OSError, AttributeError):
        return None


def _tensorrt_version() -> str | None:
    """Return TensorRT's version from its Python package or, without one, from its library."""
    for module in ("tensorrt", "tensorrt_libs"):
        try:
            package = importlib.import_module(module)
        except (ImportError, OSError):
            continue
        if hasattr(package, "__version__"):
            return str(package.__version__)
    for library in TENSORRT_LIBRARIES:
        try:
            number = int(ctypes.CDLL(library).getInferLibVersion())
        except OSError:
            continue
        return _decode_tensorrt(number)
    return None


def _decode_tensorrt(number: int) -> str:
    """Decode NvInferVersion.h's number: 1000 major + 100 minor + patch up to 9, 10000 major from 10 on."""
    if number < 10_000:
        return f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
