"""Export the classifier to ONNX and check it against PyTorch: artifacts/onnx/fp32.onnx, metrics/export.json."""

from __future__ import annotations

import time

import _project  # noqa: F401

from bench.classifier.model import exportable, load_classifier
from bench.classifier.workload import Workload
from bench.core.errors import run_stage
from bench.core.files import replacing_file, write_json
from bench.core.params import load_params
from bench.core.paths import EVALUATION, EXPORT, MODEL, ONNX
from bench.core.progress import say
from bench.core.provenance import read_machine_id
from bench.graphs.export import PARITY_BATCHES, export_graph, parity
from bench.graphs.onnx_files import save_graph
from bench.inputs.encoded import load_encoded


def main() -> None:
    params = load_params()
    classifier = load_classifier(MODEL)
    model = exportable(classifier)
    evaluation = load_encoded(EVALUATION)
    say(f"exporting to ONNX, opset {params.export.opset}")
    began = time.perf_counter()
    graph = export_graph(model, evaluation, params.export.opset)
    with replacing_file(ONNX / "fp32.onnx") as checked:
        save_graph(graph, checked)
        seconds = time.perf_counter() - began
        largest = parity(model, checked, evaluation, params.export.max_abs_diff)
    say(f"largest logit difference to PyTorch: {largest:.2e} at batches {PARITY_BATCHES}")
    write_json(
        EXPORT,
        {
            "opset": params.export.opset,
            "nodes": len(graph.graph.node),
            "seconds": seconds,
            "machine": read_machine_id(),
            "workload": Workload.of(classifier.config, params.sequence_length).as_dict(),
            "parity_max_abs_diff": largest,
            "parity_batches": list(PARITY_BATCHES),
        },
    )


if __name__ == "__main__":
    run_stage(main)
