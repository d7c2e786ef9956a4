"""The notes' verdicts on common assumptions flip with the data of unlike machines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_blocks import report_of, session_of
from test_report import row, table

from bench.core.params import Variant
from bench.findings.assumptions import claims
from bench.findings.models import Claim
from bench.report.notes import claim, why
from bench.summary.comparisons import with_controls, with_levels


def claimed(rows: pd.DataFrame) -> list[Claim]:
    """Return every claim as a run's rows decide it."""
    measured = [row for row in rows.itertuples() if row.status == "measured"]
    return [
        found for device in ("cuda", "cpu") for found in claims(device, [r for r in measured if r.device == device], [])
    ]


def verdict_on(rows: pd.DataFrame, text: str) -> Claim:
    return next(each for each in claimed(rows) if text in each.claim)


def counted(found: Claim) -> tuple[str, int, int]:
    """Return the result, how many comparisons decide it, and how many there were."""
    return found.result, len(found.deciding), found.tested


def cells(variant: str, *latencies_ms: float, spread: float = 0.001, **more: Any) -> list[dict[str, Any]]:
    """Return rows of one variant at batch 1, 4, …: three processes that differ by `spread`."""
    return [
        row(variant, 4**place, (value * (1 - spread), value, value * (1 + spread)), **more)
        for place, value in enumerate(latencies_ms)
    ]


def gpu(tensorrt_ms: tuple[float, float], spread: float = 0.001) -> pd.DataFrame:
    """Return a GPU's rows: TensorRT FP16 against ONNX Runtime CUDA FP16 with fp32 rows beside them."""
    return table(
        *cells("ort_tensorrt_fp16", *tensorrt_ms, spread=spread, runtime="tensorrt"),
        *cells("ort_cuda_fp16", 0.46, 0.54, spread=spread),
        *cells("ort_cuda_fp32", 1.42, 1.89, spread=spread),
    )


def cpu(
    int8_ms: tuple[float, float], fp32_ms: tuple[float, float] = (50.0, 200.0), spread: float = 0.001
) -> pd.DataFrame:
    return table(*cells("ort_cpu_int8", *int8_ms, spread=spread), *cells("ort_cpu_fp32", *fp32_ms, spread=spread))


def test_tensorrt_wins_where_it_wins_and_loses_where_it_loses() -> None:
    assert counted(verdict_on(gpu((0.35, 0.40)), "TensorRT always beats")) == ("upheld", 1, 2)
    lost = verdict_on(gpu((0.60, 0.70)), "TensorRT always beats")
    assert counted(lost) == ("refuted", 2, 2)
    first = lost.deciding[0]
    assert (first.first, first.second, first.first_batch) == ("ort_tensorrt_fp16", "ort_cuda_fp16", 1)
    assert first.comparison.value == pytest.approx(0.46 / 0.6, rel=1e-3)
    assert first.verdict == "slower"
    assert not [each for each in claimed(cpu((25.0, 90.0))) if each.kind == "tensorrt"]


def test_a_tie_refutes_always() -> None:
    assert counted(verdict_on(gpu((0.46, 0.40)), "TensorRT always beats")) == ("refuted", 1, 2)


def test_a_tie_that_only_the_noise_floor_makes_refutes_nothing() -> None:
    rows = gpu((0.46, 0.40))
    rows["noise_floor"], rows["margin"] = 0.05, 0.05
    noisy = verdict_on(rows, "TensorRT always beats")
    assert counted(noisy) == ("undecided", 1, 2)
    assert noisy.deciding[0].comparison.verdict == "tie"
    assert "1.00×" in claim(noisy)


def test_wide_processes_leave_it_undecided() -> None:
    undecided = verdict_on(gpu((0.45, 0.52), spread=0.2), "TensorRT always beats")
    assert counted(undecided) == ("undecided", 2, 2)


@pytest.mark.parametrize(
    ("int8_ms", "expected"),
    [
        ((25.0, 100.0), ("upheld", 1, 2)),
        ((60.0, 100.0), ("refuted", 1, 2)),
        ((60.0, 250.0), ("refuted", 2, 2)),
    ],
)
def test_int8_is_judged_by_its_own_runtimes_fp32(int8_ms: tuple[float, float], expected: tuple[str, int, int]) -> None:
    assert counted(verdict_on(cpu(int8_ms), "INT8 is always faster")) == expected


