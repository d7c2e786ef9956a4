"""Which row is tried at which rate, and when: passes in which every active row gets one trial, in random order.

All rows of a pass are sent requests with the same seed, so that what the arrivals do to a pass, and what the machine
does to it, falls on all of them (Abedi and Brecht 2017).  Each row goes its own way over one grid of rates
(`bench.serving.search`).  Looks after some passes end what is surely not the best, and the passes once everything that
is asked, each row against the best, is decided or narrow.

Nothing here sends anything: trials come from a `LoadBench`, the time from a clock.
"""

import math
import random
import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol, Self

from bench.core.params import Device, Params
from bench.core.reports import RatePoint
from bench.serving.search import Figures, Search, place_of, rate_at
from bench.statistics.blocks import LEAST_PASSES, Level
from bench.statistics.decisions import AT_A_LOOK, Family, beaten, decide
from bench.statistics.rate_curve import panel_of, seconds_a_request
from bench.timing.passes import LOOKS

PATIENCE = 3
"""A row of which no rate has met the SLO may be tried for so many times the time: without one there is no figure."""
TRIES = 3
"""So often both ends are sent while the clock is set meanwhile."""


class LoadBench(Protocol):
    """What sends loads to rows."""

    def begin_pass(self) -> None: ...  # notes the state of the machine

    def processes(self, name: str) -> int: ...  # how many of a row are ready

    def ends(self, name: str, per_s: float, seed: int) -> Figures | None: ...  # of the curve; None: no more of this row

    def rate(self, name: str, process: int, per_s: float, seed: int) -> Figures | None: ...  # tried; None as above

    def is_whole(self, number: int) -> bool: ...  # whether a pass that ended may count: the clock was not set


@dataclass(frozen=True)
class LoadPlan:
    """The rows by the rate that each should hold, and for how long they are tried."""

    expected_per_s: Mapping[str, float]
    budget_ms: float
    seconds: float
    margin: float
    target: float
    """Half of an interval that is narrow enough, as a share."""
    seed: int
    patience: float = PATIENCE

    @classmethod
    def of(cls, expected_per_s: Mapping[str, float], params: Params, device: Device, seconds: float) -> Self:
        """Return the plan of a device's rows, the rest of it as params.yaml has it."""
        budget_ms, seed = params.serving.p99_ms[device], params.serving.seed
        return cls(expected_per_s, budget_ms, seconds, params.report.margin, params.timing.target_interval, seed)


@dataclass
class Tried:
    """What a row did so far: its processes look together for the rate that it holds, then each goes by itself."""

    search: Search
    ends: Figures = field(default_factory=dict)
    trials: dict[int, list[RatePoint]] = field(default_factory=dict)
    own: dict[int, Search] = field(default_factory=dict)

    @property
    def points(self) -> list[RatePoint]:
        """All trials, in their order."""
        return sorted((point for own in self.trials.values() for point in own), key=attrgetter("number"))

    def search_of(self, process: int) -> Search:
        """Return what chooses the next rate of a process."""
        if not self.search.is_bracketed or self.search.is_over:
            return self.search
        return self.own.setdefault(process, copy(self.search))

    def put(self, process: int, point: RatePoint) -> None:
        """Take a trial of a process."""
        self.search_of(process).tell(point.keeps)
        self.trials.setdefault(process, []).append(point)

    def is_over(self) -> bool:
        """Tell whether a row holds no rate, or every one."""
        return self.search.is_over or any(search.is_over for search in self.own.values())


