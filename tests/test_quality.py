"""The gate: a row with wrong logits is rejected, however fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.params import Export, Variant, load_params
from bench.core.reports import Evidence, Labels, Work
from bench.graphs.export import allowed_difference
from bench.timing.evidence import contradiction
from bench.timing.quality import agreement_of, compare, gate_verdict
from bench.timing.results import Block, CellResult, ProcessResult, combine

REFERENCE = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
QUALITY = load_params(Path(__file__).parent.parent / "params.yaml").quality


def outputs(logits: Any) -> list[tuple[Any, Any]]:
    return [(np.arange(len(REFERENCE)), logits)]


def verdict(logits: Any, precision: Any = "fp32") -> tuple[dict[str, Any], str]:
    return gate_verdict([compare(outputs(logits), REFERENCE)], QUALITY[precision])


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "fp8", "int8"])
def test_the_references_own_logits_pass_at_every_precision(precision: str) -> None:
    figures, reason = verdict(REFERENCE.copy(), precision)
    assert reason == ""
    assert figures["agreement"] == 1.0


@pytest.mark.parametrize(
    ("met", "wrong", "is_rejected"), [(24, 1, False), (24, 4, True), (100, 6, False), (200, 7, True)]
)
def test_agreement_on_a_few_sentences_rejects_what_is_no_chance(met: int, wrong: int, is_rejected: bool) -> None:
    reference = np.outer(np.linspace(-3, 3, 200), [-1, 1]).astype(np.float32)
    seen = np.argsort(np.abs(reference[:, 1]))[:met]
    row = reference.copy()
    row[seen[:wrong]] *= -1
    reason = gate_verdict([compare([(seen, row[seen])], reference)], QUALITY["bf16"])[1]
    assert bool(reason) == is_rejected
    assert not reason or reason.startswith("agreement")


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "fp8", "int8"])
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


@pytest.mark.parametrize(
    ("labelled", "is_taken", "lost", "status"),
    [(872, True, 0, "measured"), (128, False, 0, "measured"), (128, False, 20, "rejected")],
    ids=["all sentences", "those of its blocks", "too many of these lost"],
)
def test_labels_that_blocks_met_are_judged_and_are_no_accuracy(
    labelled: int, is_taken: bool, lost: int, status: str
) -> None:
    params = load_params()
    params = params.model_copy(update={"batch_sizes": [1]})
    counts = Labels(labelled=labelled, right=100 - lost, reference_right=100, only_reference=lost, only_row=0)
    same = compare(outputs(REFERENCE.copy()), REFERENCE)
    work = Work(given_tokens=[1], given_pairs=[1], computed_tokens=[1], computed_pairs=[1])
    process = ProcessResult(
        status="measured",
        cells={1: CellResult(status="measured", work=work, comparison=same)},
        evidence=Evidence(device=["cpu"], product_weights={"float32": 10}),
        accuracy=counts,
        is_accuracy_taken=is_taken,
    )
    blocks = {1: [Block(0, 0, [1_000_000])]}
    report = combine(variant("pytorch", "cpu", "fp32"), params, blocks, [process], True)
    assert report.accuracy == (counts if is_taken else None)
    assert report.cells["1"].status == status
    reason = "accuracy is 15.62% of 128 sentences below fp32's, allowed: 0.50%"
    assert report.cells["1"].reason == (reason if lost else "")


def test_a_label_that_flips_counts_against_agreement() -> None:
    flipped = REFERENCE.copy()
    flipped[:20] = flipped[:20, ::-1]
    comparison = compare(outputs(flipped), REFERENCE)
    assert comparison.agreeing == 20
    assert agreement_of(comparison) == 0.5


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


TWO = np.random.default_rng(1).normal([0, 20], size=(60, 2)).astype(np.float32)


@pytest.mark.parametrize(
    "logits",
    [
        np.tile(TWO.mean(axis=0), (60, 1)),
        TWO[np.random.default_rng(2).permutation(60)],
        np.stack([TWO[:, 0], np.roll(TWO[:, 1], 1)], axis=1),
    ],
)
def test_a_regression_is_judged_output_by_output(logits: Any) -> None:
    assert of_task("regression", TWO, TWO) == pytest.approx(1)
    assert of_task("regression", logits.astype(np.float32), TWO) < 0.5


@pytest.mark.parametrize("change", [lambda small: small + 5, lambda small: small * 3, lambda small: 1.1 * small])
def test_an_output_of_small_numbers_is_judged_by_its_own_spread(change: Any) -> None:
    wanted = np.random.default_rng(4).normal([0, 0], [1, 1000], size=(200, 2)).astype(np.float32)
    row = wanted.copy()
    row[:, 0] = change(row[:, 0])
    assert (
        "relative error" in gate_verdict([compare([(np.arange(200), row)], wanted, "regression")], QUALITY["fp16"])[1]
    )


@pytest.mark.parametrize(("rows", "value"), [(9, -0.02), (200, 0.02)])
def test_a_rare_label_of_small_logits_that_moves_rejects_a_row(rows: int, value: float) -> None:
    wanted = rare(60, 10) * np.where(np.arange(60) < 59, 3, 0.02).astype(np.float32)
    row = wanted.copy()
    row[:rows, -1] = value
    found = gate_verdict([compare([(np.arange(200), row)], wanted, "multi_label")], QUALITY["int8"])
    assert "the label 59 is given to" in found[1]


@pytest.mark.parametrize("masked", [-1e4, -1e9])
def test_a_masked_label_hides_no_error_of_the_others_and_is_none_by_its_rounding(masked: float) -> None:
    wanted = np.random.default_rng(5).normal(0, 0.6, size=(100, 3)).astype(np.float32)
    wanted[:, 2] = masked
    off = wanted + np.array([0.3, 0, 0], dtype=np.float32)
    rounded = wanted * np.array([1, 1, 1 + 1e-7], dtype=np.float32)
    verdicts = [gate_verdict([compare([(np.arange(100), row)], wanted)], QUALITY["fp32"])[1] for row in (off, rounded)]
    assert "relative error" in verdicts[0]
    assert not verdicts[1]


def of_task(task: Any, logits: Any, reference: Any) -> float:
    return agreement_of(compare([(np.arange(len(reference)), logits)], reference, task))


def test_a_constant_output_of_the_reference_says_nothing() -> None:
    wanted = np.stack([TWO[:, 0], np.full(60, 7)], axis=1).astype(np.float32)
    assert of_task("regression", wanted, wanted) == pytest.approx(1)
    assert of_task("regression", TWO[:1], TWO[:1]) == 1


def rare(labels: int, given: int) -> Any:
    """Return logits of 200 sentences; the last label is given to so many."""
    logits = np.where(np.random.default_rng(3).random((200, labels)) < 0.5, 1, -1).astype(np.float32)
    logits[:, -1] = np.where(np.arange(200) < given, 1, -1)
    return logits


def test_a_row_that_gives_no_label_disagrees_although_labels_are_rare() -> None:
    wanted = np.full((200, 50), -1, dtype=np.float32)
    wanted[np.arange(200), np.arange(200) % 50] = 1
    assert of_task("multi_label", np.full_like(wanted, -1), wanted) == 0
    assert of_task("multi_label", wanted * 3, wanted) == 1


@pytest.mark.parametrize(("given", "is_rejected"), [(8, True), (2, False)])
def test_a_rare_label_that_is_lost_rejects_a_row(given: int, is_rejected: bool) -> None:
    wanted = rare(60, given)
    lost = wanted.copy()
    lost[:, -1] = -1
    comparison = compare([(np.arange(200), lost)], wanted, "multi_label")
    _, reason = gate_verdict([comparison], QUALITY["int8"])
    assert bool(reason) == is_rejected
    assert not is_rejected or reason == "the label 59 is given to no sentence, by the reference to about 8 of 200"


def test_a_rare_class_that_is_lost_rejects_a_row() -> None:
    wanted = np.eye(3, dtype=np.float32)[np.arange(200) % 2]
    wanted[:9] = [0.1, 0.1, 0.2]
    lost = wanted.copy()
    lost[:9, 2] = 0
    comparison = compare([(np.arange(200), lost)], wanted)
    assert "label 2" in gate_verdict([comparison], QUALITY["int8"])[1]


@pytest.mark.parametrize("reference", [REFERENCE[:1], np.zeros((3, 1), np.float32), np.full((3, 2), 4, np.float32)])
@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_figures_are_finite_where_logits_have_no_spread(task: Any, reference: Any) -> None:
    comparison = compare([(np.arange(len(reference)), reference)], reference, task)
    figures, reason = gate_verdict([comparison], QUALITY["fp32"])
    assert reason == ""
    assert np.isfinite(list(figures.values())).all()


@pytest.mark.parametrize(
    ("reference", "off", "is_allowed"),
    [
        (np.linspace(-8800, 4000, 50), 0.00171, True),
        (np.linspace(-8800, 4000, 50), 20, False),
        (np.linspace(-0.001, 0.001, 50), 1e-5, False),
        (np.linspace(19.99, 20.01, 50), 2e-6, True),
    ],
)
def test_exports_limit_is_relative_to_what_the_model_gives(reference: Any, off: float, is_allowed: bool) -> None:
    allowed = allowed_difference(reference.astype(np.float32)[:, None], Export(opset="auto", max_abs_diff=1e-4))
    assert (off <= allowed[0]) == is_allowed


@pytest.mark.parametrize("constant", [-1e4, -1e9, -1e38])
def test_a_label_masked_by_a_large_constant_loosens_no_limit_of_the_others(constant: float) -> None:
    settings = Export(opset="auto", max_abs_diff=1e-4)
    masked = np.column_stack([REFERENCE, np.full(len(REFERENCE), constant, np.float32)])
    assert allowed_difference(masked, settings)[:-1] == pytest.approx(allowed_difference(REFERENCE, settings))