def test_a_larger_batch_that_gains_nothing_is_named() -> None:
    rising, falling = cpu((25.0, 90.0), (50.0, 180.0)), cpu((25.0, 120.0), (50.0, 180.0))
    assert counted(verdict_on(rising, "larger batch")) == ("upheld", 1, 2)
    [lost] = verdict_on(falling, "larger batch").deciding
    assert (lost.first, lost.second, lost.second_batch, lost.first_batch) == ("ort_cpu_int8", "ort_cpu_int8", 1, 4)
    assert lost.comparison.value == pytest.approx(100 / 120, rel=1e-3)


def test_a_call_that_waits_for_the_host_is_given_as_the_cause() -> None:
    rows = table(*cells("torch_cuda_fp16", 4.6, gpu_busy_ms=0.36, bound="host-bound"), *cells("torch_cuda_fp32", 4.4))
    found = verdict_on(rows, "FP16 is always faster")
    assert found.result == "refuted"
    assert found.traits[0][0].gpu_share == pytest.approx(0.36 / 4.6)
    assert "`torch_cuda_fp16` waits for the host, its GPU busy 7.8% of a call" in why(found)


def test_rejected_rows_prove_nothing() -> None:
    rows = cpu((25.0, 100.0))
    rows["status"] = "rejected"
    assert not claimed(rows)


EQUAL = ("torch_cpu_fp32", "torch_cpu_int8", "ort_cpu_fp32", "ort_cpu_int8", "ov_cpu_fp32", "ov_cpu_int8")


BASELINES = {"cpu": "torch_cpu_fp32"}
SIZES, PASSES = (1, 4), 12


def world(rng: np.random.Generator) -> pd.DataFrame:
    """Return the table of a run of equal rows at batch 1 and 4: two processes each that shift by 3%, in 12 passes."""

    def blocks(size: int) -> dict[int, dict[int, float]]:
        each = 10.0 * size * np.exp(0.03 * rng.standard_normal((2, 1)) + 0.05 * rng.standard_normal((2, PASSES)))
        return {process: dict(enumerate(map(float, own))) for process, own in enumerate(each)}

    session = session_of(range(PASSES), {size: blocks(size) for size in SIZES})
    reports = {variant: report_of({size: blocks(size) for size in SIZES}, session) for variant in EQUAL}
    rows = [
        row(variant, int(size), (cell.p50_ms,), session="1", mean_ms=cell.mean_ms, runtime=variant.split("_")[0])
        for variant, report in reports.items()
        for size, cell in report.measured().items()
    ]
    runtimes = {"torch": "pytorch", "ort": "onnxruntime", "ov": "openvino"}
    variants = {
        key: Variant(runtime=runtimes[key.split("_")[0]], device="cpu", precision=key.split("_")[2], graph="model")  # type: ignore[arg-type]
        for key in EQUAL
    }
    report = SimpleNamespace(margin=0.02)
    params: Any = SimpleNamespace(all_variants=lambda: variants, baselines=BASELINES, report=report)
    return with_controls(with_levels(pd.DataFrame(rows), reports, BASELINES), reports, params)


def test_equal_rows_uphold_and_refute_nothing_in_nearly_every_run() -> None:
    rng = np.random.default_rng(0)
    decided = 0
    for _ in range(12):
        decided += any(each.result in ("refuted", "upheld") for each in claimed(world(rng)))
    assert decided <= 1


@pytest.mark.parametrize(
    ("medians", "result"),
    [((5.0, 5.01, 5.02), "upheld"), ((20.0, 20.1, 20.2), "refuted"), ((9.0, 10.0, 12.0), "undecided")],
)
def test_one_comparison_is_called_one(medians: tuple[float, ...], result: str) -> None:
    found = claimed(table(row("ort_cpu_int8", 1, medians), row("ort_cpu_fp32", 1, (10.0, 10.01, 10.02))))[0]
    assert counted(found) == (result, 1, 1)
    said = {"upheld": "holds on the CPU, faster in 1 of 1", "refuted": "is refuted", "undecided": "is open"}[result]
    assert said in claim(found)
