"""Which machine is this?  Two of one kind have the same hardware in metrics/env.json, and are not the same machine.

What was measured once (peaks, the seconds of an export) is this machine's only where it carries this machine's id.
"""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

from bench.core.files import write_json
from bench.core.paths import MACHINE
from bench.machine.gpus import ask, chosen_gpu, handle_of, nvml

ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"), Path("/proc/sys/kernel/random/boot_id"))
"""Where Linux keeps an id, the first that is there: a container has none of its own, then the host's boot counts."""
REGISTRY = r"SOFTWARE\Microsoft\Cryptography"


def machine_id(gpu_index: int = 0) -> str:
    """Return 12 hexadecimal digits that are this machine's, with the GPU that is timed; they tell nothing else."""
    parts = [_system_id() or f"{platform.node()} {uuid.getnode()}", _gpu_uuid(gpu_index)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def write_machine(gpu_index: int) -> None:
    """Write artifacts/machine.json, which is kept out of git."""
    write_json(MACHINE, {"id": machine_id(gpu_index)})


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
    return next((found for path in ID_FILES if (found := _read(path))), "")


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""


def _gpu_uuid(gpu_index: int) -> str:
    with nvml() as library:
        gpu = library and chosen_gpu(library, gpu_index)
        return "" if gpu is None else ask(library, "nvmlDeviceGetUUID", handle_of(library, gpu)) or ""
