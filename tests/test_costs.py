"""Limits, energy, break-even and the noise floor, from figures with known results."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from made_blocks import cell_of, report_of, session_of

from bench.classifier.workload import Load, Workload
from bench.core.params import Precision, Variant
from bench.core.reports import GpuReading, Work
from bench.summary.comparisons import break_even_calls
from bench.summary.costs import Recorded, amounts, bound, energy, limits, one_off_seconds, raised_peaks, tokens

WORKLOAD = Workload(layers=1, width=10, feed_forward_width=20, labels=2, sequence_length=4)
PEAKS: dict[str, Any] = {"cuda": {"operations_per_s": {"fp16": 1e9}, "bytes_per_s": 1e12}, "cpu": None}


CELL = cell_of(1, {0: {0: 1.0}})


def variant(precision: Precision = "fp16", graph: str = "onnx/fp16.onnx") -> Variant:
    return Variant(runtime="onnxruntime", device="cuda", precision=precision, graph=graph)


def test_the_limit_is_the_longer_of_work_and_traffic() -> None:
    operations = WORKLOAD.flops(Load(1, 4, 16))
    found = limits(WORKLOAD, variant(), 1, CELL, PEAKS)
    assert found["limited_by"] == "compute"
    assert found["limit_ms"] == pytest.approx(operations / 1e9 * 1000)
    assert found["limit_share"] == pytest.approx(found["limit_ms"])
    slow_memory = {"cuda": {"operations_per_s": {"fp16": 1e15}, "bytes_per_s": 1e6}}
    assert limits(WORKLOAD, variant(), 1, CELL, slow_memory)["limited_by"] == "memory"


def test_the_limit_without_padding_counts_the_tokens_that_were_given() -> None:
    found = limits(WORKLOAD, variant(), 1, CELL, PEAKS)
    each = [WORKLOAD.flops(Load(1, tokens, tokens**2)) for tokens in (2, 3)]
    assert found["limit_without_padding_ms"] == pytest.approx(sum(each) / 2 / 1e9 * 1000)
    assert found["limit_without_padding_share"] < found["limit_share"]


def test_tokens_are_those_of_a_sentence() -> None:
    work = Work(given_tokens=[6, 10], given_pairs=[18, 50], computed_tokens=[8, 12], computed_pairs=[32, 72])
    expected = {"tokens_given": 4.0, "tokens_computed": 5.0, "tokens_of_data": None}
    assert tokens(2, work) == expected


def test_no_limit_is_given_for_a_peak_that_was_not_measured() -> None:
    assert "limit_ms" not in limits(WORKLOAD, variant("int8"), 1, CELL, PEAKS)
    assert "limit_ms" not in limits(WORKLOAD, variant(), 1, CELL, {"cuda": None})


def test_a_call_is_bound_by_what_takes_the_larger_part_of_it() -> None:
    assert bound(4.6, 0.36) == {"bound": "host-bound", "host_ms": pytest.approx(4.24)}
    assert bound(5.0, 4.7)["bound"] == "gpu-bound"


STEADY = GpuReading(energy_j=200.0, window_seconds=2.0)


def test_energy_comes_with_its_uncertainty() -> None:
    found = energy(STEADY, 500)
    assert found["gross_energy_mj_per_sample"] == pytest.approx(400.0)
    assert found["gross_energy_low"] == pytest.approx(400 / 1.05)
    assert found["gross_energy_high"] == pytest.approx(400 * 1.05)


def test_a_short_window_is_no_better_than_the_counters_steps() -> None:
    found = energy(GpuReading(energy_j=20.0, window_seconds=0.2), 500)
    assert found["gross_energy_high"] / found["gross_energy_mj_per_sample"] == pytest.approx(1.5)


def test_energy_is_left_out_without_a_reading() -> None:
    assert energy(None, 500) == energy(GpuReading(), 500) == energy(STEADY, 0) == {}


def test_all_that_a_graph_needed_counts_as_spent_once() -> None:
    export, conversions = {"seconds": 10.0}, {"fp16": {"seconds": 3.0}}
    assert one_off_seconds(variant(graph="model"), 1, export, conversions, {}) == 0
    assert one_off_seconds(variant(graph="onnx/fp32.onnx"), 1, export, conversions, {}) == 10
    assert one_off_seconds(variant(), 1, export, conversions, {"build_seconds": 60.0}) == 73


def test_where_each_batch_size_has_an_engine_of_its_own_only_that_ones_build_counts() -> None:
    built = {"build_seconds": 100.0, "seconds_by_batch_size": {"1": 20.0, "4": 80.0}}
    assert one_off_seconds(variant(), 4, {"seconds": 10.0}, {}, built) == 90


def test_a_peak_is_at_least_what_the_best_row_reached() -> None:
    peaks: dict[str, Any] = {"cuda": {"operations_per_s": {"fp16": 1e3}, "bytes_per_s": 1e12}, "cpu": None}
    recorded = Recorded({"workload": asdict(WORKLOAD)}, {}, peaks, machine="")
    of_1_ms = report_of({1: {0: {0: 1.0}}}, session_of([0]))
    found = raised_peaks(recorded, {"a": variant("fp16")}, {"a": of_1_ms})
    done = amounts(WORKLOAD, variant("fp16"), 1, CELL.work)
    assert found["cuda"]["operations_per_s"]["fp16"] == pytest.approx(done["operations"] * 1000)
    assert found["cuda"]["bytes_per_s"] == 1e12
    assert peaks["cuda"]["operations_per_s"]["fp16"] == 1e3, "what was measured stays as it is"


def test_an_export_pays_after_as_many_calls_as_save_its_time() -> None:
    assert break_even_calls(10.0, baseline_mean_ms=3.0, mean_ms=1.0) == 5000
    assert break_even_calls(10.0, baseline_mean_ms=1.0, mean_ms=1.0) is None
