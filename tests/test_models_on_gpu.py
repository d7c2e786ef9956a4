"""The supported kinds through CUDA: every row gives the model's own logits, or is rejected with its reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_models import LENGTH, Made, MadeModels
from test_models import THROUGH_ALL

from bench.core.model_inputs import Padding, reference_spread
from bench.core.params import Variant
from bench.inputs.batches import pad
from bench.inputs.encoded import save_encoded
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import SessionSpec, Unavailable
from bench.timing.evidence import contradiction
from bench.workers.unsupported import status_of

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]  # PyTorch warns while it captures
PATHS: list[tuple[str, Any, str, Padding, dict[str, Any], float]] = [
    ("pytorch", "fp32", "model", "fixed", {}, 1e-3),
    ("pytorch", "fp16", "model", "fixed", {}, 0.06),
    ("pytorch", "fp16", "model", "fixed", {"compile": "reduce-overhead"}, 0.06),
    ("pytorch", "fp16", "model", "longest", {"compile": "reduce-overhead"}, 0.06),
    ("pytorch_varlen", "fp16", "model", "none", {}, 0.06),
    ("pytorch_varlen", "fp16", "model", "none", {"compile": True}, 0.06),
    ("pytorch_varlen", "fp8", "model", "none", {"compile": True}, 1.5),
    ("onnxruntime", "fp32", "fp32.onnx", "fixed", {}, 1e-3),
    ("onnxruntime", "tf32", "fp32.onnx", "fixed", {}, 0.03),
    ("onnxruntime", "fp16", "fp16_fused.onnx", "fixed", {}, 0.06),
    ("onnxruntime", "fp16", "fp16_fused.onnx", "fixed", {"cuda_graph": True}, 0.06),
    ("onnxruntime", "fp16", "fp16_fused.onnx", "longest", {"cuda_graph": True}, 0.06),
]
OF_BASE_SIZE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
}
OF_REAL_SIZE: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-base": ("bert", OF_BASE_SIZE | {"vocab_size": 30522}),
    "roberta-base": ("roberta", OF_BASE_SIZE | {"vocab_size": 50265}),
    "deberta-v3-small": (
        "deberta-v2",
        OF_BASE_SIZE | {"num_hidden_layers": 6, "vocab_size": 128100, "position_buckets": 256},
    ),
    "minilm": ("bert", OF_BASE_SIZE | {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}),
}


def outcome(made: Made, row: tuple[str, Any, str, Padding, dict[str, Any], float]) -> str:
    """Return `right`, or why the row is rejected; wrong logits fail the test."""
    runtime, precision, graph, padding, options, tolerance = row
    calibration = made.folder / "calibration.npz"
    save_encoded(calibration, made.encoded)
    spec = SessionSpec(
        "cuda", precision, made.graph(graph), options, [1, 3], LENGTH, 4, padding,
        calibration=calibration, calibration_sentences=len(made.encoded),
    )  # fmt: skip
    try:
        session = import_runtime(runtime).open_session(spec)
        errors = []
        for size in (1, 3):
            rows = np.arange(len(made.encoded))[-size:]
            for _ in range(3):
                logits = session.run(pad(made.encoded, rows, padding, 8))
            errors.append(np.abs(logits - made.wanted[rows]).max())
        evidence = session.evidence()
    except Unavailable as problem:
        return f"skipped: {problem}"
    except Exception as problem:
        found = status_of(problem)
        if found is None or found["status"] != "rejected":
            raise
        return f"rejected: {found['reason']}"
    variant = Variant(runtime=runtime, device="cuda", precision=precision, graph="model")
    contradicted = contradiction(variant, evidence)
    error = float(np.max(errors) / reference_spread(made.wanted))
    assert contradicted or error < tolerance, (runtime, precision, padding, options, error)
    elsewhere = evidence.operators_elsewhere
    beside = f", on the CPU: {elsewhere}" if elsewhere else ""
    return f"rejected: {contradicted}" if contradicted else f"right, error {error:.2g}{beside}"


def check(made: Made, record_property: Any) -> None:
    for row in PATHS:
        runtime, precision, _graph, padding, options, _tolerance = row
        record_property(f"{runtime} {precision} {padding} {' '.join(options)}".strip(), outcome(made, row))


@pytest.mark.parametrize("kind", THROUGH_ALL)
def test_every_cuda_row_gives_the_models_own_logits_or_says_why_not(
    kind: str, made: MadeModels, record_property: Any
) -> None:
    check(made(kind), record_property)


@pytest.mark.parametrize("name", OF_REAL_SIZE)
def test_models_of_real_size_go_through_cuda(name: str, made: MadeModels, record_property: Any) -> None:
    kind, sizes = OF_REAL_SIZE[name]
    check(made(kind, **sizes), record_property)
