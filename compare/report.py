"""What a comparison found, as JSON (docs/compare.schema.json), in Markdown and on the terminal."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

Judged = Literal["slower", "faster", "no difference", "inconclusive", "lost", "gained", "neither"]
TOO_FEW = "too few passes"
HEADINGS = ["row", "batch", "before ms", "after ms", "change", "95% interval", "verdict"]


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


class Change(Record):
    """How a row's latency changed, after / before - 1, at one batch size.

    `smallest`: the smallest change that an inconclusive one could have shown; `lost`, `gained`: only before, or after,
    was it measured.
    """

    row: str
    batch_size: int
    verdict: Judged
    reason: str = ""
    before_ms: float | None = None
    after_ms: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    smallest: float | None = None


class Control(Record):
    """A row against itself on one side: 0, but for noise."""

    side: str
    row: str
    batch_size: int
    verdict: Judged
    change: float | None
    low: float | None
    high: float | None


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
    schema_version: Literal[1] = 1
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
        if any(each.reason == TOO_FEW for each in self.changes):
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
            limits = percents(control.change, control.low, control.high)
            yield f"control, {control.side} against itself: {control.row} batch {control.batch_size}: {limits}"
        for row in self.beside:
            yield f"{row.row}: {'; '.join(row_texts(row))}"

    def markdown(self) -> str:
        """Return the table, in columns that a terminal shows too, and the sentences."""
        rows = [HEADINGS, *(cells(each) for each in self.changes)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * width for width in widths])
        lines = (" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join([*(f"| {line} |" for line in lines), "", *(f"- {each}" for each in self.sentences())]) + "\n"


def cells(each: Change) -> list[str]:
    """Return a line of the table."""
    times = [f"{ms:.4g}" if ms else "–" for ms in (each.before_ms, each.after_ms)]
    change = f"{each.change:+.1%}" if each.change is not None else "–"
    limits = f"{each.low:+.1%} to {each.high:+.1%}" if each.low is not None and each.high is not None else "–"
    said: str = each.verdict
    if each.smallest is not None and each.verdict == "inconclusive":
        said += f", could show {each.smallest:.1%}"
    return [each.row, str(each.batch_size), *times, change, limits, f"{said}: {each.reason}" if each.reason else said]


def percents(change: float | None, low: float | None, high: float | None) -> str:
    if change is None:
        return TOO_FEW
    return f"{change:+.1%}" + (f" ({low:+.1%} to {high:+.1%})" if low is not None and high is not None else "")


def row_texts(row: Beside) -> Iterator[str]:
    for what, unit, (old, new) in (("memory", "MiB", row.memory_mib), ("start", "s", row.start_seconds)):
        if old is not None and new is not None:
            yield f"{what} {old:.3g} → {new:.3g} {unit}"
    if row.labels_compared:
        yield f"{row.labels_changed} of {row.labels_compared} labels changed"
    if row.right:
        yield f"right {row.right[0]} → {row.right[1]} of {row.labelled}"
    yield from row.worse
