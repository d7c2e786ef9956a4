"""Limits, energy, break-even and the noise floor, from figures with known results."""

from __future__ import annotations

from typing import Any

import pytest

from bench.classifier.workload import Workload
from bench.core.params import Precision, Variant
from bench.statistics.noise import noise_floor
from bench.summary.costs import bound, break_even_calls, energy, limits, one_off_seconds

WORKLOAD = Workload(layers=1, width=10, feed_forward_width=20, labels=2, sequence_length=4)
PEAKS: dict[str, Any] = {"cuda": {"operations_per_s": {"fp16": 1e9}, "bytes_per_s": 1e12, "idle_w": 100.0}, "cpu": None}


def variant(precision: Precision = "fp16", graph: str = "onnx/fp16.onnx") -> Variant:
    return Variant(runtime="onnxruntime", device="cuda", precision=precision, graph=graph)


def test_the_limit_is_the_longer_of_work_and_traffic() -> None:
    operations = WORKLOAD.operations(1)
    found = limits(WORKLOAD, variant(), 1, 1.0, PEAKS)
    assert found["limited_by"] == "compute"
    assert found["limit_ms"] == pytest.approx(operations / 1e9 * 1000)
    assert found["limit_share"] == pytest.approx(found["limit_ms"])
    slow_memory = {"cuda": {"operations_per_s": {"fp16": 1e15}, "bytes_per_s": 1e6}}
    assert limits(WORKLOAD, variant(), 1, 1.0, slow_memory)["limited_by"] == "memory"


def test_no_limit_is_given_for_a_peak_that_was_not_measured() -> None:
    assert "limit_ms" not in limits(WORKLOAD, variant("int8"), 1, 1.0, PEAKS)
    assert "limit_ms" not in limits(WORKLOAD, variant(), 1, 1.0, {"cuda": None})


def test_a_call_is_bound_by_what_takes_the_larger_part_of_it() -> None:
    assert bound(4.6, 0.36) == {"bound": "host-bound", "host_ms": pytest.approx(4.24)}
    assert bound(5.0, 4.7)["bound"] == "gpu-bound"


def test_idle_power_is_taken_off_and_both_figures_are_kept() -> None:
    readings = [{"energy_j": 200.0, "window_seconds": 0.5}, {"energy_j": 220.0, "window_seconds": 0.5}]
    found = energy(readings, samples=1000, idle_w=100.0)
    assert found["gross_energy_mj_per_sample"] == pytest.approx(420.0)
    assert found["energy_mj_per_sample"] == pytest.approx(320.0)


def test_energy_is_left_out_where_one_process_has_no_reading() -> None:
    assert energy([{"energy_j": 200.0, "window_seconds": 0.5}, {}], 1000, 100.0) == {}
    assert "energy_mj_per_sample" not in energy([{"energy_j": 1.0}], 10, None)


def test_all_that_a_graph_needed_counts_as_spent_once() -> None:
    export, conversions = {"seconds": 10.0}, {"fp16": {"seconds": 3.0}}
    assert one_off_seconds(variant(graph="model"), export, conversions, {}) == 0
    assert one_off_seconds(variant(graph="onnx/fp32.onnx"), export, conversions, {}) == 10
    assert one_off_seconds(variant(), export, conversions, {"build_seconds": 60.0}) == 73


def test_an_export_pays_after_as_many_calls_as_save_its_time() -> None:
    assert break_even_calls(10.0, baseline_mean_ms=3.0, mean_ms=1.0) == 5000
    assert break_even_calls(10.0, baseline_mean_ms=1.0, mean_ms=1.0) is None


def test_the_noise_floor_is_what_the_control_shows_if_that_is_more_than_the_processes_do() -> None:
    quiet = [[1.0, 1.001, 1.002]]
    assert noise_floor([1.1, 1 / 1.1], quiet) == pytest.approx(0.1)
    assert noise_floor([1.0], quiet) < 0.001
    assert noise_floor([1.0], [[1.0, 1.2, 1.44]]) == pytest.approx(1.2 ** (1 / 3**0.5) - 1)
    assert noise_floor([], []) == 0
