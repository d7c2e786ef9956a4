"""The report is made from recorded rows alone, and says what they say."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from bench.core.params import ReportSettings
from bench.report.context import Context
from bench.report.figures import milliseconds, per_second, percent, ratio, seconds, with_interval
from bench.report.notes.write import render_notes
from bench.report.table import render_table
from bench.statistics.rounds import Level, levels
from bench.summary.comparisons import compare

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


def test_libraries_that_are_not_the_pinned_ones_are_named() -> None:
    pinned = Context(
        ENVIRONMENT, {}, {}, settings(), pins={"torch": "2.13.0", "onnxruntime": "1.31.1", "tensorrt": "10.14"}
    )
    assert pinned.unlike_the_pins() == []
    older = Context({"versions": {"torch": "2.11.0+cu130"}}, {}, {}, settings(), pins={"torch": "2.13.0"})
    assert older.unlike_the_pins() == ["torch 2.11.0+cu130 (pinned: 2.13.0)"]


def row(variant: str, batch: int, medians: tuple[float, ...], **more: Any) -> dict[str, Any]:
    p50 = sorted(medians)[len(medians) // 2] if medians else None
    return {
        "variant": variant,
        "runtime": "onnxruntime" if variant.startswith("ort") else "pytorch",
        "device": "cpu" if "cpu" in variant else "cuda",
        "precision": variant.rsplit("_", 1)[-1],
        "options": None,
        "batch_size": batch,
        "status": "measured",
        "reason": None,
        "p50_ms": p50,
        "p95_ms": p50,
        "p95_low_ms": p50,
        "p95_high_ms": p50,
        "mean_ms": p50,
        "samples_per_s": batch * 1000 / p50 if p50 else None,
        "process_p50_ms": " ".join(map(str, medians)),
        "agreement": 1.0,
        "proof": "DWK",
        "throttling": None,
        "other_gpu_processes": None,
        "cold_start_seconds": 1.0,
        "warm_start_seconds": None,
        "other_load_cores": 0.1,
        "host_loop_min_ms": 1.0,
        "host_loop_max_ms": 1.05,
        "gpu_busy_ms": None,
        "host_ms": p50 - more["gpu_busy_ms"] if more.get("gpu_busy_ms") else None,
        "kernel_launches": None,
        "bound": None,
        "matrix_share": None,
        "limit_ms": None,
        "limited_by": None,
        "limit_share": None,
        "energy_mj_per_sample": None,
        "gross_energy_mj_per_sample": None,
        "idle_w": None,
        "one_off_seconds": 0.0,
        "peak_gpu_mib": None,
        "peak_host_mib": 600.0,
        "break_even_calls": None,
        "break_even_cuda_calls": None,
        "session": None,
        "rounds": None,
        "moved": 0.0,
        "voided": False,
        "aa_ratio": None,
        "aa_low": None,
        "aa_high": None,
        "aa_verdict": None,
        "noise_floor": None,
        "margin": 0.02,
        "comparisons": 1,
        "baseline": "torch_cpu_fp32" if "cpu" in variant else "torch_cuda_fp32",
        "speedup": None,
        "p50_low_ms": None,
        "p50_high_ms": None,
        "speedup_low": None,
        "speedup_high": None,
        "verdict": None,
        "verdict_reason": None,
        **more,
    }


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return rows with the level of each from its own processes alone."""
    found = pd.DataFrame(list(rows))
    found["p50_level"] = found["mean_level"] = found["p95_level"] = [_level(each) for each in rows]
    return found


def _level(row: dict[str, Any]) -> Level | None:
    own = [float(value) for value in row["process_p50_ms"].split()]
    if not own:
        return None
    rounds = [int(number) for number in (row["rounds"] or "").split()] or range(len(own))
    [level] = levels([dict(zip(rounds, own, strict=True))])
    names = frozenset(f"{row['session']} {number}" for number in rounds)
    return replace(level, log_level=math.log(row["p50_ms"]), rounds=names)


def test_the_fastest_variant_is_named_with_those_that_are_not_surely_slower() -> None:
    clear = table(row("ort_cpu_fp32", 1, (9.0, 9.1, 9.2)), row("torch_cpu_fp32", 1, (10.0, 10.1, 10.2)))
    overlapping = table(row("ort_cpu_fp32", 1, (9.0, 9.1, 10.1)), row("torch_cpu_fp32", 1, (10.0, 10.1, 10.2)))
    assert "`ort_cpu_fp32` has the lowest p50, 9.100 ms." in render_notes(clear, context())
    assert "no significant difference to `torch_cpu_fp32` (10.10 ms)." in render_notes(overlapping, context())


def test_rows_that_cannot_be_told_from_the_fastest_are_counted_where_they_are_many() -> None:
    ties = [row(f"torch_cpu_fp32_{n}", 1, (8.0, 9.5 + n / 10, 11.0)) for n in range(5)]
    several = table(row("ort_cpu_fp32", 1, (9.0, 9.1, 9.2)), *ties)
    named = "`torch_cpu_fp32_0` (9.500 ms), `torch_cpu_fp32_1` (9.600 ms), `torch_cpu_fp32_2` (9.700 ms) and 2 more"
    assert f"no significant difference to {named}." in render_notes(several, context())
    assert f"not significantly faster than {named} |" in render_table(several, context())


