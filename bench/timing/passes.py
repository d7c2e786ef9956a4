"""What is timed when: passes of short blocks in random order, and looks at what is decided.

In a pass every cell (a row at a batch size) that is still active gets one block of each of its processes.  After some
passes a look decides who goes on: two rows whose comparison somebody asks for and that is open, and the rows that may
be the best, with the baseline and its A/A row beside them, until their intervals are narrow enough.  Rows that may be
the best, and the quickest of the others if these are few, get a second process, and a third where the two differ: what
belongs to a process is then seen, too, even where one row is soon the best.

Nothing here runs anything: blocks come from a `Bench`, the time from a clock.
"""

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.statistics.blocks import LEAST_PASSES, Level, Panel, pool_processes
from bench.statistics.decisions import AT_A_LOOK, AT_THE_END, Decisions, Family, Pair, beaten, decide

LOOKS = (4, 6, 9, 13, 19, 28, 42, 63, 95, 142)
"""After so many passes there is a look, ten at most: they share the error that looks have."""
MOST_OF_THE_TIME = 0.05
"""A cell gets no further block once its blocks took this share of the time, or an equal one where fewer cells are
active; the baseline's always go on."""
MOST_PROCESSES = 3
LEAST_TWICE = 4
"""Rows of two processes after the first pass, beside the baseline and its A/A row: the variance between processes is
made of them."""
MOST_TO_START = 0.2
"""Of the time: once starting second processes took so much, the slower rows go on with one."""
MOST_CONTENDERS = 5
"""Beside the baseline; each that is named costs a process that compiles anew and runs alone."""
PROCESSES_SEEN = LOOKS[2]
"""Until this look these rows go on whatever is decided: their second processes then gave blocks enough."""


@dataclass(frozen=True, order=True)
class Cell:
    """A row at a batch size."""

    row: str
    size: int


class Bench(Protocol):
    """What runs blocks and processes."""

    def begin_pass(self) -> None: ...  # notes the state of the machine

    def block(self, cell: Cell, process: int, number: int) -> float | None: ...  # ms; None: it gives none any more

    def add_processes(self, rows: Sequence[str]) -> list[str]: ...  # of each row one; those of which it runs

    def is_whole(self, number: int) -> bool: ...  # whether a pass that ended may count: the machine did not sleep


@dataclass(frozen=True)
class Plan:
    """The rows and what is asked of them.

    `partners`: pairs of rows that somebody compares, beside the baseline with each and the best with each; in place of
    these where `is_only_partners`, and then each until its interval is narrow enough.
    """

    sizes: Mapping[str, Sequence[int]]
    baseline: str | None
    twin: str | None
    partners: Iterable[tuple[str, str]]
    seconds: float
    margin: float
    target: float
    """Half of an interval that is narrow enough, as a share."""
    seed: int
    is_only_partners: bool = False


@dataclass(frozen=True)
class _Open:
    """A comparison that is asked and open, and the further passes that should decide or narrow it."""

    passes: float
    cells: frozenset[Cell]


