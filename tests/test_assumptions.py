"""The notes' verdicts on common assumptions flip with the data of unlike machines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report import row, table

from bench.report.notes.assumptions import assumption_lines
from bench.summary.panels import Sessions, with_controls, with_levels


def verdict_on(rows: pd.DataFrame, claim: str) -> str:
    return next(line for line in assumption_lines(rows) if claim in line)


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
    assert "upheld here in all 2 comparisons" in verdict_on(gpu((0.35, 0.40)), "TensorRT always wins")
    lost = verdict_on(gpu((0.60, 0.70)), "TensorRT always wins")
    assert "refuted here by 2 of 2 comparisons" in lost
    assert "`ort_tensorrt_fp16` against `ort_cuda_fp16`, batch 1: 0.77× (0.76× – 0.77×), slower" in lost
    assert "not tested here" in verdict_on(cpu((25.0, 90.0)), "TensorRT always wins")


def test_a_tie_refutes_always() -> None:
    assert "refuted here by 1 of 2 comparisons" in verdict_on(gpu((0.46, 0.40)), "TensorRT always wins")


def test_a_tie_that_only_the_noise_floor_makes_refutes_nothing() -> None:
    rows = gpu((0.46, 0.40))
    rows["noise_floor"], rows["margin"] = 0.05, 0.05
    noisy = verdict_on(rows, "TensorRT always wins")
    assert "undecided here: 1 of 2 comparisons are inconclusive" in noisy
    assert "tie within the noise floor" in noisy


def test_wide_processes_leave_it_undecided() -> None:
    undecided = verdict_on(gpu((0.45, 0.52), spread=0.2), "TensorRT always wins")
    assert "undecided here: 2 of 2 comparisons are inconclusive" in undecided


@pytest.mark.parametrize(
    ("int8_ms", "expected"),
    [
        ((25.0, 100.0), "upheld here"),
        ((60.0, 100.0), "refuted here by 1 of 2"),
        ((60.0, 250.0), "refuted here by 2 of 2"),
    ],
)
def test_int8_is_judged_by_its_own_runtimes_fp32(int8_ms: tuple[float, float], expected: str) -> None:
    assert expected in verdict_on(cpu(int8_ms), "INT8 is always faster")


@pytest.mark.parametrize(
    ("int8_ms", "expected"),
    [((60.0, 100.0), "upheld here"), ((25.0, 100.0), "refuted here"), ((60.0, 250.0), "refuted here")],
)
def test_cpu_int8_needs_both_halves_of_the_claim(int8_ms: tuple[float, float], expected: str) -> None:
    assert expected in verdict_on(cpu(int8_ms), "INT8 on the CPU is slower at batch 1")


def test_cpu_int8_is_undecided_where_processes_differ() -> None:
    assert "undecided here" in verdict_on(cpu((50.0, 200.0), spread=0.2), "INT8 on the CPU is slower at batch 1")


def test_a_larger_batch_that_gains_nothing_is_named() -> None:
    rising, falling = cpu((25.0, 90.0), (50.0, 180.0)), cpu((25.0, 120.0), (50.0, 180.0))
    assert "upheld here in all 2" in verdict_on(rising, "larger batch")
    assert "`ort_cpu_int8` from batch 1 to 4: 0.83×" in verdict_on(falling, "larger batch")


def test_precision_is_weighed_against_the_runtime() -> None:
    by_precision = table(*cells("ort_cpu_int8", 20.0), *cells("ort_cpu_fp32", 60.0), *cells("torch_cpu_fp32", 66.0))
    by_runtime = table(*cells("ort_cpu_int8", 50.0), *cells("ort_cpu_fp32", 60.0), *cells("torch_cpu_fp32", 180.0))
    assert "upheld here; largest factor" in verdict_on(by_precision, "Precision matters")
    assert "refuted here; largest factor" in verdict_on(by_runtime, "Precision matters")
    assert "cpu batch 1 1.20× against 3.00×" in verdict_on(by_runtime, "Precision matters")


def test_a_call_that_waits_for_the_host_is_given_as_the_cause() -> None:
    rows = table(*cells("torch_cuda_fp16", 4.6, gpu_busy_ms=0.36, bound="host-bound"), *cells("torch_cuda_fp32", 4.4))
    found = verdict_on(rows, "FP16 is always faster")
    assert "refuted here" in found
    assert "host-bound, the GPU works 0.360 of its 4.600 ms" in found


def test_rejected_rows_prove_nothing() -> None:
    rows = cpu((25.0, 100.0))
    rows["status"] = "rejected"
    assert all("not tested here" in line for line in assumption_lines(rows))


EQUAL = ("torch_cpu_fp32", "torch_cpu_int8", "ort_cpu_fp32", "ort_cpu_int8", "ov_cpu_fp32", "ov_cpu_int8")


def world(rng: np.random.Generator) -> pd.DataFrame:
    """Return the table of a run of equal rows at batch 1 and 4: processes that shift by 3%, in four rounds."""
    cells_of_run = []
    for size in (1, 4):
        for variant in EQUAL:
            medians = 10.0 * np.exp(0.03 * rng.standard_normal(4))
            texts = {"process_mean_ms": " ".join(map(str, size * medians)), "session": "1", "rounds": "0 1 2 3"}
            more = texts | {"runtime": variant.split("_")[0], "mean_ms": size * float(np.exp(np.log(medians).mean()))}
            cells_of_run.append(row(variant, size, tuple(size * medians), **more))
            cells_of_run[-1]["p50_ms"] = more["mean_ms"]
    leveled = with_levels(table(*cells_of_run), Sessions())
    return with_controls(leveled, Sessions(), {"cpu": "torch_cpu_fp32"}, 0.02)


def test_equal_rows_uphold_and_refute_nothing_in_nearly_every_run() -> None:
    rng = np.random.default_rng(0)
    decided = 0
    for _ in range(40):
        lines = [line for line in assumption_lines(world(rng)) if "here" in line]
        decided += any("refuted here" in line or "upheld here" in line for line in lines)
    assert decided <= 2


@pytest.mark.parametrize(
    ("medians", "told"),
    [
        ((5.0, 5.01, 5.02), "upheld here in the one comparison: "),
        ((20.0, 20.1, 20.2), "refuted here by the one comparison: "),
        ((9.0, 10.0, 12.0), "undecided here: the one comparison is inconclusive: "),
    ],
)
def test_one_comparison_is_called_one(medians: tuple[float, ...], told: str) -> None:
    lines = list(assumption_lines(table(row("ort_cpu_int8", 1, medians), row("ort_cpu_fp32", 1, (10.0, 10.01, 10.02)))))
    assert told in lines[0]
