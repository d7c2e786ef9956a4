"""Make one graph of lower precision from the fp32 graph: artifacts/onnx/NAME.onnx, metrics/convert/NAME.json."""

import sys
import time
from typing import Any

import _project  # noqa: F401

from bench.core.errors import BenchError, run_stage
from bench.core.files import replacing_file, shortened, write_json
from bench.core.params import load_params
from bench.core.paths import CALIBRATION, CONVERSIONS, ONNX
from bench.core.progress import log
from bench.core.schemas import read_machine_id
from bench.core.staleness import UNUSED, is_required, write_not_made
from bench.graphs.convert import attention_of, check_recipe, convert
from bench.graphs.onnx_files import check_loads, load_graph, save_graph
from bench.inputs.encoded import load_encoded


def main() -> None:
    recipe = sys.argv[1]
    check_recipe(recipe)
    params = load_params()
    record: dict[str, Any] = {"machine": read_machine_id(), "made_with": params.made_with("convert_onnx")}
    if is_required(recipe):
        record |= make(recipe, params.int8.calibration_sentences)
    else:
        record |= not_made(recipe, UNUSED)
    write_json(CONVERSIONS / f"{recipe}.json", record)


def make(recipe: str, sentences: int) -> dict[str, Any]:
    """Make the graph and return how long that took, and what it holds; or why it cannot be made."""
    calibration = load_encoded(CALIBRATION).first(sentences)
    source, target = ONNX / "fp32.onnx", ONNX / f"{recipe}.onnx"
    load_graph(source)  # a damaged one is no fault of the converter
    began = time.perf_counter()
    try:
        model = convert(recipe, source, calibration)
        with replacing_file(target) as made:
            save_graph(model, made)
            seconds = time.perf_counter() - began
            check_loads(made)
    except (BenchError, OSError, MemoryError):
        raise
    except ModuleNotFoundError as problem:
        advice = f"install it, then `dvc repro -f convert_onnx@{recipe}` and `dvc repro`"
        return not_made(recipe, f"ONNX Runtime's converter needs the package {problem.name}: {advice}")
    except Exception as problem:  # what ONNX Runtime's converters raise on a graph that they do not know
        return not_made(recipe, f"{type(problem).__name__}: {shortened(' '.join(str(problem).split()))}")
    return {"seconds": seconds, **(attention_of(model) if recipe == "fp16_fused" else {})}


def not_made(recipe: str, reason: str) -> dict[str, Any]:
    """Put the reason in the graph's place and return the record."""
    write_not_made(ONNX / f"{recipe}.onnx", reason)
    log(f"  {recipe}: not made: {reason}")
    return {"not_made": reason}


if __name__ == "__main__":
    run_stage(main)
