"""Find out what should make timings stale: hardware, driver and library versions.

No clock, temperature, free memory, process id or time: two probes of one machine write the same file.

artifacts/machine.json says which machine it is.  Two of one kind have the same hardware and are not the same machine:
what was measured once (peaks, the seconds of an export) is this machine's only where it carries this machine's id.
"""

import hashlib
import platform
import re
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.core.variables import recorded_variables
from bench.machine.can_run import deciding_instructions
from bench.machine.cores import TOPOLOGY, cpu_quota, numa_nodes, physical_cores, usable_cpus
from bench.machine.gpus import ask, chosen_gpu, driver_fault, handle_of, is_cut, nvml, visible_gpus, whole_gpu
from bench.machine.versions import library_version

VERSIONED_LIBRARIES = (
    *("torch", "transformers", "tokenizers", "sentencepiece", "onnx", "onnxscript", "onnxruntime"),
    *("openvino", "tensorrt", "numpy", "mlcommons_loadgen"),
)
ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"), Path("/proc/sys/kernel/random/boot_id"))
"""Where Linux keeps an id, the first that is there: a container has none of its own, then the host's boot counts."""
REGISTRY = r"SOFTWARE\Microsoft\Cryptography"


def probe_environment(runtime_libraries: dict[str, tuple[str, ...]], gpu_index: int = 0) -> dict[str, Any]:
    """Return the content of metrics/env.json, so named that a stage can depend on its device and runtime alone."""
    versions = {library: library_version(library) for library in VERSIONED_LIBRARIES}
    cuda = probe_cuda(gpu_index)
    fault = "" if cuda else driver_fault()
    return {
        "cpu": probe_cpu(),
        "cuda": cuda,
        **({"gpu_fault": fault} if fault else {}),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "variables": recorded_variables(),
        "versions": versions,
        "runtimes": {
            runtime: {library: versions[library] for library in libraries}
            for runtime, libraries in runtime_libraries.items()
        },
    }


def probe_cpu() -> dict[str, Any]:
    """Return the CPU's model, the cores that this process may use, and what else limits its speed, where that is known.

    `instructions`: those that decide how fast it multiplies; `threads`: the hardware threads that may be used, two a
    core with SMT; `quota_cpus`: what a container's limit allows; `governor`: how Linux sets the clock.
    """
    limits = {
        "instructions": deciding_instructions(),
        "numa_nodes": numa_nodes(),
        "quota_cpus": cpu_quota(),
        "governor": _governors(),
    }
    return {
        "model": _cpu_model(),
        "cores": physical_cores(),
        "threads": len(usable_cpus()),
        **{name: value for name, value in limits.items() if value},
    }


def _governors() -> str:
    """Return the clock governors of the usable CPUs, empty where there are none to read (virtual machines)."""
    found = set()
    for cpu in usable_cpus():
        with suppress(OSError):
            found.add((TOPOLOGY / f"cpu{cpu}" / "cpufreq" / "scaling_governor").read_text().strip())
    return ", ".join(sorted(found))


def _cpu_model() -> str:
    with suppress(OSError):
        if sys.platform == "linux":
            told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
            if found := re.search(r"^model name\s*: *(.+)", told, re.MULTILINE):
                return found[1].strip()
        if sys.platform == "win32":
            import winreg

            path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
                return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    return platform.processor() or platform.machine()


def probe_cuda(gpu_index: int) -> dict[str, Any] | None:
    """Return the GPU and its software, None where there is no NVIDIA GPU or driver, or none that may be used.

    What the GPU or the driver does not tell is None: the memory of some GPUs that share the system's, for one.
    ParameterError if `gpu_index` is too high.
    """
    with nvml() as library:
        gpu = library and chosen_gpu(library, gpu_index)
        if gpu is None:
            return None
        handle = handle_of(library, gpu)
        return {
            **_hardware(library, handle),
            "count": len(visible_gpus(library)),
            "driver": ask(library, "nvmlSystemGetDriverVersion"),
            **_cuda_software(),
        }


def _hardware(library: Any, handle: Any) -> dict[str, Any]:
    """Return what decides a GPU's speed; `mig` (it is a part of a GPU) and `power_limit_w` only where told."""
    whole = whole_gpu(library, handle)
    memory = ask(library, "nvmlDeviceGetMemoryInfo", handle)
    capability = ask(library, "nvmlDeviceGetCudaComputeCapability", whole)
    limit_mw = ask(library, "nvmlDeviceGetEnforcedPowerLimit", whole)
    return {
        "gpu": ask(library, "nvmlDeviceGetName", handle) or "an NVIDIA GPU",
        "memory_mib": memory and memory.total // 2**20,
        "compute_capability": capability and ".".join(map(str, capability)),
        **({"power_limit_w": round(limit_mw / 1000)} if limit_mw else {}),
        **({"mig": True} if whole is not handle or is_cut(library, whole) else {}),
    }


def _cuda_software() -> dict[str, str | None]:
    """Return PyTorch's CUDA, cuDNN and GPU architectures that it has code for; None for a CPU build, and without it."""
    try:
        import torch
    except (ImportError, OSError):
        return {"cuda": None, "cudnn": None, "pytorch_code": None}
    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    code = " ".join(torch.cuda.get_arch_list())
    return {"cuda": torch.version.cuda, "cudnn": str(cudnn) if cudnn else None, "pytorch_code": code or None}


def machine_id(gpu_index: int = 0) -> str:
    """Return 12 hexadecimal digits that are this machine's, with the GPU that is timed; they tell nothing else."""
    with nvml() as library:
        gpu = library and chosen_gpu(library, gpu_index)
        handle = None if gpu is None else handle_of(library, gpu)
        gpu_uuid = "" if gpu is None else ask(library, "nvmlDeviceGetUUID", handle) or ""
        gpu_uuid += " cut" if gpu is not None and is_cut(library, handle) else ""
    parts = [_system_id() or f"{platform.node()} {uuid.getnode()}", gpu_uuid]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _system_id() -> str:
    with suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "win32":
            import winreg

            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, REGISTRY) as key:
                return str(winreg.QueryValueEx(key, "MachineGuid")[0])
        if sys.platform == "darwin":
            command = ["ioreg", "-rd1", "-c", "IOPlatformExpertDevice"]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = re.search(r'"IOPlatformUUID" = "([^"]+)"', told)
            return found[1] if found else ""
    for path in ID_FILES:
        with suppress(OSError):
            if found := path.read_text(encoding="utf-8").strip():
                return found
    return ""
