"""Can the proof of precision and device fail?  Four mislabelled rows, and what the pipeline says of each.

    python run.py python validation/proof_can_fail.py [--write FILE]

Needs an NVIDIA GPU and the artifacts of a finished `dvc repro`.  Exits with 1 if one of them passes as measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.files import write_json
from bench.core.params import Params, load_params
from bench.machine.lock import timing_lock
from bench.timing.combine import combine
from bench.timing.results import ProcessResult
from bench.workers.jobs import make_job
from bench.workers.launcher import run_worker

CUDA_LIBRARIES = ("libcublas.so", "libcublasLt.so", "libcudnn.so", "libcudart.so")
MISLABELLED: dict[str, tuple[str, dict[str, Any]]] = {
    "a PyTorch fp32 row that runs with TF32 on": ("torch_cuda_fp32", {"precision": "tf32"}),
    "an ONNX Runtime fp32 row that runs with TF32 on": ("ort_cuda_fp32", {"precision": "tf32"}),
    "a fused fp16 row that is given the fp32 graph": ("ort_cuda_fp16", {"graph": "artifacts/onnx/fp32.onnx"}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    params = load_params().model_copy(update={"batch_sizes": [1]})
    with timing_lock():
        results = {row: measure(params, key, change) for row, (key, change) in MISLABELLED.items()}
        with broken_cuda_libraries():
            results["a CUDA row whose libraries are broken"] = measure(params, "ort_cuda_fp32", {})
    for row, found in results.items():
        print(f"{row}: {found['status']}: {found.get('reason', '')}")
    if given.write:
        write_json(given.write, results)
    return int(any(found["status"] == "measured" for found in results.values()))


def measure(params: Params, key: str, change: dict[str, Any]) -> dict[str, Any]:
    """Run one worker with a changed job under the label of `key`; return the status and reason of its row."""
    variant = params.all_variants()[key]
    job = make_job(key, variant, params, process=0, measure_accuracy=False, profile=True)
    job = replace(job, min_seconds=0.0, **change)
    with tempfile.TemporaryDirectory() as scratch:
        result = run_worker(job, Path(scratch), params.timing.worker_limit_seconds, lambda _event: None)
    if result["status"] == "skipped":
        return {"status": "skipped", "reason": result["reason"]}
    cell = combine(variant, params, [ProcessResult(**result)], is_real=False).cells["1"]
    return cell.as_dict(include={"status", "reason", "proof", "relative_error"})


@contextmanager
def broken_cuda_libraries() -> Iterator[None]:
    """Put empty files where the loader looks first for CUDA's libraries (Linux)."""
    before = os.environ.get("LD_LIBRARY_PATH", "")
    with tempfile.TemporaryDirectory() as folder:
        for stem in CUDA_LIBRARIES:
            for major in range(8, 15):
                (Path(folder) / f"{stem}.{major}").touch()
        os.environ["LD_LIBRARY_PATH"] = folder
        try:
            yield
        finally:
            os.environ["LD_LIBRARY_PATH"] = before


if __name__ == "__main__":
    sys.exit(main())
