"""Export the classifier to ONNX and check it against PyTorch: artifacts/onnx/fp32.onnx, metrics/export.json."""

import time
from dataclasses import asdict

import _project  # noqa: F401
import numpy as np

from bench.classifier.model import load_classifier
from bench.classifier.workload import Workload, counted_flops
from bench.core.errors import run_stage
from bench.core.files import replacing_file, write_json
from bench.core.params import load_params
from bench.core.paths import EVALUATION, EXPORT, MODEL, ONNX
from bench.core.progress import log
from bench.core.schemas import read_machine_id
from bench.graphs.export import PARITY_BATCHES, export_checked
from bench.inputs.encoded import load_encoded, load_reference


def main() -> None:
    params = load_params()
    classifier = load_classifier(MODEL)
    evaluation, reference = load_encoded(EVALUATION), load_reference(EVALUATION)
    log(f"exporting to ONNX, opset {params.export.opset}")
    began = time.perf_counter()
    with replacing_file(ONNX / "fp32.onnx") as checked:
        made = export_checked(classifier, evaluation, reference, params.export, checked)
    seconds = time.perf_counter() - began
    log(f"made with {made.form}, opset {made.opset}")
    log(f"largest logit difference to PyTorch: {made.largest_difference:.2e} at batches {PARITY_BATCHES}")
    counted = counted_flops(classifier, evaluation.rows(np.arange(1)))
    workload = Workload.of(classifier.config, params.sequence_length, counted)
    write_json(
        EXPORT,
        {
            "opset": made.opset,
            "form": str(made.form),
            "takes_any_length": made.takes_any_length,
            "nodes": len(made.graph.graph.node),
            "seconds": seconds,
            "machine": read_machine_id(),
            "made_with": params.made_with("export_onnx"),
            "workload": asdict(workload) if workload else None,
            "parity_max_abs_diff": made.largest_difference,
            "parity_batches": list(PARITY_BATCHES),
        },
    )


if __name__ == "__main__":
    run_stage(main)
