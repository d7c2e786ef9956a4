"""Reports of rows whose blocks are made up, as the timing stages hand them on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.core.reports import AnyCell, BlockTimes, PassConditions, Process, Report, TimedCell, TimingSession, Work
from bench.statistics.blocks import Blocks
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
