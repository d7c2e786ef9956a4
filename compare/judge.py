"""Verdicts on what was timed: all rows of a device, at all batch sizes, share the error of 5%."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from bench.core.model_inputs import IntArray
from bench.core.params import Params
from bench.core.paths import EVALUATION
from bench.core.reports import TimedCell
from bench.inputs.encoded import load_encoded
from bench.statistics.blocks import LEAST_PASSES, Level, Panel, estimate, pool_processes
from bench.statistics.decisions import AT_THE_END, Family, decide
from bench.statistics.intervals import Interval, smallest_difference, verdict
from bench.timing.passes import Cell, asked_pairs
from bench.timing.quality import accuracy_fault, compare_labels
from compare.describe import Description
from compare.report import TOO_FEW, Beside, Change, Control, Judged
from compare.sides import GIB, Side
from compare.timed import AFTER, AGAIN, BEFORE, Group

MIB = 2**20
WORDS: dict[str, Judged] = {"tie": "no difference", "slower": "slower", "faster": "faster"}


@dataclass(frozen=True)
class _Panel:
    """What a group gave at one batch size."""

    group: Group
    size: int
    levels: Mapping[str, Level]

    def family(self) -> Family:
        pairs = asked_pairs([*self.levels], self.group.passes.plan)
        return Family([*self.levels.values()], pairs, is_all=True)


class Judge:
    """Judges the groups of one device."""

    def __init__(self, groups: Sequence[Group], params: Params) -> None:
        self.groups, self.params, self.margin = groups, params, params.report.margin
        self.panels = [panel for group in groups for panel in _panels(group)]
        families = [panel.family() for panel in self.panels]
        self.shared = decide(families, self.margin, AT_THE_END)[0]

    def controls(self) -> Iterator[Control]:
        """Yield what each control shows."""
        for panel in self.panels:
            for name in (name for name in panel.levels if AGAIN in name):
                side, key = name.split("/")
                own = name.replace(f"{AGAIN}/", "/")
                if own in panel.levels:
                    found = self._speedup(panel, name, own)
                    said = WORDS.get(verdict(found, self.margin), "inconclusive")
                    change, low, high = _changes(found)
                    yield Control(
                        side=side.removesuffix(AGAIN),
                        row=key,
                        batch_size=panel.size,
                        verdict=said,
                        change=change,
                        low=low,
                        high=high,
                    )

    def _speedup(self, panel: _Panel, name: str, against: str) -> Interval | None:
        found = estimate(panel.levels[against], panel.levels[name])
        return found.interval(self.shared) if found else None

    def changes(self) -> Iterator[Change]:
        """Yield each row at each batch size."""
        fooled = [control for control in self.controls() if control.verdict in ("slower", "faster")]
        for group in self.groups:
            panels = {panel.size: panel for panel in self.panels if panel.group is group}
            for key in group.keys:
                reports = [group.reports[f"{side}/{key}"] for side in (BEFORE, AFTER)]
                for size in sorted({int(size) for report in reports for size in report.cells}):
                    cells = [report.cells.get(str(size)) for report in reports]
                    statuses = [cell.status if cell else "missing" for cell in cells]
                    reasons = [cell.reason if cell else "no such batch size" for cell in cells]
                    if statuses != ["measured", "measured"]:
                        yield unmeasured(key, size, statuses, reasons)
                        continue
                    change = self._change(panels.get(size), key, size)
                    if fooled:
                        reason = f"the {fooled[0].side} side differs from itself"
                        change = change.model_copy(update={"verdict": "inconclusive", "reason": reason})
                    ms = [cell.p50_ms if isinstance(cell, TimedCell) else None for cell in cells]
                    yield change.model_copy(update={"before_ms": ms[0], "after_ms": ms[1]})

    def _change(self, panel: _Panel | None, key: str, size: int) -> Change:
        names = [f"{side}/{key}" for side in (AFTER, BEFORE)]
        if panel is None or not set(names) <= set(panel.levels):
            return Change(row=key, batch_size=size, verdict="inconclusive", reason=TOO_FEW)
        found = self._speedup(panel, *names)
        if found is None:
            jumps = any(panel.levels[name].is_unstable for name in names)
            reason = "a block took ten times as long as another" if jumps else TOO_FEW
            return Change(row=key, batch_size=size, verdict="inconclusive", reason=reason)
        margin = max(self.margin, _noise_floor(panel))
        said = WORDS.get(verdict(found, margin), "inconclusive")
        change, low, high = _changes(found)
        smallest = smallest_difference(found, margin) - 1
        return Change(row=key, batch_size=size, verdict=said, change=change, low=low, high=high, smallest=smallest)


def _panels(group: Group) -> list[_Panel]:
    blocks = group.passes.blocks
    sizes = sorted({cell.size for cell in blocks})
    names = {
        size: [
            name for name in group.passes.plan.sizes if len(blocks.get(Cell(name, size), {}).get(0, {})) >= LEAST_PASSES
        ]
        for size in sizes
    }
    panels = {size: Panel([blocks[Cell(name, size)] for name in own]) for size, own in names.items() if own}
    pool_processes([*panels.values()], [None] * len(panels))
    return [_Panel(group, size, dict(zip(names[size], panel.levels(), strict=True))) for size, panel in panels.items()]


def _noise_floor(panel: _Panel) -> float:
    """Return by how much a control differs from itself: no difference below is called one."""
    levels = panel.levels
    pairs = [(levels[name], levels[own]) for name in levels if (own := name.replace(f"{AGAIN}/", "/")) != name]
    found = [one.panel.differences(one.place, other.place) for one, other in pairs]
    return max((math.expm1(abs(median(own))) for own in found if len(own)), default=0.0)


def _changes(speedup: Interval | None) -> tuple[float | None, float | None, float | None]:
    if speedup is None:
        return None, None, None
    return 1 / speedup.value - 1, 1 / speedup.high - 1, 1 / speedup.low - 1


def unmeasured(key: str, size: int, statuses: Sequence[str], reasons: Sequence[str]) -> Change:
    """Return what becomes of a row of which a side measured nothing that counts."""
    before, after = (status == "measured" for status in statuses)
    said: Judged = "lost" if before else "gained" if after else "neither"
    texts = [
        f"{side} {status}{f' ({reason})' if reason else ''}"
        for side, status, reason in zip((BEFORE, AFTER), statuses, reasons, strict=True)
        if status != "measured"
    ]
    return Change(row=key, batch_size=size, verdict=said, reason="; ".join(texts))


def beside(
    group: Group, sides: Mapping[str, Side], described: Mapping[str, Description], params: Params
) -> Iterator[Beside]:
    """Yield memory, start, labels and accuracy of each row that both sides measured."""
    same = described[BEFORE].sentences == described[AFTER].sentences
    truth = load_encoded(sides[BEFORE].place / EVALUATION).labels
    for key in group.keys:
        names = [f"{side}/{key}" for side in (BEFORE, AFTER)]
        if not set(names) <= set(group.results):
            continue
        memory = [_most([each.peak_host_mib for each in group.results[name]]) for name in names]
        start = [group.results[name][0].start_seconds for name in names]
        found = Beside(row=key, memory_mib=(memory[0], memory[1]), start_seconds=(start[0], start[1]))
        limit_gib = params.report.max_memory_gib
        if limit_gib and memory[0] and memory[1] and memory[0] <= limit_gib * GIB / MIB < memory[1]:
            found.worse.append(f"memory beyond report.max_memory_gib = {limit_gib:g}")
        if same and set(names) <= set(group.labels):
            _add_labels(found, [np.array(group.labels[name]) for name in names], truth, params)
        yield found


def _most(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _add_labels(found: Beside, labels: Sequence[IntArray], truth: IntArray, params: Params) -> None:
    """Add how many labels differ, and how many are right, of the sentences that both sides classified."""
    both = (labels[0] >= 0) & (labels[1] >= 0)
    found.labels_compared = int(both.sum())
    found.labels_changed = int((labels[0] != labels[1])[both].sum())
    both &= truth >= 0
    if not both.any():
        return
    counts = compare_labels(labels[1][both], labels[0][both], truth[both])
    found.right, found.labelled = (counts.reference_right, counts.right), counts.labelled
    gate = params.quality[params.variant(found.row).precision]
    if accuracy_fault(counts, gate):
        allowed = f"{gate.max_accuracy_loss:.2%}"
        found.worse.append(
            f"accuracy lost: {counts.reference_right - counts.right} of {counts.labelled}, allowed {allowed}"
        )
