"""The order in which processes are timed: rounds, in each of which every row gets one process, in random order.

Timed one variant after another, a machine that changes speed in between makes equal rows differ, and nothing within a
row shows it.  In rounds such a change falls on all rows alike (Abedi and Brecht 2017: randomized multiple interleaved
trials).
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Result(Protocol):
    """What a process gave."""

    def is_measured(self) -> bool: ...


R = TypeVar("R", bound=Result)
RunRound = Callable[[int, list[str]], Iterable[tuple[str, R]]]
"""Runs one process of each named row in this order; yields each name with its result."""
StillWide = Callable[[dict[str, list[R]]], list[str]]
"""Returns the rows that need another round, from all results so far; those first that need it most."""


@dataclass(frozen=True)
class Plan:
    """How many rounds there are: at least `least`; more, up to `most`, while they fit into `more_seconds`."""

    least: int
    most: int
    more_seconds: float
    seed: int


@dataclass
class Rounds(Generic[R]):
    """What was timed: each row's results, and the order within each round."""

    results: dict[str, list[R]] = field(default_factory=dict)
    order: list[list[str]] = field(default_factory=list)


def run_in_rounds(
    names: Sequence[str],
    run_round: RunRound[R],
    still_wide: StillWide[R],
    plan: Plan,
    clock: Callable[[], float] = time.monotonic,
) -> Rounds[R]:
    """Run the rounds of a plan; a row whose process was not `measured` gets no further one.

    A further round holds as many of the rows that need it as fit into what is left of the time, by what each one's last
    process took.
    """
    rounds: Rounds[R] = Rounds({name: [] for name in names})
    took: dict[str, float] = {}
    left = plan.more_seconds
    for number in range(plan.most):
        waiting = list(names) if number < plan.least else _that_fit(still_wide(rounds.results), took, left)
        active = [name for name in waiting if all(result.is_measured() for result in rounds.results[name])]
        if not active:
            break
        order = random.Random(f"{plan.seed} {number}").sample(active, len(active))
        rounds.order.append(order)
        began = clock()
        for name, result in run_round(number, order):
            rounds.results[name].append(result)
            took[name], began = clock() - began, clock()
        if number >= plan.least:
            left -= sum(took[name] for name in order)
    return rounds


def _that_fit(names: Sequence[str], took: dict[str, float], seconds: float) -> list[str]:
    """Return the first of these rows, as many as fit into a time."""
    total = itertools.accumulate(took[name] for name in names)
    return [name for name, until in zip(names, total, strict=True) if until <= seconds]
