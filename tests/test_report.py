"""The report is made from recorded rows alone, and says what they say."""

from __future__ import annotations

import random
from io import StringIO
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from bench.core.params import ReportSettings
from bench.findings.build import findings_of
from bench.findings.models import Findings, Observation, Panel
from bench.report.columns import COLUMNS, Column, grid
from bench.report.document import plain, to_html, to_markdown
from bench.report.notes import notes_blocks, observation
from bench.report.shown import Context, Shown, shown_of
from bench.report.terminal import fitted
from bench.report.texts import table_blocks
from bench.report.words import (
    MISSING,
    comparison,
    milliseconds,
    per_second,
    percent,
    ratio,
    seconds,
    significance,
    with_interval,
)
from bench.statistics.blocks import Panel as Timed
from bench.summary.comparisons import LEVELS, compare
from bench.summary.serving import COLUMNS as SERVED_COLUMNS
from bench.summary.serving import Tables

ENVIRONMENT: dict[str, Any] = {
    "cpu": {"model": "Test CPU", "cores": 2},
    "cuda": {
        "gpu": "Test GPU",
        "count": 8,
        "memory_mib": 81920,
        "driver": "1.0",
        "cuda": "13.0",
        "cudnn": "91900",
        "compute_capability": "9.0",
    },
    "os": "Linux x86_64",
    "python": "3.11.7",
    "versions": {"torch": "2.13.0", "onnxruntime": "1.31.1", "tensorrt": None},
}


def context(real: bool = False) -> Context:
    provenance = {"model": "a model", "model_is_real": real, "sentences": "some sentences"}
    return Context(ENVIRONMENT, provenance, {"opset": 17, "parity_max_abs_diff": 2e-6}, settings())


def settings(**changes: Any) -> ReportSettings:
    return ReportSettings(**{"margin": 0.02, "slo_p95_ms": [1.0, 20.0], "max_memory_gib": None, **changes})


UNKNOWN = (
    *("options", "reason", "throttling", "other_gpu_processes", "gpu_busy_ms", "unstable", "cut_short", "remark"),
    *("kernel_launches", "bound", "matrix_share", "limit_ms", "limited_by", "limit_share", "energy_mj_per_sample"),
    *("gross_energy_mj_per_sample", "peak_gpu_mib", "break_even_calls", "break_even_cuda_calls"),
    *("session", "aa_ratio", "aa_low", "aa_high", "aa_verdict", "noise_floor", "speedup", "p50_low_ms"),
    *("p50_high_ms", "speedup_low", "speedup_high", "verdict", "verdict_reason", "smallest_difference"),
)
"""Columns that a made-up row leaves empty."""
PASSES = 12
"""Of a made-up row: the medians that it is given come by turns, in an order of its own."""