def test_the_verdict_on_int8_flips_with_the_data() -> None:
    faster = table(row("ort_cpu_int8", 1, (5.0, 5.1)), row("ort_cpu_fp32", 1, (10.0, 10.1)))
    slower = table(row("ort_cpu_int8", 1, (20.0, 20.2)), row("ort_cpu_fp32", 1, (10.0, 10.1)))
    assert "int8 against fp32, p50 speed-up 1.98× (faster) at batch 1" in render_notes(faster, context())
    assert "int8 against fp32, p50 speed-up 0.50× (slower) at batch 1" in render_notes(slower, context())


def test_one_process_is_never_enough_for_a_verdict() -> None:
    rows = list(table(row("a_cpu_fp32", 1, (1.0,)), row("b_cpu_fp32", 1, (9.0,))).itertuples())
    assert compare(rows[0], rows[1]).verdict == "inconclusive"


def test_a_larger_batch_that_loses_throughput_is_said() -> None:
    falling = table(row("ort_cpu_int8", 1, (10.0, 10.1)), row("ort_cpu_int8", 4, (60.0, 61.0)))
    rising = table(row("ort_cpu_int8", 1, (10.0, 10.1)), row("ort_cpu_int8", 4, (20.0, 21.0)))
    assert "going up to batch 4 loses throughput" in render_notes(falling, context())
    assert "loses throughput" not in render_notes(rising, context())
    before, after = falling.itertuples()
    assert compare(after, before, "throughput").verdict == "slower"


def test_the_table_says_which_is_fastest_whether_that_is_significant_and_what_it_costs() -> None:
    best = row(
        "ort_cuda_fp16",
        1,
        (0.29, 0.30, 0.31),
        bound="gpu-bound",
        gpu_busy_ms=0.24,
        limit_share=0.031,
        limited_by="compute",
        gross_energy_mj_per_sample=41.5,
        peak_gpu_mib=812.0,
        one_off_seconds=14.0,
    )
    sure = render_table(table(best, row("torch_cuda_fp32", 1, (4.0, 4.1, 4.2))), context())
    assert (
        "| 1 | `ort_cuda_fp16` | fixed | 0.300 | yes, against every other row | gpu-bound, GPU busy 80% "
        "| 3.1% (compute) | – |" in sure
    )
    assert "| 41.5 mJ/sample | 812 MiB on the GPU, 600 MiB on the host | 1.0 s | 14.0 s |" in sure
    unsure = render_table(table(best, row("torch_cuda_fp32", 1, (0.29, 0.31, 0.33))), context())
    assert "not significantly faster than `torch_cuda_fp32`" in unsure


def test_a_rejected_row_is_shown_with_its_figures_or_with_what_kept_it_from_running() -> None:
    rows = table(
        row("ort_cuda_fp16", 1, (0.4, 0.401)),
        row("ort_tensorrt_int8", 1, (), status="rejected", reason="TensorRT 8.6.1 built no INT8 engine: its words"),
        row("ort_tensorrt_fp16", 1, (0.299, 0.3, 0.301), status="rejected", reason="wanted fp16, observed tf32"),
    )
    shown, notes = render_table(rows, context()), render_notes(rows, context())
    assert "- rejected (TensorRT 8.6.1 built no INT8 engine: its words): `ort_tensorrt_int8`" in shown
    assert "| 1 | ort_tensorrt_int8 |" not in shown
    assert "| 1 | ort_tensorrt_fp16 | fixed | 0.300 |" in shown
    assert "rejected, wanted fp16, observed tf32; its p50 was 0.300 ms at batch 1" in notes
    assert "built no INT8 engine: its words): `ort_tensorrt_int8`." in notes


TensorRT = tuple[float, float, int]
"""p50 and time on the GPU in ms, kernels."""


@pytest.mark.parametrize(
    ("tensorrt", "cuda", "said"),
    [
        ((0.30, 0.25, 57), (0.39, 0.35, 83), "with the other's time on the GPU it would not be slower"),
        ((0.40, 0.25, 57), (0.30, 0.26, 83), "with the other's time on the host it would not be slower"),
        (
            (0.40, 0.30, 57),
            (0.30, 0.26, 83),
            "takes 0.0400 ms longer on the GPU and 0.0600 ms longer on the host: neither",
        ),
        ((0.30, 0.25, 57), (0.30, 0.25, 83), "tie. 57 kernels, 0.250 ms on the GPU and 0.0500 ms on the host against"),
    ],
)
def test_the_notes_say_whether_host_or_gpu_decides_between_tensorrt_and_cuda(
    tensorrt: TensorRT, cuda: TensorRT, said: str
) -> None:
    rows = table(
        *(
            row(name, 1, (p50 * 0.999, p50, p50 * 1.001), runtime=runtime, gpu_busy_ms=busy, kernel_launches=kernels)
            for name, runtime, (p50, busy, kernels) in (
                ("ort_tensorrt_fp16", "tensorrt", tensorrt),
                ("ort_cuda_fp16", "onnxruntime", cuda),
            )
        )
    )
    notes = render_notes(rows, context())
    assert said in notes
    assert "TensorRT against CUDA: `ort_tensorrt_fp16` against `ort_cuda_fp16`" in notes


