"""The gate: a row with wrong logits is rejected, however fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.params import Variant, load_params
from bench.core.reports import Evidence
from bench.timing.evidence import contradiction
from bench.timing.quality import agreement_of, compare, gate_verdict, reference_spread

REFERENCE = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
QUALITY = load_params(Path(__file__).parent.parent / "params.yaml").quality


def outputs(logits: Any) -> list[tuple[Any, Any]]:
    return [(np.arange(len(REFERENCE)), logits)]


def verdict(logits: Any, precision: Any = "fp32") -> tuple[dict[str, Any], str]:
    return gate_verdict([compare(outputs(logits), REFERENCE)], reference_spread(REFERENCE), QUALITY[precision])


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "int8"])
def test_the_references_own_logits_pass_at_every_precision(precision: str) -> None:
    figures, reason = verdict(REFERENCE.copy(), precision)
    assert reason == ""
    assert figures["agreement"] == 1.0


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "int8"])
def test_logits_of_other_sentences_are_rejected_at_every_precision(precision: str) -> None:
    assert verdict(np.roll(REFERENCE, 1, axis=0), precision)[1]


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((0, 2), dtype=np.float32), "the output is empty"),
        (REFERENCE[:5], "shape"),
        (np.full_like(REFERENCE, np.nan), "NaN or infinity"),
    ],
)
def test_a_broken_output_is_rejected_with_its_fault(logits: Any, message: str) -> None:
    assert message in verdict(logits)[1]


def test_a_tf32_sized_error_is_rejected_in_an_fp32_row_and_allowed_in_a_tf32_row() -> None:
    logits = REFERENCE + np.float32(0.002)
    assert "relative error" in verdict(logits, "fp32")[1]
    assert verdict(logits, "tf32")[1] == ""


def test_a_label_that_flips_counts_against_agreement() -> None:
    flipped = REFERENCE.copy()
    flipped[:20] = flipped[:20, ::-1]
    comparison = compare(outputs(flipped), REFERENCE)
    assert comparison.agreeing == 20
    assert agreement_of([comparison]) == 0.5


def variant(runtime: str, device: Any, precision: Any) -> Variant:
    return Variant(runtime=runtime, device=device, precision=precision, graph="model")


def test_a_cuda_row_that_ran_on_the_cpu_is_contradicted() -> None:
    evidence = Evidence(providers=["CPUExecutionProvider"], product_weights={"float16": 10})
    assert "wanted CUDAExecutionProvider, observed CPUExecutionProvider" in contradiction(
        variant("onnxruntime", "cuda", "fp16"), evidence
    )


def test_an_fp16_row_that_got_the_fp32_graph_is_contradicted() -> None:
    evidence = Evidence(providers=["CUDAExecutionProvider"], product_weights={"float": 1000, "float16": 1})
    reason = contradiction(variant("onnxruntime", "cuda", "fp16"), evidence)
    assert reason == "requested fp16, observed float in 100% of the weights of matrix products"


def test_weights_left_on_the_cpu_contradict_a_cuda_row() -> None:
    evidence = Evidence(device=["cpu"], product_weights={"float32": 10})
    assert "observed cpu" in contradiction(variant("pytorch", "cuda", "fp32"), evidence)
