"""Which nodes are of one kind, and what a kind and its runs are called."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bench.core.errors import ParameterError

Fingerprint = Mapping[str, Any]
LONGEST_NAME = 40


@dataclass(frozen=True)
class Node:
    """A machine of the cluster; `cpus` and `gpus` as the cluster counts them: all of them are asked for."""

    id: str
    address: str
    cpus: float = 1.0
    gpus: float = 0.0


def kind_of(machine: Fingerprint) -> str:
    """Return the name of a machine's kind: its GPU, or without one its CPU, and six digits of all that is known.

    Two machines of a kind have equal fingerprints; cards of one name with other memory are two kinds.
    """
    gpu, cpu = machine["cuda"], machine["cpu"]
    if gpu:
        words = gpu["gpu"] + (f" x{gpu['count']}" if gpu["count"] > 1 else "")
    else:
        words = f"{cpu['model']} {cpu['cores']} cores"
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:6]
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:LONGEST_NAME].strip("-")
    return f"{slug}-{digest}"


def by_kind(machines: Mapping[Node, Fingerprint]) -> dict[str, list[Node]]:
    """Return the nodes of each kind, kinds by name and nodes by address."""
    found: dict[str, list[Node]] = {}
    for node in sorted(machines, key=lambda each: (each.address, each.id)):
        found.setdefault(kind_of(machines[node]), []).append(node)
    return dict(sorted(found.items()))


def chosen(kinds: Iterable[str], pattern: str) -> list[str]:
    """Return the kinds that a pattern names (`*h100*`); ParameterError if it names none."""
    there = list(kinds)
    found = [kind for kind in there if fnmatchcase(kind, pattern.lower())]
    if not found and there:
        raise ParameterError(f"--kinds: {pattern!r} names no kind of this cluster: {', '.join(there)}")
    return found


def run_names(kind: str, repeat: int) -> list[str]:
    """Return what the runs of a kind are called in runs/."""
    return [kind, *(f"{kind}-{number}" for number in range(2, repeat + 1))]