@dataclass
class LoadPasses:
    """The passes of one device's rows."""

    plan: LoadPlan
    bench: LoadBench
    clock: Callable[[], float] = time.monotonic
    is_cut: Callable[[], bool] = lambda: False
    on_pass: Callable[[int, float], None] = lambda _number, _left: None
    """Is told the number of a pass that ended, and the seconds that are left."""
    explore: Callable[[], None] = lambda: None
    """Looks for better settings before the passes, in a part of their time."""

    def __post_init__(self) -> None:
        expected = self.plan.expected_per_s
        self.rows = {name: Tried(Search(place_of(per_s))) for name, per_s in expected.items()}
        self.active = set(self.rows)
        self.number = 0
        self._beside: dict[str, str] = {}

    def run(self) -> None:
        """Run passes until everything asked is decided or narrow enough, the time is over, or they are cut short."""
        self._send_ends()
        began = self.clock()
        self.explore()
        explored = self.number
        while not self.is_cut() and self.active:
            self.number += 1
            self._run_pass(self.number, began if self.number > explored + 1 else math.inf)
            self.on_pass(self.number, began + self.plan.seconds - self.clock())
            if self.number - explored in LOOKS:
                self._look()
            self.active -= {name for name in self.active if self._is_over(name, began)}

    def alone(self, name: str, place: int) -> RatePoint | None:
        """Let a row try a rate in a pass of its own; None where it gave nothing, or the clock was set."""
        self.number += 1
        self.bench.begin_pass()
        found = self.bench.rate(name, self.turn(name), rate_at(place), self.plan.seed + self.number)
        if found is None or not self.bench.is_whole(self.number):
            return None
        return RatePoint.model_validate({**found, "number": self.number})

    def turn(self, name: str) -> int:
        """Return which process of a row is tried in this pass."""
        return (self.number - 1) % max(1, self.bench.processes(name))

    def join(self, name: str, search: Search, beside: str) -> None:
        """Let one more row take part, which is asked to be told from the one beside it."""
        self.rows[name], self._beside[name] = Tried(search), beside
        self.active.add(name)

    def _is_over(self, name: str, began: float) -> bool:
        row = self.rows[name]
        seconds = self.plan.seconds * (1 if any(point.keeps for point in row.points) else self.plan.patience)
        return row.is_over() or self.clock() - began >= seconds

    def _in_order(self, number: int) -> list[str]:
        names = sorted(self.active)
        return random.Random(f"{self.plan.seed} {number}").sample(names, len(names))

    def _send_ends(self) -> None:
        """Send both ends of each row's curve; begin no row above what it answers with no time to lose."""
        given: dict[str, Figures] = {}
        for _ in range(TRIES):
            self.bench.begin_pass()
            for name in self._in_order(0):
                found = None if self.is_cut() else self.bench.ends(name, self.plan.expected_per_s[name], self.plan.seed)
                if found is None:
                    self.active.discard(name)
                else:
                    given[name] = found
            if self.bench.is_whole(0):
                break
        else:
            self.active.clear()
        for name in self.active:
            self.rows[name].ends = given[name]
            most = given[name]["offline"]["per_s"]  # rows were seen to hold two thirds of it (GPU) to 1.7 times (CPU)
            self.rows[name].search = Search(place_of(min(self.plan.expected_per_s[name], most)))

    def _run_pass(self, number: int, began: float) -> None:
        given: list[tuple[str, int, Figures]] = []
        self.bench.begin_pass()
        for name in self._in_order(number):
            if self.is_cut() or self._is_over(name, began):
                continue
            process = self.turn(name)
            per_s = rate_at(self.rows[name].search_of(process).place)
            found = self.bench.rate(name, process, per_s, self.plan.seed + number)
            if found is None:
                self.active.discard(name)
            else:
                given.append((name, process, found))
        if self.bench.is_whole(number):
            for name, process, figures in given:
                self.rows[name].put(process, RatePoint.model_validate({**figures, "number": number}))

    def levels(self) -> dict[str, Level]:
        """Return where the rows with enough estimates stand, in seconds a request."""
        found = {name: seconds_a_request(row.trials, self.plan.budget_ms) for name, row in self.rows.items()}
        known = {name: own for name, own in found.items() if len(set().union(*own.values())) >= LEAST_PASSES}
        return dict(zip(known, panel_of([*known.values()]).levels(), strict=True)) if known else {}

    def _look(self) -> None:
        """Leave active what has too few estimates, and what may be the best and is not told from others that may."""
        levels = self.levels()
        names, few = list(levels), self.active - levels.keys()
        if not names:
            return
        asked = [pair for pair in self._beside.items() if levels.keys() >= set(pair)]
        pairs = frozenset((names.index(beside), names.index(name)) for name, beside in asked)
        _, [decided] = decide([Family([*levels.values()], pairs)], self.plan.margin, AT_A_LOOK)
        narrow = math.log1p(self.plan.target)
        wide = {place for pair, half in decided.open.items() if half > narrow for place in pair}
        beside = set(range(len(names))) - beaten(decided.verdicts) if few else set[int]()
        self.active &= few | {names[place] for place in wide | beside}
