"""Verdicts on what was timed: all rows of a device, at all batch sizes, share the error of 5%."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from bench.core.model_inputs import IntArray
from bench.core.params import Gate, Params
from bench.core.paths import EVALUATION
from bench.inputs.encoded import load_encoded
from bench.statistics.blocks import Level, estimate
from bench.statistics.decisions import AT_THE_END, Family, decide
from bench.statistics.intervals import Interval, smallest_difference, verdict
from bench.timing.quality import accuracy_fault, compare_labels
from compare.report import TOO_FEW, Beside, Change, Control, Judged
from compare.sides import GIB, Side
from compare.timed import AFTER, AGAIN, BEFORE, UNTRIED, Group, Outcome

MIB = 2**20
WORDS: dict[str, Judged] = {"tie": "no difference", "slower": "slower", "faster": "faster"}
Levels = Mapping[str, Level]


class Judge:
    """Judges the groups of one device, timed or under load."""

    def __init__(self, groups: Sequence[Group], margin: float) -> None:
        self.groups, self.margin = groups, margin
        families = [_family(levels, group.pairs) for group in groups for levels in group.levels.values()]
        self.shared = decide(families, margin, AT_THE_END)[0]

    def controls(self) -> Iterator[Control]:
        """Yield what each control shows."""
        for size, levels in (item for group in self.groups for item in group.levels.items()):
            for name, own in _controls(levels):
                side, key = own.split("/")
                found = self._speedup(levels, name, own)
                said = WORDS.get(verdict(found, self.margin), "inconclusive")
                yield Control(side=side, row=key, batch_size=size, verdict=said, **_changes(found, size))

    def _speedup(self, levels: Levels, name: str, against: str) -> Interval | None:
        found = estimate(levels[against], levels[name])
        return found.interval(self.shared) if found else None

    def changes(self) -> Iterator[Change]:
        """Yield each row at each batch size."""
        fooled = next((each.side for each in self.controls() if each.verdict in ("slower", "faster")), "")
        for group, key in ((each, key) for each in self.groups for key in each.keys):
            before, after = (group.outcomes[f"{side}/{key}"] for side in (BEFORE, AFTER))
            for size in dict.fromkeys([*before, *after]):
                outcomes = [own.get(size, Outcome("missing", "no such batch size")) for own in (before, after)]
                if any(each.status != "measured" for each in outcomes):
                    yield unmeasured(key, size, outcomes)
                    continue
                change = self._change(group.levels.get(size, {}), key, size)
                if change.change is None:
                    change = change.model_copy(update={"reason": "; ".join([change.reason, *_reasons(outcomes)])})
                if fooled:
                    reason = f"the {fooled} side differs from itself"
                    change = change.model_copy(update={"verdict": "inconclusive", "reason": reason})
                yield change.model_copy(update={"before": outcomes[0].value, "after": outcomes[1].value})

    def _change(self, levels: Levels, key: str, size: int | None) -> Change:
        names = [f"{side}/{key}" for side in (AFTER, BEFORE)]
        found = self._speedup(levels, *names) if set(names) <= set(levels) else None
        if found is None:
            jumps = any(levels[name].is_unstable for name in names if name in levels)
            reason = "a block took ten times as long as another" if jumps else TOO_FEW
            return Change(row=key, batch_size=size, verdict="inconclusive", reason=reason)
        # by how much a control differs from itself: no difference below is called one
        twins = ((levels[one], levels[two]) for one, two in _controls(levels))
        noise = (one.panel.differences(one.place, two.place) for one, two in twins)
        margin = max([self.margin, *(math.expm1(abs(median(own))) for own in noise if len(own))])
        said = WORDS.get(verdict(found, margin), "inconclusive")
        smallest = smallest_difference(found, margin) - 1
        return Change(row=key, batch_size=size, verdict=said, smallest=smallest, **_changes(found, size))


def _family(levels: Levels, pairs: Sequence[tuple[str, str]]) -> Family:
    place = {name: number for number, name in enumerate(levels)}
    asked = frozenset((place[a], place[b]) for a, b in pairs if a in place and b in place)
    return Family([*levels.values()], asked, is_all=True)


def _controls(levels: Levels) -> list[tuple[str, str]]:
    """Return each control with what it is once more."""
    found = [(name, name.replace(f"{AGAIN}/", "/")) for name in levels if AGAIN in name]
    return [(name, own) for name, own in found if own in levels]


def _changes(speedup: Interval | None, size: int | None) -> dict[str, Any]:
    """Return by how much a row's latency changed, or under load its requests/s."""
    if speedup is None:
        return {}
    limits = (speedup.value, speedup.low, speedup.high)
    if size is not None:
        limits = (1 / speedup.value, 1 / speedup.high, 1 / speedup.low)
    return dict(zip(("change", "low", "high"), (each - 1 for each in limits), strict=True))


