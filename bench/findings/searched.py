"""What a search for better settings tried of rows under load, and what the best ones sustain beside a row's own."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

from bench.core.reports import ServingSearch, ServingSettings, SettingsTrial
from bench.findings.models import Searched, TriedSettings
from bench.summary.table_file import Rows, known


def searched(rows: Rows) -> Iterator[Searched]:
    """Yield what was found for each row that was searched."""
    for row in rows:
        if found := known(row, "search"):
            yield _searched(row, found.report, found.gain)


def _searched(row: Any, search: ServingSearch, gain: Any) -> Searched:
    return Searched(
        variant=row.variant,
        settings=search.settings.text() if search.settings else None,
        requests_per_s=known(row, "searched_per_s"),
        low=known(row, "searched_per_s_low"),
        high=known(row, "searched_per_s_high"),
        gain=gain,
        ended=search.ended or None,
        reason=search.reason or None,
        tried=[_tried(settings, list(trials)) for settings, trials in groupby(search.trials, attrgetter("settings"))],
    )


def _tried(settings: ServingSettings, trials: list[SettingsTrial]) -> TriedSettings:
    rates = [(trial.rate, trial.keeps) for trial in trials if trial.rate is not None]
    return TriedSettings(
        settings=settings.text(),
        met_per_s=max((rate for rate, keeps in rates if keeps), default=None),
        missed_per_s=min((rate for rate, keeps in rates if not keeps), default=None),
        reason=next((trial.reason for trial in trials if trial.reason), None),
    )
