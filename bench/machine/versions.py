"""Which version of a library is installed here, found without importing it where its files tell.

Importing PyTorch, transformers and ONNX takes seconds, and `probe` runs every time.
"""

import ast
import ctypes
import importlib
import importlib.metadata
import importlib.util
import sys
from contextlib import suppress
from pathlib import Path

TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer.so.8", "nvinfer_10.dll", "nvinfer.dll")
VERSION_FILES = ("__init__.py", "version.py", "_version.py")
"""Where libraries keep `__version__`, tried in this order."""


def library_version(name: str) -> str | None:
    """Return the version that the library states, None where it is not installed or cannot be imported.

    The module is asked, not the package metadata: several packages may offer one module.
    """
    if name == "tensorrt":
        return _module_version(name) or _module_version("tensorrt_libs") or _tensorrt_version()
    return _module_version(name)


def _module_version(name: str) -> str | None:
    if name not in sys.modules:
        folder = module_folder(name)
        texts = (read_constants(folder / file).get("__version__") for file in VERSION_FILES) if folder else ()
        if folder and (stated := next(filter(None, texts), None) or _metadata_version(name, folder)):
            return stated
    try:
        return str(importlib.import_module(name).__version__)
    except (ImportError, OSError, AttributeError):
        return None


def module_folder(name: str) -> Path | None:
    """Return the folder of a package that can be imported, without importing it; None for anything else."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    is_package = found is not None and found.origin is not None and Path(found.origin).name == "__init__.py"
    return Path(str(found.origin)).parent if found and is_package else None


def read_constants(path: Path) -> dict[str, str]:
    """Return the names that a Python file sets to plain text at its top level; empty where there is no such file."""
    if not path.is_file():
        return {}
    constants: dict[str, str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            text = (
                constants.get(node.value.id) if isinstance(node.value, ast.Name) else getattr(node.value, "value", None)
            )
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if isinstance(text, str):
                constants |= {target.id: text for target in targets if isinstance(target, ast.Name)}
    return constants


def _metadata_version(name: str, folder: Path) -> str | None:
    """Return the version of the package of that name in the same place; `onnx` asks for its own in this way too."""
    found = list(importlib.metadata.distributions(name=name, path=[str(folder.parent)]))
    return found[0].version if len(found) == 1 else None


def _tensorrt_version() -> str | None:
    for library in TENSORRT_LIBRARIES:
        with suppress(OSError):
            return _decode_tensorrt(int(ctypes.CDLL(library).getInferLibVersion()))
    return None


def _decode_tensorrt(number: int) -> str:
    """Decode NvInferVersion.h's number: 1000 major + 100 minor + patch up to 9, 10000 major from 10 on."""
    if number < 10_000:
        return f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
