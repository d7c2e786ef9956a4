"""Which GPU is timed: `timing.gpu_index` counts those that CUDA_VISIBLE_DEVICES leaves, as every CUDA program does.

An entry of CUDA_VISIBLE_DEVICES is a number in PCI order, a GPU's UUID or its beginning, or a MIG device's UUID.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.core.errors import ParameterError

VISIBLE = "CUDA_VISIBLE_DEVICES"
RESTART = "restart the machine (a driver that was updated is loaded then), or see that `nvidia-smi` works"


@contextmanager
def nvml() -> Iterator[Any]:
    """Give NVML's Python module, started; None where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def driver_fault() -> str:
    """Return why a driver that is installed does not answer, with the way out; empty where it does or there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as problem:
        is_there = not isinstance(problem, pynvml.NVMLError_LibraryNotFound)
        return f"the NVIDIA driver does not answer ({problem}): {RESTART}" if is_there else ""
    return ""


def visible_gpus(library: Any, variables: Mapping[str, str] = os.environ) -> list[str]:
    """Return the entries of CUDA_VISIBLE_DEVICES (unset: all GPUs) before the first that names none, as CUDA does."""
    if VISIBLE not in variables:
        return [str(index) for index in range(library.nvmlDeviceGetCount())]
    found: list[str] = []
    for entry in (part.strip() for part in variables[VISIBLE].split(",")):
        if handle_of(library, entry) is None:
            break
        found.append(entry)
    return found


def chosen_gpu(library: Any, gpu_index: int, variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the entry of the GPU that is timed, None where none may be used; ParameterError for an index too high."""
    visible = visible_gpus(library, variables)
    if visible and gpu_index >= len(visible):
        hidden = f" (CUDA_VISIBLE_DEVICES={variables[VISIBLE]})" if VISIBLE in variables else ""
        raise ParameterError(
            f"params.yaml: timing.gpu_index = {gpu_index}, allowed: 0 to {len(visible) - 1}{hidden}; GPUs count from 0"
        )
    return visible[gpu_index] if visible else None


def gpu_to_time(gpu_index: int) -> str | None:
    """Return the entry of the GPU that is timed here, None without one; ParameterError for an index too high."""
    with nvml() as library:
        return library and chosen_gpu(library, gpu_index)


def handle_of(library: Any, entry: str) -> Any:
    """Return NVML's handle of an entry of CUDA_VISIBLE_DEVICES, None where it names no GPU of this machine."""
    try:
        if entry.isdecimal():
            return _first_part(library, library.nvmlDeviceGetHandleByIndex(int(entry)))
        if entry.startswith("MIG-"):
            return library.nvmlDeviceGetHandleByUUID(entry)
        handles = map(library.nvmlDeviceGetHandleByIndex, range(library.nvmlDeviceGetCount()))
        named = [handle for handle in handles if entry and library.nvmlDeviceGetUUID(handle).startswith(entry)]
        return _first_part(library, named[0]) if len(named) == 1 else None
    except library.NVMLError:
        return None


def is_cut(library: Any, whole: Any) -> bool:
    """Tell whether a GPU is in MIG mode, in which CUDA takes parts of it alone."""
    mode = ask(library, "nvmlDeviceGetMigMode", whole)
    return bool(mode and mode[0])


def _first_part(library: Any, whole: Any) -> Any:
    """Return the first MIG device of a GPU that is cut, which is what CUDA takes for it; else the GPU itself."""
    places = range(ask(library, "nvmlDeviceGetMaxMigDeviceCount", whole) or 0) if is_cut(library, whole) else ()
    parts = (ask(library, "nvmlDeviceGetMigDeviceHandleByIndex", whole, place) for place in places)
    return next((part for part in parts if part is not None), whole)


def whole_gpu(library: Any, handle: Any) -> Any:
    """Return the handle of the GPU that a MIG device is a part of, else the handle itself."""
    whole = ask(library, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
    return handle if whole is None else whole


def ask(library: Any, function: str, *arguments: Any) -> Any:
    """Return NVML's answer, None where the GPU, the driver or this version of NVML has none."""
    try:
        return getattr(library, function)(*arguments)
    except (AttributeError, library.NVMLError):
        return None
