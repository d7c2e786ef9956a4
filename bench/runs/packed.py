"""The single runs and reports of a kept run, compressed: every figure of it can be recomputed from them."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.files import damaged, read_csv, read_model
from bench.core.params import Params
from bench.core.paths import SAMPLES, SERVED
from bench.core.reports import Report, Served, TimingSession
from bench.core.schemas import SingleRun
from bench.runs.manifest import MEND, PACKED
from bench.summary.budgets import Curves, curves_of
from bench.summary.panels import Sessions

PRESET = 9


def pack_samples(params: Params, folder: Path) -> None:
    """Write every variant's report and single runs to one file; the same content gives the same bytes.

    `{variant: {"report": …, "latency_ns": {batch size: [[one process's runs], …]}, "served": …}}`.
    """
    content: dict[str, Any] = {}
    for key in params.all_variants():
        mend = f"`dvc repro` measures {key} again"
        report = read_model(SAMPLES / f"{key}.json", mend, Report).as_dict()
        runs = pd.DataFrame(read_csv(SAMPLES / f"{key}.csv", mend, SingleRun))
        content[key] = {"report": report, "latency_ns": _by_process(runs) if len(runs) else {}}
    for key in params.serving.variants:
        served = read_model(SERVED / f"{key}.json", f"`dvc repro` serves {key} again", Served)
        content[key]["served"] = served.as_dict()
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    (folder / PACKED).write_bytes(lzma.compress(text.encode(), preset=PRESET))


def _by_process(runs: pd.DataFrame) -> dict[str, list[list[int]]]:
    """Return whole nanoseconds, which is what was measured, by batch size and process, in the order of the runs."""
    nanoseconds = (runs["latency_ms"] * 1e6).round().astype(int)
    found: dict[str, list[list[int]]] = {}
    for (batch, _), own in nanoseconds.groupby([runs["batch"], runs["process"]]):
        found.setdefault(str(batch), []).append(own.tolist())
    return found


def unpack_samples(folder: Path) -> dict[str, Any]:
    """Return what `pack_samples` wrote; DataError if it is missing or damaged."""
    path = folder / PACKED
    try:
        content: dict[str, Any] = json.loads(lzma.decompress(path.read_bytes()))
    except (OSError, lzma.LZMAError, ValueError) as problem:
        raise damaged(path, str(problem), MEND) from None
    return content


def curves_in(content: dict[str, Any]) -> Curves:
    """Return the points of each served row of what was unpacked, process by process."""
    return curves_of({key: Served.model_validate(kept["served"]) for key, kept in content.items() if "served" in kept})


def sessions_in(content: dict[str, Any]) -> Sessions:
    """Return the rounds that the rows of what was unpacked were timed in."""
    sessions = [kept["report"].get("session") for kept in content.values()]
    return Sessions.of(TimingSession.model_validate(session) for session in sessions if session)