def row(variant: str, batch: int, medians: tuple[float, ...], **more: Any) -> dict[str, Any]:
    p50 = sorted(medians)[len(medians) // 2] if medians else None
    return {
        **dict.fromkeys(UNKNOWN),
        "variant": variant,
        "runtime": "onnxruntime" if variant.startswith("ort") else "pytorch",
        "device": "cpu" if "cpu" in variant else "cuda",
        "precision": variant.rsplit("_", 1)[-1],
        "padding": "fixed",
        "batch_size": batch,
        "status": "measured",
        "p50_ms": p50,
        "p95_ms": p50,
        "p95_low_ms": p50,
        "p95_high_ms": p50,
        "mean_ms": p50,
        "samples_per_s": batch * 1000 / p50 if p50 else None,
        "blocks_ms": medians,
        "passes": PASSES,
        "agreement": 1.0,
        "proof": "DWK",
        "cold_start_seconds": 1.0,
        "other_load_cores": 0.1,
        "host_loop_min_ms": 1.0,
        "host_loop_max_ms": 1.05,
        "host_ms": p50 - more["gpu_busy_ms"] if more.get("gpu_busy_ms") else None,
        "one_off_seconds": 0.0,
        "peak_host_mib": 600.0,
        "moved": 0.0,
        "voided": False,
        "margin": 0.02,
        "comparisons": 1,
        "baseline": "torch_cpu_fp32" if "cpu" in variant else "torch_cuda_fp32",
        **more,
    }


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return rows with where each stands by its blocks, those of a device and batch size in the same passes."""
    found = pd.DataFrame(list(rows))
    for column in LEVELS:
        found[column] = None
    timed = found[found["blocks_ms"].map(len) > 0]
    for (_, session, _), own in timed.groupby(["device", timed["session"].fillna(""), "batch_size"]):
        levels = Timed([{0: _blocks(each)} for each in own.itertuples()], session=session).levels()
        for index, level in zip(own.index, levels, strict=True):
            for column in LEVELS:
                found.at[index, column] = level
    return found


def _blocks(row: Any) -> dict[int, float]:
    """Return what the blocks of a row gave, by pass."""
    medians = [row.blocks_ms[number % len(row.blocks_ms)] for number in range(int(row.passes))]
    random.Random(f"{row.variant} {row.batch_size}").shuffle(medians)
    return dict(enumerate(medians))


def tables(*rows: dict[str, Any]) -> Tables:
    return Tables(table(*rows), pd.DataFrame(columns=list(SERVED_COLUMNS)), {})


def found(*rows: dict[str, Any], **changes: Any) -> Findings:
    """Return what made-up rows show."""
    return findings_of(tables(*rows), settings(**changes))


def panel(*rows: dict[str, Any], **changes: Any) -> Panel:
    """Return what made-up rows of one device show."""
    [only] = found(*rows, **changes).panels
    return only


def shown(*rows: dict[str, Any], real: bool = False) -> Shown:
    return shown_of(tables(*rows), context(real))


def notes(*rows: dict[str, Any]) -> str:
    return to_markdown(notes_blocks(shown(*rows)))


def results(*rows: dict[str, Any], real: bool = False) -> str:
    return to_markdown(table_blocks(shown(*rows, real=real)))


def test_the_fastest_has_those_beside_it_that_may_be_as_fast() -> None:
    slower = row("torch_cpu_fp32", 1, (10.0, 10.1, 10.2))
    [clear] = panel(row("ort_cpu_fp32", 1, (9.0, 9.1, 9.2)), slower).fastest
    [unclear] = panel(row("ort_cpu_fp32", 1, (8.0, 9.1, 11.5)), slower).fastest
    assert (clear.cell.variant, clear.cell.p50_ms, clear.ties) == ("ort_cpu_fp32", 9.1, [])
    assert [(tie.variant, tie.p50_ms) for tie in unclear.ties] == [("torch_cpu_fp32", 10.1)]
    assert clear.smallest is None
    assert unclear.smallest is not None
    told = f"`torch_cpu_fp32` (10.10 ms): differences below {unclear.smallest:.2f}× cannot be told"
    assert significance(unclear) == f"not significantly faster than {told}"


def test_of_many_ties_the_nearest_are_named_and_the_rest_counted() -> None:
    ties = [row(f"torch_cpu_fp32_{n}", 1, (8.0, 9.5 + n / 10, 11.0)) for n in range(5)]
    rows = row("ort_cpu_fp32", 1, (9.0, 9.1, 9.2)), *ties
    assert len(panel(*rows).fastest[0].ties) == 5
    named = "`torch_cpu_fp32_0` (9.500 ms), `torch_cpu_fp32_1` (9.600 ms), `torch_cpu_fp32_2` (9.700 ms) and 2 more"
    assert named in notes(*rows)
    assert named in results(*rows)


def test_the_verdict_on_int8_flips_with_the_data() -> None:
    fp32 = row("ort_cpu_fp32", 1, (10.0, 10.1))
    [faster] = panel(row("ort_cpu_int8", 1, (5.0, 5.1)), fp32).precisions
    [slower] = panel(row("ort_cpu_int8", 1, (20.0, 20.2)), fp32).precisions
    assert (faster.runtime, faster.precision) == ("onnxruntime", "int8")
    assert faster.by_batch[1].value == pytest.approx(1.99, abs=0.01)
    assert [each.by_batch[1].verdict for each in (faster, slower)] == ["faster", "slower"]


def test_three_passes_are_never_enough_for_a_verdict() -> None:
    rows = list(table(row("a_cpu_fp32", 1, (1.0,), passes=3), row("b_cpu_fp32", 1, (9.0,), passes=3)).itertuples())
    found = compare(rows[0], rows[1])
    assert (found.verdict, found.interval, found.reason) == ("inconclusive", None, "too few passes")


def test_an_inconclusive_verdict_names_the_smallest_difference_that_could_have_been_told() -> None:
    rows = row("ort_cpu_fp32", 1, (8.0, 9.1, 11.5)), row("torch_cpu_fp32", 1, (10.0, 10.1, 10.2))
    found = compare(*table(*rows).itertuples())
    assert found.verdict == "inconclusive"
    assert found.interval is not None
    half = found.interval.high / found.interval.value
    assert found.smallest == pytest.approx(half * 1.02)
    assert comparison(found).endswith(f"inconclusive: differences below {half * 1.02:.2f}× cannot be told")
    sure = compare(*table(row("ort_cpu_fp32", 1, (5.0, 5.1)), rows[1]).itertuples())
    assert comparison(sure).endswith("faster")
    view = {"status": "measured", "verdict": "inconclusive", "smallest_difference": 1.18}
    assert COLUMNS["verdict"].write(view) == "inconclusive"
    assert COLUMNS["remark"].write(view) == "differences below 1.18× cannot be told"
    assert COLUMNS["remark"].write({**view, "verdict": "faster"}) == MISSING
    assert COLUMNS["remark"].write({**view, "verdict_reason": "a jumps"}) == "a jumps"


def test_a_row_that_jumps_says_how_and_has_no_interval() -> None:
    jumping = row("ort_cpu_fp32", 1, (0.3, 0.3, 5.1), unstable="usually 0.300 ms, at worst 5.10 ms")
    steady = row("torch_cpu_fp32", 1, (10.0, 10.1, 10.2))
    rows = list(table(jumping, steady).itertuples())
    found = compare(*rows)
    assert (found.verdict, found.interval, found.reason) == ("inconclusive", None, "`ort_cpu_fp32` jumps")
    view, _ = shown(jumping, steady).timed(panel(jumping, steady))
    assert COLUMNS["p50"].write(view) == "0.300"
    assert COLUMNS["remark"].write(view) == "unstable: usually 0.300 ms, at worst 5.10 ms"


def test_a_row_that_did_not_run_alone_has_dashes() -> None:
    alone = row("torch_cuda_fp32", 1, (4.0, 4.1), peak_gpu_mib=812.0, gross_energy_mj_per_sample=41.5)
    beside = row("ort_cuda_fp16", 1, (0.3, 0.31), peak_host_mib=None, cold_start_seconds=None)
    seen = shown(alone, beside)
    [first, second] = seen.timed(panel(alone, beside))
    assert (first["variant"], second["variant"]) == ("ort_cuda_fp16", "torch_cuda_fp32")
    for key in ("memory", "energy", "start_up", "bottleneck"):
        assert COLUMNS[key].write(first) == MISSING
    assert COLUMNS["memory"].write(second) == "812 MiB"


def test_a_run_that_was_cut_short_says_so_once() -> None:
    rows = [row("ort_cpu_fp32", size, (1.0, 1.1), cut_short="cut short by Ctrl-C") for size in (1, 4)]
    told = "The timing was cut short by Ctrl-C: what is undecided might have been decided."
    assert notes(*rows).count(told) == results(*rows).count(told) == 1


def test_a_larger_batch_that_loses_throughput_is_found() -> None:
    first = row("ort_cpu_int8", 1, (10.0, 10.1))
    falling = row("ort_cpu_int8", 4, (60.0, 61.0))
    before, after = table(first, falling).itertuples()
    assert compare(after, before, "throughput").verdict == "slower"


def test_the_fastest_is_named_with_what_it_gains_and_how_sure_that_is() -> None:
    best, slow = row("ort_cuda_fp16", 1, (0.29, 0.30, 0.31)), row("torch_cuda_fp32", 1, (4.0, 4.1, 4.2))
    assert "`ort_cuda_fp16` has the lowest p50: yes, against every other row." in results(best, slow)
    unsure = results(best, row("torch_cuda_fp32", 1, (0.29, 0.31, 0.33)))
    assert "not significantly faster than `torch_cuda_fp32`" in unsure
    assert "the only row" in results(best)


def test_five_rows_are_shown_at_a_batch_size_and_the_slower_ones_counted() -> None:
    rows = [row(f"ort_cpu_fp32_{n}", 1, (10.0 + n, 10.1 + n)) for n in range(7)]
    text = results(*rows)
    assert text.partition("### Batch 1")[2].count("| 1 | `ort_cpu_fp32_") == 5
    assert "2 slower rows: `summary.csv`." in text
    assert all(line.count("|") <= 10 for line in text.splitlines())


def test_what_disturbs_most_cells_is_said_once_with_what_to_try() -> None:
    restless = [row(f"ort_cpu_fp32_{n}", 1, (10.0 + n, 10.1 + n), host_loop_max_ms=1.6 + n / 10) for n in range(3)]
    told = "Warning, 3 of 4 cells: clock unstable (1.80×) at worst. Try: "
    rows = [*restless, row("torch_cpu_fp32", 1, (20.0, 20.1))]
    assert results(*rows).count("clock unstable") == results(*rows).count(told) == 1
    assert told in notes(*rows)
    assert "clock unstable (1.60×)" in results(restless[0], *(row(f"torch_{n}_cpu_fp32", 1, (9.0,)) for n in "ab"))


def test_a_rejected_row_keeps_its_figures_or_its_reason() -> None:
    rows = (
        row("ort_cuda_fp16", 1, (0.4, 0.401)),
        row("ort_tensorrt_int8", 1, (), status="rejected", reason="TensorRT 8.6.1 built no INT8 engine: its words"),
        row("ort_tensorrt_fp16", 1, (0.299, 0.3, 0.301), status="rejected", reason="wanted fp16, observed tf32"),
    )
    seen = panel(*rows)
    [without] = seen.not_timed
    assert (without.status, without.variants) == ("rejected", {"ort_tensorrt_int8": []})
    assert without.reason.endswith("built no INT8 engine: its words")
    [timed] = seen.rejected
    assert (timed.reason, timed.variants) == ("wanted fp16, observed tf32", {"ort_tensorrt_fp16": []})
    assert "| 1 | `ort_tensorrt_int8` |" not in results(*rows)
    assert "rejected (wanted fp16, observed tf32): `ort_tensorrt_fp16`" in results(*rows)


def observed(kind: str, *rows: dict[str, Any]) -> tuple[Observation, str]:
    """Return the finding of a kind as data and as the notes write it."""
    seen = found(*rows)
    [only] = [each for each in seen.observations if each.kind == kind]
    return only, " ".join(observation(only, seen))


@pytest.mark.parametrize(
    ("tensorrt_ms", "says", "advice"),
    [(0.2, "holds", "build engines"), (0.4, "is refuted", "stay with the other row")],
)
def test_tensorrt_is_compared_with_the_fastest_cuda_row_and_why_is_said(
    tensorrt_ms: float, says: str, advice: str
) -> None:
    seen, text = observed(
        "tensorrt",
        row("ort_tensorrt_fp16", 1, (tensorrt_ms,) * 2, runtime="tensorrt", kernel_launches=50, gpu_busy_ms=0.15),
        row("ort_cuda_fp16", 1, (0.3, 0.3), kernel_launches=83, gpu_busy_ms=0.25),
        row("ort_cuda_fp32", 1, (1.0, 1.0)),
    )
    assert seen.claim
    [pair] = seen.claim.shown
    assert (pair.first, pair.second, pair.first_batch) == ("ort_tensorrt_fp16", "ort_cuda_fp16", 1)
    assert pair.comparison.value == pytest.approx(0.3 / tensorrt_ms)
    assert f"“TensorRT always beats the CUDA provider” {says}" in text
    assert "50 kernel launches, not 83" in text
    assert advice in text
    assert ("waits for the host, its GPU busy 37%" in text) is (tensorrt_ms > 0.3)


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(
    ("int8_ms", "gemms", "limit", "texts"),
    [
        (25.0, 0.9, "memory", ("holds", "allow 4.00×, weight traffic is", "90% of its time", "Do: serve in INT8")),
        (200.0, 0.4, "compute", ("is refuted", "GEMM throughput is", "60% goes into operators", "Do: keep FP32")),
    ],
)
def test_why_int8_helps_or_hurts_comes_of_roofline_and_profile(
    batch: int, int8_ms: float, gemms: float, limit: str, texts: tuple[str, ...]
) -> None:
    int8 = {"limit_ms": 5.0, "limit_share": 5 / int8_ms, "limited_by": limit, "matrix_share": gemms}
    _, text = observed(
        "precision",
        row("ort_cpu_int8", batch, (int8_ms, int8_ms + 0.1), **int8),
        row("ort_cpu_fp32", batch, (100.0, 100.1), limit_ms=20.0, limit_share=0.2, limited_by="compute"),
    )
    for each in (*texts, f"batch {batch}"):
        assert each in text


def test_an_fp16_row_that_waits_for_the_host_gains_nothing_and_the_notes_say_why() -> None:
    rows = (
        row("torch_cuda_fp16", 1, (4.4, 4.41), gpu_busy_ms=0.4, kernel_launches=126, bound="host-bound"),
        row("torch_cuda_fp32", 1, (4.4, 4.41), gpu_busy_ms=0.9, kernel_launches=126, bound="host-bound"),
    )
    seen, text = observed("precision", *rows)
    assert seen.claim
    assert seen.claim.result == "refuted"
    assert "waits for the host, its GPU busy" in text
    host, said = observed("host", *rows)
    assert host.traits
    assert host.traits.variant == "torch_cuda_fp16"
    assert "its GPU is busy 9.1% of a call" in said
    assert "126 kernels" in said
    fast = row("torch_cuda_fp16", 1, (0.5, 0.51), gpu_busy_ms=0.4, kernel_launches=126, bound="gpu-bound")
    assert "waits for the host" not in observed("precision", fast, row("torch_cuda_fp32", 1, (4.4, 4.41)))[1]


@pytest.mark.parametrize(("other_ms", "advice"), [(98.0, "choose by precision"), (20.0, "change the runtime first")])
def test_runtime_overhead_is_set_against_precision(other_ms: float, advice: str) -> None:
    share = {"limited_by": "compute", "limit_ms": 80.0}
    seen, text = observed(
        "runtime",
        row("ort_cpu_fp32", 1, (other_ms, other_ms + 0.01), limit_share=0.8, **share),
        row("torch_cpu_fp32", 1, (100.0, 100.01), limit_share=0.8, **share),
        row("torch_cpu_int8", 1, (25.0, 25.01)),
    )
    assert advice in text
    assert "both are at 80% of the roofline, which leaves at most 1.25×" in text
    assert "a lower precision gains up to 4.00×" in text
    assert seen.weight > 0.5


def test_an_engine_repays_its_set_up_after_some_calls_if_it_is_faster() -> None:
    engine = {"one_off_seconds": 74.0, "break_even_calls": 20556, "runtime": "tensorrt"}
    cuda = row("ort_cuda_fp16", 1, (1.0, 1.01))
    told = "its set-up cost is repaid after 20,556 calls"
    assert told in observed("tensorrt", row("ort_tensorrt_fp16", 1, (0.4, 0.401), **engine), cuda)[1]
    assert told not in observed("tensorrt", row("ort_tensorrt_fp16", 1, (4.0, 4.01), **engine), cuda)[1]


def test_padding_is_explained_by_the_tokens_that_are_computed() -> None:
    _, text = observed(
        "padding",
        row("ort_cpu_fp32_longest", 1, (5.0, 5.01), padding="longest", precision="fp32", tokens_computed=32.0),
        row("ort_cpu_fp32", 1, (10.0, 10.01), tokens_computed=128.0),
    )
    assert "32.0 tokens a sentence computed, not 128.0" in text
    assert "2.00×" in text


def test_the_weightiest_finding_comes_first_and_open_questions_stand_in_a_table() -> None:
    rows = (
        row("ort_cpu_int8", 1, (10.0, 10.01)),
        row("ort_cpu_bf16", 1, (40.0, 40.01)),
        row("ort_cpu_fp32", 1, (100.0, 100.01)),
        row("torch_cpu_fp32", 1, (80.0, 100.0, 125.0)),
    )
    text = notes(*rows)
    assert text.index("1. “INT8 is always faster") < text.index("“BF16 is always faster")
    swapped = notes({**rows[0], "precision": "bf16"}, {**rows[1], "precision": "int8"}, *rows[2:])
    assert swapped.index("1. “BF16 is always faster") < swapped.index("“INT8 is always faster")
    assert "| Another runtime is always faster than PyTorch at FP32 (CPU) | 1 of 1 |" in text


def test_a_difference_below_the_noise_floor_is_no_win() -> None:
    five_percent = [row("ort_cuda_fp16", 1, (1.0, 1.001, 1.002)), row("torch_cuda_fp32", 1, (1.05, 1.051, 1.052))]
    quiet = table(*five_percent)
    noisy = table(*({**cell, "margin": 0.08} for cell in five_percent))
    assert compare(*quiet.itertuples()).verdict == "faster"
    assert compare(*noisy.itertuples()).verdict == "tie"


def test_a_cpu_that_does_not_hold_still_is_named() -> None:
    restless = row("torch_cpu_fp32", 1, (10.0, 10.1), host_loop_min_ms=1.5, host_loop_max_ms=2.9)
    [found] = panel(restless).disturbances
    assert found.kind == "clock unstable"
    assert found.value == pytest.approx(1.933, abs=1e-3)
    assert "clock unstable (1.93×)" in results(restless)


def test_a_rejected_row_is_shown_but_never_the_fastest() -> None:
    rejected = row("ort_cpu_int8", 1, (1.0, 1.1), status="rejected", reason="relative error 9 is above 1.5")
    rows = rejected, row("torch_cpu_fp32", 1, (10.0, 10.1))
    assert [each.cell.variant for each in panel(*rows).fastest] == ["torch_cpu_fp32"]
    [first, second] = shown(*rows).timed(panel(*rows))
    assert (first["variant"], second["variant"]) == ("torch_cpu_fp32", "ort_cpu_int8")
    assert COLUMNS["remark"].write(second) == "rejected; relative error 9 is above 1.5"


def test_gpu_and_cpu_rows_never_share_a_panel() -> None:
    seen = found(row("torch_cpu_fp32", 1, (10.0, 10.1)), row("ort_cuda_fp16", 1, (0.5, 0.51)))
    cells = {each.device: [one.cell.variant for one in each.fastest] for each in seen.panels}
    assert cells == {"cuda": ["ort_cuda_fp16"], "cpu": ["torch_cpu_fp32"]}


def test_rows_without_times_are_told_once_a_reason() -> None:
    skipped = [row("ort_cuda_fp16", size, (), status="skipped", reason="no NVIDIA GPU found") for size in (1, 4)]
    [left] = panel(*skipped).not_timed
    assert (left.status, left.reason, left.variants) == ("skipped", "no NVIDIA GPU found", {"ort_cuda_fp16": []})
    assert results(*skipped).count("skipped (no NVIDIA GPU found): `ort_cuda_fp16`") == 1


def test_one_batch_size_that_ran_out_of_memory_is_named() -> None:
    full = row("ort_cuda_fp16", 64, (), status="out_of_memory", reason="full")
    [left] = panel(row("ort_cuda_fp16", 1, (1.0, 1.1)), full).not_timed
    assert left.variants == {"ort_cuda_fp16": [64]}


def test_random_weights_are_called_random_and_real_ones_are_not() -> None:
    measured = row("torch_cpu_fp32", 1, (10.0, 10.1))
    assert "The weights are random" in results(measured, real=False)
    assert "The weights are random" not in results(measured, real=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4567, "0.457"),
        (12.345, "12.35"),
        (345.67, "345.7"),
        (1234.5, "1234"),
        (None, "–"),
        (0.0123456, "0.0123"),
        (0.00021, "0.000210"),
        (0.0996, "0.0996"),
    ],
)
def test_latencies_are_written_with_the_digits_they_support(value: Any, text: str) -> None:
    assert milliseconds(value) == text


def test_a_share_is_100_percent_only_where_it_is_exact() -> None:
    assert percent(0.99999) == "99.9%"
    assert percent(1.0) == "100%"
    assert per_second(99.94) == "99.9"


def test_very_small_and_very_large_figures_are_written_so_that_they_say_something() -> None:
    assert [per_second(value) for value in (0.0421, 0.999, 38.2)] == ["0.042", "1", "38.2"]
    assert [ratio(value) for value in (0.0342, 0.5, 2.05, 143.4, 104216.4)] == [
        "0.034×",
        "0.50×",
        "2.05×",
        "143×",
        "104,216×",
    ]
    assert [seconds(value) for value in (0.0, 0.034, 12.44)] == ["0.0 s", "0.03 s", "12.4 s"]
    assert with_interval(milliseconds, 0.0101, 0.0099, 0.0104) == "0.0101 (0.00990 – 0.0104)"


def test_what_disturbed_a_cell_is_found_in_no_other() -> None:
    quiet = row("torch_cpu_fp32", 1, (4.0, 4.1, 4.2))
    disturbed = row("ort_cpu_fp32", 1, (2.0, 2.1, 2.2), other_load_cores=1.25, host_loop_max_ms=1.9)
    seen = panel(quiet, disturbed).disturbances
    assert [(each.variant, each.kind, each.value) for each in seen] == [
        ("ort_cpu_fp32", "cores busy", 1.25),
        ("ort_cpu_fp32", "clock unstable", 1.9),
    ]
    lines = [plain(COLUMNS["remark"].write(view)) for view in shown(quiet, disturbed).timed(panel(quiet, disturbed))]
    assert lines == ["other processes kept 1.2 cores busy; clock unstable (1.90×)", MISSING]


def test_texts_at_the_edges_hold_no_empty_brackets() -> None:
    nothing = results(row("torch_cpu_fp32", 1, (), status="rejected", reason="a reason"))
    assert "()" not in nothing
    assert "nan" not in nothing


def test_one_entry_puts_a_column_into_every_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLUMNS, "new", Column("tokens", ("rows",), lambda view: f"`{view['runs']}!`", "/s"))
    seen = shown(row("torch_cpu_fp32", 1, (10.0, 10.1), runs=12))
    [block] = [grid("rows", seen.timed(each)) for each in seen.findings.panels]
    assert "tokens /s |" in to_markdown([block])
    assert "`12!` |" in to_markdown([block])
    assert "<code>12!</code>" in to_html([block])
    console = Console(width=200, file=StringIO())
    console.print(fitted(console, "rows", seen.timed(seen.findings.panels[0])))
    assert "12!" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_narrow_terminal_keeps_what_matters_most() -> None:
    seen = shown(row("torch_cpu_fp32", 1, (10.0, 10.1)))
    console = Console(width=60, file=StringIO())
    console.print(fitted(console, "rows", seen.timed(seen.findings.panels[0])))
    first = console.file.getvalue().splitlines()[0]  # type: ignore[attr-defined]
    assert "row" in first
    assert "p50 ms" in first
    assert "proof" not in first
