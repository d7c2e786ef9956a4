"""What a worker process is asked to do for a variant, and when there is nothing to ask."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from bench.core.errors import DataError
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, EVALUATION
from bench.machine.cores import thread_count
from bench.machine.gpus import gpu_to_time
from bench.workers.protocol import Job


def reason_to_skip(variant: Variant, environment: dict[str, Any]) -> str:
    """Return why the variant cannot run on this machine, from what `probe` found; empty if it can be tried."""
    if variant.device == "cuda" and environment["cuda"] is None:
        return "no NVIDIA GPU found"
    if variant.runtime not in environment["runtimes"]:
        raise DataError(f"metrics/env.json does not know the runtime {variant.runtime!r}: run `dvc repro probe`")
    missing = [name for name, version in environment["runtimes"][variant.runtime].items() if version is None]
    if missing:
        return f"not installed, or cannot be imported: {', '.join(missing)}"
    if (variant.device, variant.runtime) == ("cuda", "pytorch") and not has_code(environment["cuda"]):
        gpu = environment["cuda"]
        return (
            f"this PyTorch has no code for compute capability {gpu['compute_capability']}, only {gpu['pytorch_code']}: "
            "another version of PyTorch may have"
        )
    if variant.precision == "tf32" and not _has_tf32(environment["cuda"]):
        return f"TF32 needs compute capability 8.0, this GPU has {environment['cuda']['compute_capability']}"
    return ""


def _has_tf32(gpu: dict[str, Any]) -> bool:
    """Tell whether the GPU's tensor cores take TF32: from compute capability 8.x on (CUDA C++ Programming Guide)."""
    capability = gpu["compute_capability"]
    return capability is None or int(capability.split(".")[0]) >= 8


def has_code(gpu: dict[str, Any]) -> bool:
    """Tell whether PyTorch has code that the GPU runs; true where that is not known.

    Machine code (`sm_86`) runs on GPUs of its generation from its own revision on, PTX (`compute_90`) on all later ones
    (CUDA C++ Programming Guide, Application Compatibility).
    """
    capability, code = gpu["compute_capability"], gpu.get("pytorch_code")
    if not capability or not code:
        return True
    own = tuple(map(int, capability.split(".")))
    for kind, number in re.findall(r"(sm|compute)_(\d+)", code):
        made_for = divmod(int(number), 10)
        if made_for <= own and (kind == "compute" or made_for[0] == own[0]):
            return True
    return False


def engine_options(params: Params) -> dict[str, Any]:
    """Return what an engine depends on besides graph, TensorRT and GPU."""
    return {
        **params.tensorrt.model_dump(),
        "batch_sizes": sorted(params.batch_sizes),
        "sequence_length": params.sequence_length,
    }


def make_job(
    key: str,
    variant: Variant,
    params: Params,
    *,
    process: int,
    measure_accuracy: bool,
    starts_alone: bool = True,
    profile: bool = False,
    engine: Path | None = None,
) -> Job:
    """Return the job of one worker process, the `process`-th of its variant.

    `starts_alone`: nothing else is started beside it, so that its start-up is a user's.
    """
    return Job(
        key=key,
        runtime=variant.runtime,
        device=variant.device,
        precision=variant.precision,
        graph=str(ARTIFACTS / variant.graph),
        options=variant.options,
        batch_sizes=params.batch_sizes,
        sequence_length=params.sequence_length,
        cpu_threads=thread_count(params.timing.cpu_threads),
        gpu=gpu_to_time(params.timing.gpu_index) if variant.device == "cuda" else None,
        engine=str(engine) if engine else None,
        engine_options=engine_options(params),
        inputs=str(EVALUATION),
        process=process,
        starts_alone=starts_alone,
        warmup_runs=params.timing.warmup_runs,
        min_runs=params.timing.min_runs,
        min_seconds=params.timing.min_seconds,
        max_seconds=params.timing.max_seconds,
        measure_accuracy=measure_accuracy,
        profile=profile,
        started_unix_ns=time.time_ns(),
    )
