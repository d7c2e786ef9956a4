"""Which way to INT8 does the installed TensorRT really go?  Each way is built, run and looked at.

    python run.py python validation/tensorrt_int8_trials.py [--write FILE] [--only WORD ...]

Needs an NVIDIA GPU, TensorRT and the artifacts of a finished `dvc repro`.  Every trial is a build and a
run in processes of their own, so that one that dies ends nothing but itself.  Written after each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.errors import WorkerError
from bench.core.files import write_json
from bench.core.params import Params, Variant, load_params
from bench.core.paths import CALIBRATION, ONNX
from bench.graphs.convert import quantize_qdq
from bench.graphs.onnx_files import load_graph, save_graph
from bench.inputs.encoded import load_encoded
from bench.machine.lock import timing_lock
from bench.proof.kernels import arithmetic_shares
from bench.timing.combine import combine
from bench.timing.results import ProcessResult
from bench.workers.jobs import make_job
from bench.workers.launcher import run_worker
from bench.workers.protocol import Job

BATCH_SIZES = [1, 16]
LONGEST_SECONDS = 180.0
LONGEST_KERNELS = 5


@dataclass(frozen=True)
class Trial:
    """One way to ask for INT8."""

    graph: str
    fp16: bool
    optimization_level: int

    @property
    def name(self) -> str:
        """What the trial is called on the terminal and in the file."""
        flags = "int8 and fp16 flags" if self.fp16 else "int8 flag"
        return f"{self.graph}, {flags}, optimization level {self.optimization_level}"


TRIALS = [
    Trial(graph, fp16, level)
    for level in (3, 0, 2, 5)  # the default first
    for graph in ("all products", "feed-forward only")
    for fp16 in (False, True)
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="words that a trial's name must hold")
    given = parser.parse_args()
    params = load_params().model_copy(update={"batch_sizes": BATCH_SIZES})
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, timing_lock():
        graphs = make_graphs(params, Path(scratch))
        for trial in TRIALS:
            if not all(word in trial.name for word in given.only):
                continue
            results[trial.name] = try_out(params, trial, graphs[trial.graph])
            print(f"{trial.name}: {results[trial.name]}", flush=True)
            if given.write:
                write_json(given.write, results)
    return 0


def make_graphs(params: Params, folder: Path) -> dict[str, Path]:
    """Return the graph of each kind of trial; that of the feed-forward products alone is made here."""
    target = folder / "feed_forward.onnx"
    source = ONNX / "fp32.onnx"
    sentences = load_encoded(CALIBRATION).first(params.int8.calibration_sentences)
    save_graph(quantize_qdq(source, sentences, feed_forward_products(source)), target)
    return {
        "all products": ONNX / "int8_qdq.onnx",
        "feed-forward only": target,
    }


def feed_forward_products(graph: Path) -> list[str]:
    """Return the names of the products whose weight is not square: widening and narrowing, four times in BERT."""
    model = load_graph(graph).graph
    shapes = {weight.name: tuple(weight.dims) for weight in model.initializer}
    widest = max(max(shape) for node in model.node if (shape := matrix(node, shapes)))
    return [node.name for node in model.node if (shape := matrix(node, shapes)) and widest in shape]


def matrix(node: Any, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of a MatMul's constant weight, empty if it has none or is no MatMul."""
    return shapes.get(node.input[1], ()) if node.op_type == "MatMul" else ()


def try_out(params: Params, trial: Trial, graph: Path) -> dict[str, Any]:
    """Build an engine and run it; return what came of it, or the last words of the process that died."""
    params = params.model_copy(
        update={"tensorrt": params.tensorrt.model_copy(update={"optimization_level": trial.optimization_level})}
    )
    options: dict[str, str | bool | int] = {"fp16_by": "flag"} if trial.fp16 else {}
    variant = Variant(runtime="tensorrt", device="cuda", precision="int8", graph="onnx/int8_qdq.onnx", options=options)
    with tempfile.TemporaryDirectory() as scratch:
        engine = Path(scratch) / "engine"
        engine.mkdir()
        job = make_job("trial", variant, params, process=0, measure_accuracy=False, profile=True, engine=engine)
        job = replace(job, graph=str(graph))
        began = time.perf_counter()
        built = attempt(job, Path(scratch), "bench.engines.build_worker")
        if built["status"] != "built":
            return {"built": False, "words": built["reason"]}
        build = {"built": True, "build_seconds": time.perf_counter() - began}
        result = attempt(job, Path(scratch), "bench.timing.worker")
    if result["status"] != "measured":
        return {**build, "ran": False, "words": result["reason"]}
    report = combine(variant, params, [ProcessResult(**result)], is_real=False)
    return {**build, "ran": True, **figures(report.as_dict()["cells"])}


def attempt(job: Job, scratch: Path, module: str) -> dict[str, Any]:
    """Return a worker's result; for one that died, `died` with its last words as the reason."""
    try:
        return run_worker(job, scratch, LONGEST_SECONDS, lambda _event: None, module=module)
    except WorkerError as problem:
        return {"status": "died", "reason": str(problem)}


def figures(cells: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what decides whether the engine is INT8, and what it gains."""
    first = next(iter(cells.values()))
    kernels = first.get("profile", {}).get("kernels", {})
    return {
        "status": first["status"],
        "reason": first.get("reason", ""),
        "p50_ms": {size: cell.get("p50_ms") for size, cell in cells.items()},
        "relative_error": first.get("relative_error"),
        "agreement": first.get("agreement"),
        "arithmetic_shares": arithmetic_shares(kernels),
        "kernels": dict(list(kernels.items())[:LONGEST_KERNELS]),
    }


if __name__ == "__main__":
    sys.exit(main())
