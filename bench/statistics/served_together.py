"""Rows that were served in the same passes, with their own settings and with those that a search found best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.core.reports import Served, ServingProcess, ServingSettings
from bench.statistics.blocks import Level, estimate
from bench.statistics.decisions import AT_THE_END, Family, decide
from bench.statistics.intervals import Interval, verdict
from bench.statistics.rate_curve import by_process, panel_of, seconds_a_request, sustained_per_s


@dataclass(frozen=True)
class Together:
    """Where rows of one session stand, in seconds a request, by their keys."""

    levels: dict[str, Level]
    searched: dict[str, Level]  # with the settings that a search found best
    comparisons: int  # among so many the error is shared

    def gain(self, key: str) -> Interval | None:
        """Return how many times the requests a row sustains with the settings that a search found best."""
        found = estimate(self.levels[key], self.searched[key])
        return found.interval(self.comparisons) if found else None


def together(reports: Mapping[str, Served], margin: float) -> Together | None:
    """Return where the rows of one session stand; None where no two trials of any straddle what it sustains."""
    in_passes = {key: each for key, each in reports.items() if each.session and each.session.passes}  # not in rounds
    own = {key: _seconds(each.processes, each.budget_ms) for key, each in in_passes.items()}
    own = {key: seconds for key, seconds in own.items() if seconds}
    found = {key: _seconds(each.search.processes, each.budget_ms) for key, each in reports.items() if each.search}
    found = {key: seconds for key, seconds in found.items() if seconds and key in own}
    if not own:
        return None
    levels = panel_of([*own.values(), *found.values()]).levels()
    names = list(own)
    asked = frozenset((names.index(key), len(own) + place) for place, key in enumerate(found))
    comparisons, _ = decide([Family(levels, asked)], margin, AT_THE_END)
    return Together(
        dict(zip(own, levels, strict=False)), dict(zip(found, levels[len(own) :], strict=True)), comparisons
    )


def _seconds(processes: Sequence[ServingProcess], budget_ms: float) -> dict[int, dict[int, float]]:
    return seconds_a_request(by_process(processes), budget_ms)


@dataclass(frozen=True)
class Held:
    """Requests a second within the budget; `settings`: those that proved to sustain more than the row's own."""

    per_s: float
    settings: ServingSettings | None = None


def held_by(reports: Mapping[str, Served], margin: float) -> dict[str, Held]:
    """Return what each row sustains that sustains anything, with its best settings."""
    proved = proved_settings({key: each for key, each in reports.items() if each.status == "measured"}, margin)
    rates = {key: held_per_s(report, key in proved) for key, report in reports.items()}
    return {key: Held(per_s, proved.get(key)) for key, per_s in rates.items() if per_s}


def held_per_s(report: Served, is_searched: bool = False) -> float | None:
    """Return the rate that a report shows within its budget, with a search's settings; None if it shows none."""
    processes = report.search.processes if report.search and is_searched else report.processes
    return sustained_per_s(by_process(processes), report.budget_ms) if report.status == "measured" else None


def proved_settings(reports: Mapping[str, Served], margin: float) -> dict[str, ServingSettings]:
    """Return the settings that a search found and the passes proved to sustain more, by the rows' keys."""
    sessions: dict[str, dict[str, Served]] = {}
    for key, report in reports.items():
        if report.session:
            sessions.setdefault(report.session.id, {})[key] = report
    proved: dict[str, ServingSettings] = {}
    for own in sessions.values():
        found = together(own, margin)
        for key in found.searched if found else ():
            search = own[key].search
            if found and search and search.settings and verdict(found.gain(key), margin) == "faster":
                proved[key] = search.settings
    return proved
