"""Put everything known about every cell in one tidy table: a row a variant and batch size."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import numpy as np
import pandas as pd

from bench.core.errors import DataError
from bench.core.files import read_model
from bench.core.params import Params, Variant
from bench.core.paths import SAMPLES
from bench.core.reports import Evidence, Labels, PassConditions, Process, Report, Stored, TimedCell
from bench.proof.kernels import arithmetic_shares
from bench.statistics.shares import mcnemar_p, wilson_interval
from bench.summary import costs
from bench.summary.comparisons import with_comparisons, with_controls, with_levels
from bench.summary.over_http import read_over_http
from bench.summary.serving import Tables, build_serving, curves_of, read_served, read_served_text
from bench.summary.table_file import Row, identity, present

CELL_FIGURES = (
    *("status", "reason", "runs", "p50_ms", "p95_ms", "mean_ms", "samples_per_s", "max_abs_diff", "relative_error"),
    *("agreement", "checked_sentences", "proof"),
)
ENGINE_FIGURES = ("build_seconds", "engine_bytes", "session_without_cache_seconds")
ALONE = ("peak_host_mib", "peak_gpu_mib", "warm_up_gpu_mib", "load_seconds", "first_run_ms", "unfinished")
"""Figures of a process that ran with no other beside it, which only rows that may be a pick have."""
GPU_FIGURES = ("sm_clock_mhz", "temperature_c", "power_w")
EVIDENCE = ("matmul_precision", "attention", "compile", "nodes", "captures", "captures_mib")
MATRIX_PRODUCT = re.compile(r"(^|[:_])mm$|bmm|addmm|matmul|gemm|linear|fullyconnected|attention", re.IGNORECASE)
"""Operators of PyTorch (aten::addmm, quantized::linear_dynamic, …), ONNX Runtime (FusedMatMul, MatMulInteger, …) and
OpenVINO (FullyConnected).

Fused attention counts as a whole: two matrix products and the softmax between them.
"""


OPTIONAL = (
    *("peak_gpu_mib", "accuracy", "throttling", "other_gpu_processes", "gpu_busy_ms", "bound", "matrix_share"),
    *("limit_ms", "limited_by", "limit_share", "limit_without_padding_share", "tokens_given", "tokens_computed"),
    *("gross_energy_mj_per_sample", "gross_energy_low", "gross_energy_high", "one_off_seconds", "cold_start_seconds"),
    *ALONE,
    *("host_loop_min_ms", "host_loop_max_ms", "tokens_of_data", "other_load_cores", "quota_throttled_seconds"),
    *("passes", "spread", "remark", "cut_short"),
)
"""Columns that the table has on every machine."""


def read_tables(params: Params) -> Tables:
    """Return the tables of what the stages before wrote; it walks params.yaml, never the files that are there."""
    reports = {
        key: read_model(SAMPLES / f"{key}.json", f"`dvc repro` measures {key} again", Report)
        for key in params.all_variants()
    }
    summary, served = build_summary(params, reports, costs.Recorded.read()), read_served(params.serving.variants)
    serving = build_serving(params, summary, served, read_served_text())
    return Tables(summary, serving, curves_of(served), read_over_http(params.serving.variants))


def build_summary(params: Params, reports: Mapping[str, Report], recorded: costs.Recorded) -> pd.DataFrame:
    """Return a row a variant and batch size, in the configured order."""
    variants = params.all_variants()
    recorded = replace(recorded, peaks=costs.raised_peaks(recorded, variants, reports))
    table = pd.DataFrame(
        cell_row(key, variant, size, reports[key], recorded)
        for key, variant in variants.items()
        for size in params.sizes(variant.device)
    )
    for column in (*CELL_FIGURES, *OPTIONAL):
        if column not in table:
            table[column] = None
    leveled = with_levels(table, reports, params.baselines)
    return with_comparisons(with_controls(leveled, reports, params), params)


def cell_row(key: str, variant: Variant, batch_size: int, report: Report, recorded: costs.Recorded) -> Row:
    """Return the figures of one cell from its variant's report; DataError if the report has no such batch size."""
    try:
        cell = report.cells[str(batch_size)]
    except KeyError:
        raise DataError(f"{key}: no figures for batch size {batch_size}: `dvc repro` measures it again") from None
    row: Row = {
        "variant": key,
        **identity(variant),
        "batch_size": batch_size,
        "cell": f"{key} batch {batch_size:03d}",
        **_filled(cell, CELL_FIGURES),
        "session": report.session.id if report.session else None,
        "cut_short": (report.session.cut_short or None) if report.session else None,
        "remark": report.remark or None,
        **accuracy(report.accuracy),
        **_process_figures(report.processes),
        **_evidence(report.evidence),
    }
    return row | _timed(variant, batch_size, cell, report, recorded) if isinstance(cell, TimedCell) else row


