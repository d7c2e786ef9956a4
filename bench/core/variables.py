"""Environment variables that change how fast or with which arithmetic a library works.

A measurement is of the libraries' own defaults: these are not passed on to the processes that measure.  What takes
effect before a program starts (another memory allocator, say) is recorded: rows that were timed without it are stale.
"""

import os
from collections.abc import Mapping
from pathlib import PurePath

CLEARED: dict[str, tuple[str, ...]] = {
    "threads": ("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "NUMEXPR_"),
    "CPU kernels": ("ATEN_", "DNNL_", "ONEDNN_", "NPY_", "XNNPACK_"),
    "PyTorch": ("PYTORCH_", "TORCH_", "TORCHDYNAMO_", "TORCHINDUCTOR_", "INDUCTOR_", "TRITON_"),
    "CUDA": ("CUDA_", "CUDNN_", "CUBLAS_", "CUBLASLT_", "NVIDIA_TF32_OVERRIDE"),
    "ONNX Runtime": ("ORT_", "ONNXRUNTIME_"),
    "OpenVINO": ("OV_", "OPENVINO_"),
    "TensorRT": ("TRT_", "TENSORRT_"),
    "Python": ("PYTHONDEVMODE", "PYTHONMALLOC", "PYTHONTRACEMALLOC", "PYTHONPROFILEIMPORTTIME", "PYTHON_JIT"),
}
"""Beginnings of names, by the library that reads them."""
KEPT = ("CUDA_PATH", "CUDA_HOME", "CUDA_ROOT", "CUDA_MPS_", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
"""Of these: where CUDA lies, its multi-process service, and which GPU is meant (bench/machine/gpus.py)."""
RECORDED = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "GLIBC_TUNABLES", "MALLOC_", "TCMALLOC_", "CUDA_MPS_")
"""What a process is given before it starts."""
COMPILING = (
    *("CC", "CXX", "CPP", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"),
    *("LIBRARY_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH", "CCC_OVERRIDE_OPTIONS", "CL", "_CL_", "SDKROOT"),
)
"""What compilers and torch.compile read: where a compiler lies, and what code it makes."""


def chosen_variables(base: Mapping[str, str], threads: int, gpu: str | None) -> dict[str, str]:
    """Return `base` without what changes speed or arithmetic, with these CPU threads and this GPU (None: no GPU)."""
    left = {name: value for name, value in base.items() if not is_cleared(name)}
    return left | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": gpu or "",
    }


def is_cleared(name: str) -> bool:
    """Tell whether the processes that measure are not given a variable."""
    beginnings = tuple(beginning for group in CLEARED.values() for beginning in group)
    return name.upper().startswith(beginnings) and not name.upper().startswith(KEPT)


def recorded_variables(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return those of `base` that are left in force and change speed; of a path the file's name alone."""
    return {
        name: " ".join(PurePath(part).name for part in value.split())
        for name, value in sorted(base.items())
        if (name.startswith(RECORDED) or name.upper() in COMPILING) and value
    }
