"""Reports of rows whose blocks are made up, as the timing stages hand them on; recorded runs as if timed in passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import yaml
from conftest import ROOT

from bench.core.params import Params
from bench.core.reports import AnyCell, BlockTimes, PassConditions, Process, Report, TimedCell, TimingSession, Work
from bench.runs.recorded_runs import RecordedRun
from bench.statistics.blocks import Blocks
from bench.summary.build import spread
from bench.summary.comparisons import with_comparisons, with_controls, with_levels
from bench.timing.results import Block, block_times, figures_of

WORK = Work(given_tokens=[2, 3], given_pairs=[4, 9], computed_tokens=[4, 4], computed_pairs=[16, 16])
CALLS = 3
"""Of a block, all of the same length."""


def blocks_of(times: Blocks) -> list[Block]:
    """Return blocks of what each process gave in each pass, in ms, pass by pass."""
    found = [(number, process, ms) for process, own in times.items() for number, ms in own.items()]
    return [
        Block(process=process, number=number, latencies_ns=[round(ms * 1e6)] * CALLS)
        for number, process, ms in sorted(found)
    ]


def cell_of(size: int, times: Blocks, **more: Any) -> TimedCell:
    """Return a measured cell with these blocks."""
    fields = {"status": "measured", "work": WORK, **figures_of(blocks_of(times), size), **more}
    return TimedCell(**fields)


def session_of(passes: Iterable[int], twin: Mapping[int, Blocks] = {}, **more: Any) -> TimingSession:
    """Return a quiet session of these passes; `twin`: the A/A row's blocks by batch size."""
    quiet: dict[str, Any] = {
        "seconds": 1.0,
        "other_load_cores": 0.1,
        "quota_throttled_seconds": 0.0,
        "host_loop_ms": 1.0,
    }
    again = {str(size): BlockTimes(**block_times(blocks_of(times))) for size, times in twin.items()}
    fields = {"id": "1", "seed": 1, "twin": again, "anchors": {}, **more}
    return TimingSession(passes=[PassConditions(number=number, **quiet) for number in passes], **fields)


def report_of(cells: Mapping[int, Blocks], session: TimingSession, **more: Any) -> Report:
    """Return the report of a row that was timed in a session."""
    processes = [Process(process=number) for number in sorted({each for times in cells.values() for each in times})]
    found: dict[str, AnyCell] = {str(size): cell_of(size, times) for size, times in cells.items()}
    return Report(cells=found, session=session, **{"processes": processes, **more})


def params_of(run: RecordedRun) -> Params:
    """Return the parameters of a kept run, with today's section `timing`, and today's keys of `serving`."""
    own = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    serving = {key: run.params["serving"].get(key, value) for key, value in own["serving"].items()}
    return Params.model_validate({**run.params, "timing": own["timing"], "serving": serving})


PASSES = 16
NOISE = {1: 0.2, 4: 0.1}
"""SD of a block's logarithm at small batch sizes, and at larger ones."""
USUAL_NOISE = 0.04
ALONE = (
    *("cold_start_seconds", "peak_host_mib", "peak_gpu_mib", "warm_up_gpu_mib", "kernel_launches", "gpu_busy_ms"),
    *("bound", "host_ms", "matrix_share", "gross_energy_mj_per_sample", "gross_energy_low", "gross_energy_high"),
    "energy_mj_per_sample",
)
"""Columns that rows have that ran alone, which those are that may be the best."""


def in_passes(run: RecordedRun, jumping: tuple[str, int]) -> RecordedRun:
    """Return a run that was timed in rounds with its p50 as if of blocks, one cell of which jumps."""
    rng = np.random.default_rng(0)

    def blocks(size: int, p50_ms: float, jumps: bool = False) -> Blocks:
        noise = NOISE.get(size, USUAL_NOISE) * rng.standard_normal((2, PASSES)) + 0.01 * rng.standard_normal((2, 1))
        ms = p50_ms * np.exp(noise)
        ms[0, 7] *= 17 if jumps else 1
        return {process: dict(enumerate(map(float, own))) for process, own in enumerate(ms)}

    table = run.table.drop(columns="rounds", errors="ignore")
    measured = table[table["status"] == "measured"]
    best = measured.groupby(["device", "batch_size"])["p50_ms"].transform("min")
    may_be_best = set(measured[measured["p50_ms"] < 1.3 * best]["variant"]) | set(run.params["baselines"].values())
    table.loc[~table["variant"].isin(may_be_best), list(ALONE)] = None
    reports: dict[str, Report] = {}
    for device, of_device in measured.groupby("device"):
        own = of_device[of_device["variant"] == run.params["baselines"][device]]
        twin = {int(row.batch_size): blocks(row.batch_size, row.p50_ms) for row in own.itertuples()}
        session = session_of(range(PASSES), twin, id=str(device))
        for variant, rows in of_device.groupby("variant"):
            cells = {
                int(row.batch_size): blocks(row.batch_size, row.p50_ms, (variant, row.batch_size) == jumping)
                for row in rows.itertuples()
            }
            reports[str(variant)] = report_of(cells, session)
    timed = [reports[row.variant].timed()[str(row.batch_size)] for row in measured.itertuples()]
    table.loc[measured.index, "session"] = measured["device"]
    for name in ("p50_ms", "mean_ms", "samples_per_s"):
        table.loc[measured.index, name] = [getattr(cell, name) for cell in timed]
    table.loc[measured.index, "spread"] = [spread(cell) for cell in timed]
    params = params_of(run)
    leveled = with_levels(table, reports, params.baselines)
    return replace(run, table=with_comparisons(with_controls(leveled, reports, params), params))