def unmeasured(key: str, size: int | None, outcomes: Sequence[Outcome]) -> Change:
    """Return what becomes of a row of which a side measured nothing that counts."""
    before, after = (each.status == "measured" for each in outcomes)
    said: Judged = "lost" if before else "gained" if after else "neither"
    if any(each.status == UNTRIED for each in outcomes):
        said = "inconclusive"
    return Change(row=key, batch_size=size, verdict=said, reason="; ".join(_reasons(outcomes)))


def _reasons(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield what is to be said of a side that measured nothing, or under load met the SLO at no rate."""
    for side, each in zip((BEFORE, AFTER), outcomes, strict=True):
        if each.status != "measured":
            yield f"{side} {each.status}{f' ({each.reason})' if each.reason else ''}"
        elif each.reason:
            yield f"{side}: {each.reason}"


def beside(group: Group, sides: Mapping[str, Side], params: Params) -> Iterator[Beside]:
    """Yield memory, start, labels and accuracy of each row that both sides measured."""
    same = sides[BEFORE].described.sentences == sides[AFTER].described.sentences
    truth = load_encoded(sides[BEFORE].place / EVALUATION).labels
    for key in group.keys:
        names = [f"{side}/{key}" for side in (BEFORE, AFTER)]
        if not set(names) <= set(group.results):
            continue
        results = [group.results[name] for name in names]
        memory = [max(filter(None, (each.peak_host_mib for each in own)), default=None) for own in results]
        start = [own[0].start_seconds for own in results]
        found = Beside(row=key, memory_mib=(memory[0], memory[1]), start_seconds=(start[0], start[1]))
        limit_gib = params.report.max_memory_gib
        if limit_gib and memory[0] and memory[1] and memory[0] <= limit_gib * GIB / MIB < memory[1]:
            found.worse.append(f"memory beyond report.max_memory_gib = {limit_gib:g}")
        if same and set(names) <= set(group.labels):
            gate = params.quality[sides[BEFORE].described.rows[key].variant.precision]
            _add_labels(found, [np.array(group.labels[name]) for name in names], truth, gate)
        yield found


def _add_labels(found: Beside, labels: Sequence[IntArray], truth: IntArray, gate: Gate) -> None:
    """Add how many labels differ, and how many are right, of the sentences that both sides classified."""
    both = (labels[0] >= 0) & (labels[1] >= 0)
    found.labels_compared = int(both.sum())
    found.labels_changed = int((labels[0] != labels[1])[both].sum())
    both &= truth >= 0
    if not both.any():
        return
    counts = compare_labels(labels[1][both], labels[0][both], truth[both])
    found.right, found.labelled = (counts.reference_right, counts.right), counts.labelled
    if accuracy_fault(counts, gate):
        allowed = f"{gate.max_accuracy_loss:.2%}"
        found.worse.append(
            f"accuracy lost: {counts.reference_right - counts.right} of {counts.labelled}, allowed {allowed}"
        )