def _filled(found: Stored, names: Iterable[str]) -> Row:
    return {name: value for name in names if (value := getattr(found, name, None)) not in (None, "", {})}


def _timed(variant: Variant, batch_size: int, cell: TimedCell, report: Report, recorded: costs.Recorded) -> Row:
    built = costs.of_this_machine(report.engine.as_dict() if report.engine else {}, recorded.machine)
    return {
        "passes": len(set(cell.passes)),
        "spread": spread(cell),
        **({} if cell.gpu_mib is None else {"peak_gpu_mib": cell.gpu_mib}),
        **({"other_gpu_processes": cell.gpu.other_gpu_processes} if cell.gpu else {}),
        **_conditions(cell, report.session.passes if report.session else []),
        **_profile(cell),
        **costs.tokens(batch_size, cell.work),
        **costs.limits(recorded.workload(), variant, batch_size, cell, recorded.peaks),
        **costs.energy(cell.gpu, (cell.gpu_runs or 0) * batch_size),
        **{name: built[name] for name in ENGINE_FIGURES if name in built},
        "one_off_seconds": costs.one_off_seconds(variant, batch_size, recorded.export, recorded.conversions, built),
    }


def spread(cell: TimedCell) -> float:
    """Return the 90th percentile of a cell's blocks over the 10th, less one."""
    low, high = np.percentile(cell.block_p50_ms, (10, 90))
    return float(high / low - 1)


def accuracy(counts: Labels | None) -> Row:
    """Return the accuracy over all labelled sentences with its 95% interval, and its loss against fp32 with a test."""
    if not counts:
        return {"accuracy": None}
    total = counts.labelled
    low, high = wilson_interval(counts.right, total)
    return {
        "accuracy": counts.right / total,
        "accuracy_low": low,
        "accuracy_high": high,
        "labelled_sentences": total,
        "accuracy_loss": (counts.reference_right - counts.right) / total,
        "accuracy_loss_p": mcnemar_p(counts.only_reference, counts.only_row),
    }


def _process_figures(processes: list[Process]) -> Row:
    alone = next((process for process in processes if process.is_alone), None)
    own_mib = present(process.peak_host_mib for process in processes)  # a process's own, whatever runs beside it
    return {
        "processes": sum(not process.is_alone for process in processes),
        **({"peak_host_mib": max(own_mib)} if own_mib else {}),
        **({"cold_start_seconds": alone.start_seconds, **_filled(alone, ALONE)} if alone else {}),
    }


def _conditions(cell: TimedCell, passes: list[PassConditions]) -> Row:
    """Return what disturbed the passes that a cell was timed in."""
    own = [each for each in passes if each.number in set(cell.passes)]
    if not own:
        return {}
    loops_ms = [each.host_loop_ms for each in own]
    gpu = [each.gpu for each in own if each.gpu]
    figures = {name: [getattr(each, name) for each in gpu] for name in GPU_FIGURES}
    return {
        "other_load_cores": fmean(each.other_load_cores for each in own),
        "quota_throttled_seconds": sum(each.quota_throttled_seconds for each in own),
        "host_loop_min_ms": min(loops_ms),
        "host_loop_max_ms": max(loops_ms),
        **{name: median(known) for name, values in figures.items() if (known := present(values))},
        "throttling": ", ".join(sorted({each.throttling for each in gpu if each.throttling})) or None,
    }


def _profile(cell: TimedCell) -> Row:
    if cell.operators:
        return {"matrix_share": matrix_share(cell.operators), "longest_operator": next(iter(cell.operators))}
    if not (profile := cell.profile):
        return {}
    shares = arithmetic_shares(profile.kernels).items()
    return {
        "observed_arithmetic": " ".join(f"{kind}={share:.3f}" for kind, share in shares),
        "kernel_launches": profile.kernel_launches,
        "gpu_busy_ms": profile.gpu_busy_ms,
        **costs.bound(cell.p50_ms, profile.gpu_busy_ms),
        "longest_kernel": next(iter(profile.kernels), None),
    }


def _evidence(evidence: Evidence) -> Row:
    listed = _filled(evidence, ("nodes_placed", "operators", "provider_options"))
    return {
        "observed_device": " ".join(evidence.providers or evidence.device),
        "observed_weights": _listed(evidence.weight_bytes),
        "cpu_threads": evidence.cpu_threads,
        **_filled(evidence, EVIDENCE),
        **{name: _listed(each) for name, each in listed.items()},
    }


def _listed(counted: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in counted.items())


def matrix_share(operators: dict[str, float]) -> float | None:
    """Return the share of the operators' time that goes into matrix products; None without any time."""
    total = sum(operators.values())
    return sum(time for name, time in operators.items() if MATRIX_PRODUCT.search(name)) / total if total else None