@dataclass
class Passes:
    """The passes of one set of rows on one device."""

    plan: Plan
    bench: Bench
    clock: Callable[[], float] = time.monotonic
    is_cut: Callable[[], bool] = lambda: False
    on_look: Callable[[int, int, float], None] = lambda _number, _open, _left: None
    blocks: dict[Cell, dict[int, dict[int, float]]] = field(default_factory=dict)
    """ms by process and pass."""
    finished: int = 0
    processes: dict[str, int] = field(default_factory=dict)
    """Of each row; one where none is given."""
    took: dict[Cell, float] = field(default_factory=dict)
    turn_seconds: dict[Cell, float] = field(default_factory=dict)
    start_seconds: float = 0.0
    """What starting second processes took."""

    def run(self) -> None:
        """Run passes until everything asked is decided or narrow enough, the time is over, or they are cut short."""
        self.processes = dict.fromkeys(self.plan.sizes, 1) | self.processes
        self.active = {Cell(row, size) for row, sizes in self.plan.sizes.items() for size in sizes}
        end, number = self.clock() + self.plan.seconds, 0
        while self.active and not self.is_cut():
            self._run_pass(number, end if number else math.inf)
            number += 1
            if self.clock() >= end:
                break
            if number in LOOKS:
                self._look(number, end)
            elif number == 1:
                self.on_look(number, len(self.active), end - self.clock())
                self._add_processes(self._to_be_seen_twice(set()))

    def _run_pass(self, number: int, end: float) -> None:
        turns = [(cell, process) for cell in sorted(self.active) for process in range(self.processes[cell.row])]
        random.Random(f"{self.plan.seed} {number}").shuffle(turns)
        given: dict[tuple[Cell, int], float] = {}
        self.bench.begin_pass()
        for cell, process in turns:
            if self.clock() >= end or self.is_cut():
                break
            began = self.clock()
            ms = self.bench.block(cell, process, number)
            self.turn_seconds[cell] = self.clock() - began
            self.took[cell] = self.took.get(cell, 0.0) + self.turn_seconds[cell]
            if ms is not None:
                given[cell, process] = ms
            elif process == 0:
                self.active.discard(cell)
                self.blocks.pop(cell, None)
        if self.bench.is_whole(number):
            self.finished += 1
            for (cell, process), ms in given.items():
                if cell in self.active:
                    self.blocks.setdefault(cell, {}).setdefault(process, {})[number] = ms
        most = max(MOST_OF_THE_TIME, 1 / max(1, len(self.active))) * self.plan.seconds
        slow = {cell for cell, seconds in self.took.items() if seconds > most and not self._is_control(cell.row)}
        self.active -= slow

    def _is_control(self, row: str) -> bool:
        return row in (self.plan.baseline, self.plan.twin)

    def _look(self, number: int, end: float) -> None:
        wanted, contenders, opened = set[Cell](), set[str](), list[_Open]()
        known = self._decided(AT_A_LOOK)
        count = sum(len(decided.open) for *_, decided in known)
        for size, names, family, decided in known:
            best = self._seems_best(family)
            contenders |= {names[place] for place in best}
            close = self._to_be_narrowed(family, best)
            wanted |= {Cell(names[place], size) for pair in close for place in pair}
            pairs = [pair for pair, half in decided.open.items() if half > math.log1p(self.plan.target)]
            opened += [self._open(family.levels, names, size, pair, AT_THE_END * count) for pair in pairs]
        twice = self._to_be_seen_twice(contenders)
        if number < PROCESSES_SEEN:
            wanted |= {Cell(row, cell.size) for row in twice for cell in self.blocks}
        wanted = self._with_what_can_be_decided(wanted, opened, end - self.clock())
        self.active &= wanted | {cell for cell in self.active if self._passes(cell) < LEAST_PASSES}
        self.on_look(number, len(opened), end - self.clock())
        if self.active:
            self._add_processes(twice)

    def _open(self, levels: Sequence[Level], names: Sequence[str], size: int, pair: Pair, comparisons: int) -> _Open:
        """Return an open comparison with the passes that it lacks, by what its blocks show so far."""
        cells = frozenset(Cell(names[place], size) for place in pair)
        found = levels[0].panel.compared(*pair)
        if found is None:
            return _Open(0.0, cells)
        wide_enough = max(abs(found.value) - math.log1p(self.plan.margin), math.log1p(self.plan.target))
        times = (found.half_width(comparisons) / wide_enough) ** 2 if wide_enough else math.inf
        return _Open((times - 1) * min(self._passes(cell) for cell in cells), cells)

    def _with_what_can_be_decided(self, wanted: set[Cell], opened: Sequence[_Open], left: float) -> set[Cell]:
        """Return `wanted`, the cells of comparisons that the time left should decide, and the controls beside all."""
        wanted = self._with_controls(wanted)
        for each in sorted(opened, key=lambda each: each.passes):
            together = self._with_controls(wanted | each.cells)
            seconds = sum(self.turn_seconds.get(cell, 0.0) * self.processes[cell.row] for cell in together)
            if each.passes * seconds <= left:
                wanted = together
        return wanted

    def _with_controls(self, cells: set[Cell]) -> set[Cell]:
        sizes = {cell.size for cell in cells}
        return cells | {Cell(row, size) for row in self.plan.sizes if self._is_control(row) for size in sizes}

    def contenders(self) -> list[str]:
        """Return the baseline and the rows that may be the best at some batch size, the nearest to it if many are."""
        apart: dict[str, float] = {}
        for _, names, family, decided in self._decided(AT_THE_END):
            levels = {names[place]: family.levels[place].log_level for place in self._may_be_best(family, decided)}
            for row, level in levels.items():
                if row != self.plan.baseline:
                    apart[row] = min(apart.get(row, math.inf), level - min(levels.values()))
        found = sorted(apart, key=lambda row: apart[row])[:MOST_CONTENDERS]
        return [row for row in self.plan.sizes if row in found or row == self.plan.baseline]

    def _rows(self, size: int) -> list[str]:
        """Return the rows with enough blocks at a batch size, the baseline first."""
        found = [row for row in self.plan.sizes if self._passes(Cell(row, size)) >= LEAST_PASSES]
        return sorted(found, key=lambda row: row != self.plan.baseline)

    def _passes(self, cell: Cell) -> int:
        return len(self.blocks.get(cell, {}).get(0, {}))

    def levels(self) -> dict[int, dict[str, Level]]:
        """Return where the rows with enough blocks stand, by batch size."""
        rows = {size: names for size in sorted({cell.size for cell in self.blocks}) if (names := self._rows(size))}
        panels = [
            Panel([self.blocks[Cell(row, size)] for row in names], neighbours=neighbours(names, self.plan))
            for size, names in rows.items()
        ]
        pool_processes(panels, [twins(names, self.plan) for names in rows.values()])
        return {
            size: dict(zip(names, panel.levels(), strict=True))
            for (size, names), panel in zip(rows.items(), panels, strict=True)
        }

    def _decided(self, sharing: int) -> list[tuple[int, list[str], Family, Decisions]]:
        """Return each batch size, its rows with enough blocks, and what is decided of them."""
        rows = {size: (list(levels), list(levels.values())) for size, levels in self.levels().items()}
        families = [
            Family(levels, asked_pairs(names, self.plan), self.plan.is_only_partners) for names, levels in rows.values()
        ]
        decisions = decide(families, self.plan.margin, sharing)[1]
        return list(zip(rows, (names for names, _ in rows.values()), families, decisions, strict=True))

    @staticmethod
    def _seems_best(family: Family) -> list[int]:
        """Return the places of rows that may be the best by their plain intervals: whom to time on decides nothing."""
        levels = [] if family.is_all else family.levels
        first = min(range(len(levels)), key=lambda place: levels[place].log_level, default=0)
        found = {place: level.panel.compared(place, first) for place, level in enumerate(levels)}
        return [place for place, each in found.items() if each is None or each.value <= each.half_width()]

    @staticmethod
    def _may_be_best(family: Family, decided: Decisions) -> list[int]:
        lost = beaten(decided.verdicts)
        return [place for place in range(len(family.levels)) if place not in lost and not family.is_all]

    def _to_be_narrowed(self, family: Family, best: Sequence[int]) -> list[Pair]:
        """Return the pairs of the baseline or the best with a row that may be the best whose interval is wide."""
        levels, pairs = family.levels, family.asked if family.is_all else frozenset[Pair]()
        if best:
            first = min(best, key=lambda place: levels[place].log_level)
            pairs = frozenset((min(a, b), max(a, b)) for a in {0, first} for b in best if a != b)
        found = {pair: levels[0].panel.compared(*pair) for pair in pairs}
        halves = {pair: each.half_width(AT_A_LOOK * len(levels)) for pair, each in found.items() if each}
        return [pair for pair in pairs if halves.get(pair, math.inf) > math.log1p(self.plan.target)]

    def _to_be_seen_twice(self, contenders: set[str]) -> set[str]:
        """Return the rows that may be the best, and the quickest others where these are few."""
        found = {row for row in contenders if not self._is_control(row)}
        found |= {row for row, count in self.processes.items() if count > 1}
        others = [row for row in self.plan.sizes if row not in found and not self._is_control(row)]
        others.sort(key=self._seconds)
        return found | set(others[: max(0, LEAST_TWICE - len(found))])

    def _add_processes(self, twice: set[str]) -> None:
        """Give rows a second process, or a third where the two differ, the quickest first."""
        active = set[str]() if self.plan.is_only_partners else {cell.row for cell in self.active}
        few = (row for row in sorted(twice & active) if self.processes[row] < MOST_PROCESSES)
        rows = sorted((row for row in few if self.processes[row] == 1 or self._differ(row)), key=self._seconds)
        while rows and self.start_seconds < MOST_TO_START * self.plan.seconds:
            together, rows = rows[:LEAST_TWICE], rows[LEAST_TWICE:]
            began = self.clock()
            for row in self.bench.add_processes(together):
                self.processes[row] += 1
            self.start_seconds += self.clock() - began

    def _seconds(self, row: str) -> float:
        return sum(self.took.get(Cell(row, size), 0.0) for size in self.plan.sizes[row])

    def _differ(self, row: str) -> bool:
        """Tell whether two processes of a row differ by more than the margin, and more than their blocks explain."""
        cells = [(cell, own) for cell, own in self.blocks.items() if len(own) > 1]
        for cell, processes in cells:
            found = Panel([{0: processes[0]}, {0: processes[1]}]).compared(0, 1) if cell.row == row else None
            half = found.half_width(AT_A_LOOK * len(cells)) if found else 0.0
            if found and abs(found.value) > max(math.log1p(self.plan.margin), half):
                return True
        return False


def twins(names: Sequence[str], plan: Plan) -> Pair | None:
    """Return the places of the baseline and its A/A row; None where one is missing."""
    both = [names.index(row) for row in (plan.baseline, plan.twin) if row in names]
    return (both[0], both[1]) if len(both) == 2 else None


def neighbours(names: Sequence[str], plan: Plan) -> frozenset[Pair] | None:
    """Return the places of pairs that alone are asked, whose blocks follow each other; None where others are asked."""
    return asked_pairs(names, plan) if plan.is_only_partners else None


def asked_pairs(names: Sequence[str], plan: Plan) -> frozenset[Pair]:
    """Return the places of pairs that are asked whichever row is the best."""
    place = {row: number for number, row in enumerate(names)}
    baseline = [(plan.baseline, row) for row in names if plan.baseline and row != plan.baseline]
    found = [(place[a], place[b]) for a, b in (*baseline, *plan.partners) if a in place and b in place]
    return frozenset((min(pair), max(pair)) for pair in found)
