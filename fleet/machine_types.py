"""Which nodes are of one machine type; `python -m fleet.machine_types` prints this machine's fingerprint as JSON."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bench.core.errors import ParameterError
from bench.machine.environment import probe_environment

LONGEST_NAME = 40
PYTORCH_FACTS = ("cuda", "cudnn", "pytorch_code")
"""What `probe` finds of a GPU that is PyTorch's."""


def fingerprint() -> dict[str, Any]:
    """Return what `probe` finds of hardware, driver and system, without the libraries, which the commit pins."""
    found = probe_environment({})
    gpu = found["cuda"]
    cuda = gpu and {name: value for name, value in gpu.items() if name not in PYTORCH_FACTS}
    return {"cpu": found["cpu"], "cuda": cuda, "os": found["os"]}


@dataclass(frozen=True)
class Node:
    """A machine of the cluster; `cpus` and `gpus` as the cluster counts them: all of them are asked for."""

    id: str
    address: str
    cpus: float = 1.0
    gpus: float = 0.0


def machine_type_of(machine: Mapping[str, Any]) -> str:
    """Return the name of a machine's type: its GPU, or without one its CPU, and six digits of the fingerprint.

    Two machines of a type have equal fingerprints; cards of one name with other memory are two types.
    """
    gpu, cpu = machine["cuda"], machine["cpu"]
    if gpu:
        words = gpu["gpu"] + (f" x{gpu['count']}" if gpu["count"] > 1 else "")
    else:
        words = f"{cpu['model']} {cpu['cores']} cores"
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:6]
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:LONGEST_NAME].strip("-")
    return f"{slug}-{digest}"


def by_machine_type(machines: Mapping[Node, Mapping[str, Any]]) -> dict[str, list[Node]]:
    """Return the nodes of each machine type, types by name and nodes by address."""
    found: dict[str, list[Node]] = {}
    for node in sorted(machines, key=lambda each: (each.address, each.id)):
        found.setdefault(machine_type_of(machines[node]), []).append(node)
    return dict(sorted(found.items()))


def chosen(machine_types: Collection[str], pattern: str) -> list[str]:
    """Return the machine types that a pattern names (`*h100*`); ParameterError if it names none."""
    found = [each for each in machine_types if fnmatchcase(each, pattern.lower())]
    if not found and machine_types:
        raise ParameterError(f"--machine-types: {pattern!r} names none of this cluster's: {', '.join(machine_types)}")
    return found


def run_names(machine_type: str, repeat: int) -> list[str]:
    """Return what the runs of a machine type are called in runs/."""
    return [machine_type, *(f"{machine_type}-{number}" for number in range(2, repeat + 1))]


if __name__ == "__main__":
    print(json.dumps(fingerprint(), sort_keys=True))
