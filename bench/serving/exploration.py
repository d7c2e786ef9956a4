"""The settings that a row is served with, searched: in flight, batch limit, instances.

As Triton's Model Analyzer does in its quick mode, one setting at a time is moved while that gains.  Candidates are
tried once each, all at one rate: the lowest that the settings so far missed.  One that meets the SLO there sustains
more, and the rate climbs to the lowest that it misses.  A single trial may err: the best settings are measured in the
passes afterwards, beside the row's own.

Passes come first: the search takes what time they leave once each row has an interval, and a third at most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from bench.core.interrupt import CUT_SHORT
from bench.core.params import Device, Params
from bench.core.reports import RatePoint, ServingSearch, ServingSettings, SettingsTrial
from bench.machine.cores import thread_count
from bench.serving.passes import LoadBench, LoadPasses
from bench.serving.search import Search

SHARE = 1 / 3
"""Of the time that rows are served, at most."""
PASSES, LONGER = 12, 1.25
"""So many passes, each so much longer than planned, give most rows an interval: five find two neighbouring rates, and
of the rest every second or third trial straddles what its process holds."""
SETTINGS = ("in_flight", "max_batch", "instances")
"""In the order in which they are moved: those that need no other process first."""
IN_FLIGHT = (1, 2)
INSTANCES = (1, 2, 4)
FAILED = "a trial gave nothing"
NO_TIME = "the passes need all of the time; a longer `serving.minutes` leaves some"
NO_EDGE = "the SLO was met at every rate that was tried, or at none"


def default_settings(params: Params, device: Device) -> ServingSettings:
    """Return the settings of params.yaml."""
    return ServingSettings(
        in_flight=params.serving.in_flight[device],
        max_batch=params.max_batch(device),
        instances=params.serving.instances,
        cpu_threads=thread_count(params.timing.cpu_threads) if device == "cpu" else None,
    )


def search_seconds(seconds: float, pass_seconds: float) -> float:
    """Return for how long settings may be searched; `pass_seconds`: one trial of each row, as planned."""
    return max(0.0, min(SHARE * seconds, seconds - PASSES * LONGER * pass_seconds))


@dataclass(frozen=True)
class Space:
    """The settings that a row may be served with: the batch limits, and on the CPU the threads of all its sessions."""

    max_batches: Sequence[int]
    cpu_threads: int | None

    def directions(self, around: ServingSettings, name: str) -> list[list[ServingSettings]]:
        """Return the settings below some and those above by the setting of a name, the nearest first."""
        of_threads = [count for count in INSTANCES if self.cpu_threads is None or count <= self.cpu_threads]
        allowed = {"in_flight": IN_FLIGHT, "max_batch": self.max_batches, "instances": of_threads}[name]
        own = getattr(around, name)
        both = [value for value in reversed(allowed) if value < own], [value for value in allowed if value > own]
        return [[self._with(around, name, value) for value in values] for values in both]

    def _with(self, around: ServingSettings, name: str, value: int) -> ServingSettings:
        threads = self.cpu_threads if name == "instances" else None
        return around.model_copy(update={name: value} | ({"cpu_threads": threads // value} if threads else {}))


@dataclass
class Climb:
    """The best settings so far, and where they stand: a bracketed search."""

    settings: ServingSettings
    search: Search
    meets: Callable[[ServingSettings, int], bool]
    """The SLO, at a place of the grid; what it raises ends the climb."""
    tried: set[ServingSettings] = field(default_factory=set)

    def run(self, space: Space) -> None:
        """Move setting after setting until none gains."""
        self.tried.add(self.settings)
        while sum(any(map(self._goes, space.directions(self.settings, name))) for name in SETTINGS):
            pass

    def _goes(self, candidates: Sequence[ServingSettings]) -> bool:
        """Go in one direction as long as it gains; tell whether it did."""
        before = self.settings
        for candidate in candidates:
            if candidate in self.tried or not self._gains(candidate):
                break
        return self.settings != before

    def _gains(self, candidate: ServingSettings) -> bool:
        self.tried.add(candidate)
        place = self.search.missed
        if not self.meets(candidate, place):
            return False
        self.settings, self.search = candidate, Search(place)
        self.search.tell(True)
        while not self.search.is_bracketed and not self.search.is_over:
            self.search.tell(self.meets(candidate, self.search.place))
        return True


class SearchBench(LoadBench, Protocol):
    """A bench whose rows can be served with other settings."""

    def space(self, name: str) -> tuple[ServingSettings, Space]: ...  # the settings of a row, and those it may have

    def served_with(self, name: str, settings: ServingSettings, seconds: float) -> tuple[str, str]:
        """Return the name of a row with other settings that runs, else why none does; `seconds`: left to start it."""

    def keep(self, name: str, best: str, seconds: float) -> None: ...  # ends what was started for a row but for `best`


class Over(Exception):
    """Why no further trial is made."""


@dataclass
class Exploration:
    """The search for better settings of all rows, those first that should sustain most."""

    passes: LoadPasses
    bench: SearchBench
    seconds: float
    searches: dict[str, ServingSearch] = field(default_factory=dict)
    best: dict[str, str] = field(default_factory=dict)
    """The name that a row with better settings has in the passes."""

    def run(self) -> None:
        """Search row after row; those with better settings take part in the passes once more, with these."""
        self._until, self._longest = self.passes.clock() + self.seconds, 0.0
        for name in sorted(self.passes.active, key=lambda name: (-self.passes.rows[name].search.first, name)):
            try:
                self._check()
                self.searches[name] = self._searched(name)
            except Over as reason:
                self.searches[name] = ServingSearch(ended=f"not searched: {reason}")

    def _searched(self, name: str) -> ServingSearch:
        settings, space = self.bench.space(name)
        trials, ended = list[SettingsTrial](), ""
        climb = Climb(settings, self.passes.rows[name].search, partial(self._meets, name, trials))
        try:
            if ended := self._bracketed(name, settings, trials):
                return ServingSearch(trials=trials, ended=ended)
            climb.run(space)
        except Over as reason:
            ended = str(reason)
        found = ServingSearch(trials=trials, ended=ended)
        best = ""
        if climb.settings != settings:
            best, fault = self.bench.served_with(name, climb.settings, 0.0)
            found = found.model_copy(update={"settings": climb.settings, "reason": fault})
        self.bench.keep(name, best, self._left())
        if best:
            self.passes.join(best, climb.search, beside=name)
            self.best[name] = best
        return found

    def _bracketed(self, name: str, settings: ServingSettings, trials: list[SettingsTrial]) -> str:
        """Find the rate that a row holds with its own settings; return why there is none."""
        row = self.passes.rows[name]
        while not row.search.is_bracketed and not row.search.is_over:
            point = self._trial(name, row.search.place)
            if point is None:
                return FAILED
            row.put(self.passes.turn(name), point)
            trials.append(_told(settings, point))
        return NO_EDGE if row.search.is_over else ""

    def _meets(self, name: str, trials: list[SettingsTrial], settings: ServingSettings, place: int) -> bool:
        self._check()
        candidate, reason = self.bench.served_with(name, settings, self._left())
        point = self._trial(candidate, place) if candidate else None
        trials.append(_told(settings, point) if point else SettingsTrial(settings=settings, reason=reason or FAILED))
        return point is not None and point.keeps

    def _trial(self, name: str, place: int) -> RatePoint | None:
        self._check()
        began = self.passes.clock()
        point = self.passes.alone(name, place)
        self._longest = max(self._longest, self.passes.clock() - began)
        return point

    def _left(self) -> float:
        """Return the seconds that are left for anything but one more trial."""
        return self._until - self.passes.clock() - self._longest

    def _check(self) -> None:
        if self.passes.is_cut():
            raise Over(CUT_SHORT)
        if not self.seconds:
            raise Over(NO_TIME)
        if self._left() < 0:
            raise Over("the time was over")


def _told(settings: ServingSettings, point: RatePoint) -> SettingsTrial:
    p99_ms = None if point.is_overloaded else point.p99_ms
    return SettingsTrial(settings=settings, rate=point.rate, p99_ms=p99_ms, keeps=point.keeps)