def test_the_notes_say_when_an_engine_breaks_even_and_against_what() -> None:
    rows = table(
        row(
            "ort_tensorrt_fp16",
            1,
            (0.4, 0.401),
            one_off_seconds=74.0,
            verdict="faster",
            break_even_calls=20556,
            break_even_cuda_calls=1000000,
        ),
        row("torch_cuda_fp32", 1, (4.0, 4.01)),
    )
    notes = render_notes(rows, context())
    assert "(74.0 s) breaks even against `torch_cuda_fp32` after 20,556 calls at batch 1." in notes
    assert "against ONNX Runtime's fastest CUDA row, after 1,000,000 calls at batch 1." in notes


def test_a_difference_below_the_noise_floor_is_no_win() -> None:
    five_percent = [row("ort_cuda_fp16", 1, (1.0, 1.001, 1.002)), row("torch_cuda_fp32", 1, (1.05, 1.051, 1.052))]
    quiet = table(*five_percent)
    noisy = table(*({**cell, "margin": 0.08} for cell in five_percent))
    assert compare(*quiet.itertuples()).verdict == "faster"
    assert compare(*noisy.itertuples()).verdict == "tie"


def test_a_cpu_that_does_not_hold_still_is_named_as_a_cause() -> None:
    still = table(row("torch_cpu_fp32", 1, (10.0, 10.1)))
    restless = table(row("torch_cpu_fp32", 1, (10.0, 10.1), host_loop_min_ms=1.5, host_loop_max_ms=2.9))
    assert "The CPU's speed was steady." in render_notes(still, context())
    assert "is 1.93× its fastest (median over cells), at most 1.93×. The CPU itself changes its speed" in render_notes(
        restless, context()
    )


def test_a_rejected_row_is_shown_but_never_the_fastest() -> None:
    rejected = row("ort_cpu_int8", 1, (1.0, 1.1), status="rejected", reason="relative error 9 is above 1.5")
    rows = table(rejected, row("torch_cpu_fp32", 1, (10.0, 10.1)))
    rendered = render_table(rows, context())
    assert "rejected: relative error 9 is above 1.5" in rendered
    assert rendered.index("| 1 | torch_cpu_fp32") < rendered.index("| 1 | ort_cpu_int8")
    assert "`torch_cpu_fp32` has the lowest p50" in render_notes(rows, context())


def test_gpu_and_cpu_rows_never_share_a_panel() -> None:
    rows = table(row("torch_cpu_fp32", 1, (10.0, 10.1)), row("ort_cuda_fp16", 1, (0.5, 0.51)))
    gpu, cpu = render_table(rows, context()).split("## CPU:")
    assert "ort_cuda_fp16" in gpu
    assert "torch_cpu_fp32 |" not in gpu
    assert "ort_cuda_fp16 |" not in cpu


def test_a_variant_without_times_is_one_line_with_its_reason() -> None:
    skipped = [row("ort_cuda_fp16", size, (), status="skipped", reason="no NVIDIA GPU found") for size in (1, 4)]
    rendered = render_table(table(*skipped), context())
    assert rendered.count("skipped (no NVIDIA GPU found): `ort_cuda_fp16`") == 1


def test_one_batch_size_that_ran_out_of_memory_is_named() -> None:
    rows = table(
        row("ort_cuda_fp16", 1, (1.0, 1.1)), row("ort_cuda_fp16", 64, (), status="out_of_memory", reason="full")
    )
    assert "out_of_memory (full): `ort_cuda_fp16` at batch 64" in render_table(rows, context())


def test_random_weights_are_called_random_and_real_ones_are_not() -> None:
    rows = table(row("torch_cpu_fp32", 1, (10.0, 10.1)))
    assert "The weights are random" in render_table(rows, context(real=False))
    assert "The weights are random" not in render_table(rows, context(real=True))


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


def test_what_disturbed_a_cell_is_said_in_its_row_and_in_no_other() -> None:
    quiet = row("torch_cpu_fp32", 1, (4.0, 4.1, 4.2))
    disturbed = row("ort_cpu_fp32", 1, (2.0, 2.1, 2.2), other_load_cores=1.25, host_loop_max_ms=1.9)
    lines = render_table(table(quiet, disturbed), context()).splitlines()
    [line] = [line for line in lines if "cores busy" in line]
    assert line.startswith("| 1 | ort_cpu_fp32 |")
    assert line.endswith("measured, other processes kept 1.2 cores busy, CPU unsteady (1.90×) |")


def test_texts_at_the_edges_hold_no_empty_brackets() -> None:
    nothing = render_table(table(row("torch_cpu_fp32", 1, (), status="rejected", reason="a reason")), context())
    assert "()" not in nothing
    assert "nan" not in nothing
