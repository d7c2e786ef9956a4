"""What a comparison found, as JSON (docs/compare.schema.json), in Markdown and on the terminal."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

Judged = Literal["slower", "faster", "no difference", "inconclusive", "lost", "gained", "neither"]
TOO_FEW = "too few passes"
HEADINGS = ["row", "batch", "before", "after", "change", "95% interval", "verdict"]
UNDER_LOAD = "load"


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SideRecord(Record):
    """What was compared; `changed_files`: how it differs from its commit."""

    asked: str
    commit: str
    changed_files: list[str]
    settings: list[str]
    with_packages: list[str]
    model: str
    model_is_real: bool
    versions: dict[str, str | None]


class Limits(Record):
    """How a row's latency (ms) changed at one batch size, or under load (`batch_size` None) its requests/s."""

    row: str
    batch_size: int | None
    verdict: Judged
    change: float | None = None
    """after / before - 1, with its 95% interval."""
    low: float | None = None
    high: float | None = None


class Change(Limits):
    """A row on both sides.

    `smallest`: the smallest change that an inconclusive one could have shown; `lost`, `gained`: only before, or after,
    was it measured.
    """

    reason: str = ""
    before: float | None = None
    after: float | None = None
    smallest: float | None = None


class Control(Limits):
    """A row against itself on one side: 0, but for noise."""

    side: str


class Beside(Record):
    """What else a row shows; None: not known.  `worse`: what of it fails the comparison."""

    row: str
    memory_mib: tuple[float | None, float | None]
    start_seconds: tuple[float | None, float | None]
    """Beside other rows that start: judged by nobody."""
    labels_compared: int = 0
    labels_changed: int = 0
    right: tuple[int, int] | None = None
    labelled: int = 0
    worse: list[str] = []


class Comparison(Record):
    schema_version: Literal[2] = 2
    exit_code: int
    strict: bool
    minutes: float
    margin: float
    cut_short: str
    machine: str
    before: SideRecord
    after: SideRecord
    moved: dict[str, tuple[str, str]]
    changes: list[Change]
    controls: list[Control]
    beside: list[Beside]

    def sentences(self) -> Iterator[str]:
        """Yield what the table does not say."""
        counts = Counter(each.verdict for each in self.changes)
        found = ", ".join(f"{counts[said]} {said}" for said in get_args(Judged) if counts[said]) or "nothing compared"
        yield f"{found} (margin {self.margin:.2%}); exit code {self.exit_code}; {self.machine}"
        if any(each.reason.startswith(TOO_FEW) for each in self.changes):
            yield f"{TOO_FEW}: give more --minutes, or fewer --rows or --batch-sizes"
        if self.cut_short:
            yield self.cut_short
        for name, side in (("before", self.before), ("after", self.after)):
            count = len(side.changed_files)
            more = [f"{count} changed file{'s' * (count > 1)}"] * bool(count)
            more += [f"-S {each}" for each in side.settings] + [f"--with {each}" for each in side.with_packages]
            yield f"{name}: {side.asked} ({', '.join([side.commit[:10], *more])}), model {side.model}"
        if self.moved:
            yield "packages: " + ", ".join(f"{name} {old} → {new}" for name, (old, new) in self.moved.items())
        for control in self.controls:
            where = f"batch {control.batch_size}" if control.batch_size else "under load"
            yield f"control, {control.side} against itself: {control.row} {where}: {', '.join(percents(control))}"
        for row in self.beside:
            yield f"{row.row}: {'; '.join(row_texts(row))}"

    def markdown(self) -> str:
        """Return the table, in columns that a terminal shows too, and the sentences."""
        rows = [HEADINGS, *([escaped(text) for text in cells(each)] for each in self.changes)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * width for width in widths])
        lines = (" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
        sentences = (f"- {escaped(each)}" for each in self.sentences())
        return "\n".join([*(f"| {line} |" for line in lines), "", *sentences]) + "\n"


def escaped(text: str) -> str:
    """Return a text in one line, without what would end a cell or begin HTML."""
    return re.sub(r"([|<])", r"\\\1", " ".join(text.split()))


def cells(each: Change) -> list[str]:
    """Return a line of the table."""
    where, unit = (str(each.batch_size), " ms") if each.batch_size else (UNDER_LOAD, "/s")
    values = [f"{value:.4g}{unit}" if value else "–" for value in (each.before, each.after)]
    said: str = each.verdict
    if each.smallest is not None and each.verdict == "inconclusive":
        said += f", could show {each.smallest:.1%}"
    return [each.row, where, *values, *percents(each), f"{said}: {each.reason}" if each.reason else said]


def percents(each: Limits) -> list[str]:
    """Return a change, and its interval."""
    if each.change is None or each.low is None or each.high is None:
        return ["–", "–"]
    return [f"{each.change:+.1%}", f"{each.low:+.1%} to {each.high:+.1%}"]


def row_texts(row: Beside) -> Iterator[str]:
    for what, unit, (old, new) in (("memory", "MiB", row.memory_mib), ("start", "s", row.start_seconds)):
        if old is not None and new is not None:
            yield f"{what} {old:.3g} → {new:.3g} {unit}"
    if row.labels_compared:
        yield f"{row.labels_changed} of {row.labels_compared} labels changed"
    if row.right:
        yield f"right {row.right[0]} → {row.right[1]} of {row.labelled}"
    yield from row.worse
