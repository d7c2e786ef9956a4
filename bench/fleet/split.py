"""Build the TensorRT engines of this machine on all its equal GPUs at once:  python -m bench.fleet.split

Before `dvc repro`, which then finds them built.  Only builds are dealt out: rows are timed one after another on one
GPU, because two GPUs in use share the host that feeds them, and rows of two cards would compare the cards.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from bench.core.errors import BenchError, run_stage
from bench.core.params import load_params
from bench.core.paths import ENGINES
from bench.core.progress import say
from bench.engines.folders import read_record
from bench.machine.gpus import VISIBLE, ask, chosen_gpu, handle_of, nvml, visible_gpus

ALIKE = ("nvmlDeviceGetName", "nvmlDeviceGetCudaComputeCapability", "nvmlDeviceGetEnforcedPowerLimit")
"""What two GPUs must have in common, beside their memory, for one to build the other's engines."""
STAGE = "build_engine"


def main() -> None:
    params = load_params()
    keys, place = list(params.tensorrt_variants), params.timing.gpu_index
    with nvml() as library:
        visible = visible_gpus(library) if library else []
        entries = equal_gpus(library, visible, chosen_gpu(library, place)) if visible else []
    if len(entries) < 2 or len(keys) < 2:
        say(f"nothing to deal out: {len(keys)} engines, {len(entries)} equal GPUs")
        return
    if dvc("repro", "convert_onnx").returncode:
        raise BenchError("split: no engine can be built before the graphs are made: the reason stands above")
    build_all(keys, visible, place, entries)


def equal_gpus(library: Any, visible: Sequence[str], timed: str | None) -> list[str]:
    """Return those of the visible GPUs that are equal to the one that is timed, which is the first of them."""
    entries = sorted(visible, key=lambda entry: entry != timed)
    kinds = [kind_of(library, handle_of(library, entry)) for entry in entries]
    return [entry for entry, kind in zip(entries, kinds, strict=True) if kind == kinds[0]]


def kind_of(library: Any, handle: Any) -> list[Any]:
    """Return what equal GPUs have in common."""
    memory = ask(library, "nvmlDeviceGetMemoryInfo", handle)
    return [*(ask(library, function, handle) for function in ALIKE), memory and memory.total]


def build_all(keys: Iterable[str], visible: Sequence[str], place: int, entries: Sequence[str]) -> None:
    """Build each engine once, one at a time on each GPU; `dvc repro` tells why one failed."""
    waiting = deque(keys)
    say(f"building {len(waiting)} engines on {len(entries)} GPUs")
    with ThreadPoolExecutor(len(entries)) as threads:
        try:
            list(threads.map(partial(build_waiting, waiting, visible, place), entries))
        finally:
            waiting.clear()


def build_waiting(waiting: deque[str], visible: Sequence[str], place: int, entry: str) -> None:
    """Build on one GPU what no other has begun."""
    order = with_at(visible, place, entry)
    while waiting:
        try:
            key = waiting.popleft()
        except IndexError:  # another thread was quicker
            return
        began = time.monotonic()
        ended = dvc("repro", "--single-item", f"{STAGE}@{key}", visible=order)
        status = "failed" if ended.returncode else read_record(ENGINES / key)["status"]
        say(f"  {key}: {status} on GPU {entry} after {time.monotonic() - began:.0f} s")


def with_at(visible: Sequence[str], place: int, entry: str) -> str:
    """Return the visible GPUs as CUDA_VISIBLE_DEVICES, with one of them in the place of the one that is timed."""
    order = list(visible)
    other = order.index(entry)
    order[place], order[other] = order[other], order[place]
    return ",".join(order)


def dvc(*arguments: str, visible: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run DVC, which waits for its own lock where another of these holds it; silent where it is one of several."""
    return subprocess.run(
        [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments],
        env={**os.environ, VISIBLE: visible} if visible else None,
        stdout=subprocess.DEVNULL if visible else None,
        stderr=subprocess.DEVNULL if visible else None,
        check=False,
    )


if __name__ == "__main__":
    run_stage(main)
