"""Make one graph of lower precision from the fp32 graph: artifacts/onnx/NAME.onnx, metrics/convert/NAME.json."""

from __future__ import annotations

import sys
import time

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import write_json
from bench.core.params import load_params
from bench.core.paths import CALIBRATION, CONVERSIONS, MODEL, ONNX
from bench.core.provenance import read_machine_id
from bench.graphs.convert import check_recipe, convert
from bench.graphs.onnx_files import save_graph
from bench.inputs.encoded import load_encoded


def main() -> None:
    recipe = sys.argv[1]
    check_recipe(recipe)
    params = load_params()
    sentences = load_encoded(CALIBRATION).first(params.int8.calibration_sentences)
    began = time.perf_counter()
    model = convert(recipe, ONNX / "fp32.onnx", MODEL, sentences)
    save_graph(model, ONNX / f"{recipe}.onnx")
    write_json(CONVERSIONS / f"{recipe}.json", {"seconds": time.perf_counter() - began, "machine": read_machine_id()})


if __name__ == "__main__":
    run_stage(main)
