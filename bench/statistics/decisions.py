"""Which comparisons are decided, and among how many the error of 5% is shared.

Every pair of rows at a batch size may turn out to be the one that matters: the best is picked by the data, so that a
constant for comparisons with a known best (Hsu 1984) or a known control (Dunnett 1955) is too small where several rows
are equally good.  All pairs are counted at first, then step by step only those that are still open (Holm 1979), and
of these only what is asked: a row against the baseline, against its partners (another precision, padding or runtime),
and two rows of which each may be the best.

Half of the 5% is for the verdicts at the end, half for the looks before it, in equal shares: what a look decides may
end the timing of a row (Pocock 1977 shares out the error in this way).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.statistics.blocks import Level, estimate
from bench.statistics.intervals import CONFIDENCE, Verdict, around, verdict

AT_THE_END = 2
"""The verdicts at the end have the error's half: each is one of twice as many comparisons."""
MOST_LOOKS = 10
AT_A_LOOK = 2 * MOST_LOOKS
Pair = tuple[int, int]


@dataclass(frozen=True)
class Family:
    """The rows of one batch size, and the pairs of their places that are asked whichever is the best.

    `is_all`: nothing else is asked, so that only these share the error.
    """

    levels: Sequence[Level]
    asked: frozenset[Pair]
    is_all: bool = False


@dataclass(frozen=True)
class Decisions:
    """The verdict of each pair of a family, the first against the second, and what is open of what is asked."""

    verdicts: dict[Pair, Verdict]
    open: dict[Pair, float]
    """Half of the interval of each, as a logarithm; infinite where there is none yet."""


def beaten(verdicts: Mapping[Pair, Verdict]) -> set[int]:
    """Return the places of rows that another one surely beats."""
    decided = {pair: said for pair, said in verdicts.items() if said in ("faster", "slower")}
    return {second if said == "faster" else first for (first, second), said in decided.items()}


class _Pairs:
    """All pairs of a family, as arrays."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.pairs = sorted(family.asked) if family.is_all else list(combinations(range(len(family.levels)), 2))
        found = [estimate(family.levels[second], family.levels[first]) for first, second in self.pairs]
        self.values = np.array([each.value if each else 0.0 for each in found])
        self.deviations = np.array([each.variance**0.5 if each else np.inf for each in found])
        self.freedoms = np.array([each.freedom if each else 1.0 for each in found])

    def half_widths(self, comparisons: int) -> NDArray[np.float64]:
        quantiles = special.stdtrit(self.freedoms, 1 - (1 - CONFIDENCE) / comparisons / 2)
        found: NDArray[np.float64] = quantiles * self.deviations
        return found

    def verdicts(self, comparisons: int, margin: float) -> list[Verdict]:
        halves = self.half_widths(comparisons)
        return [verdict(around(value, half), margin) for value, half in zip(self.values, halves, strict=True)]

    def open(self, verdicts: Sequence[Verdict]) -> list[Pair]:
        """Return the open pairs of what is asked: those of its family, and of two rows that may both be the best."""
        said = dict(zip(self.pairs, verdicts, strict=True))
        lost = beaten(said)
        return [
            pair
            for pair, verdict in said.items()
            if verdict == "inconclusive" and (pair in self.family.asked or lost.isdisjoint(pair))
        ]


def decide(families: Sequence[Family], margin: float, sharing: int) -> tuple[int, list[Decisions]]:
    """Return among how many comparisons the error is shared, and what is decided of each family.

    `margin`: the difference that decides nothing (0.02: 2%).  `sharing`: AT_THE_END or AT_A_LOOK.
    """
    all_pairs = [_Pairs(family) for family in families]
    count = sum(len(each.pairs) for each in all_pairs)
    while True:
        shared = max(1, count) * sharing
        verdicts = [each.verdicts(shared, margin) for each in all_pairs]
        opened = [each.open(said) for each, said in zip(all_pairs, verdicts, strict=True)]
        left = sum(map(len, opened))
        if left >= count or left == 0:
            break
        count = left
    return shared, [_decisions(*each, shared) for each in zip(all_pairs, verdicts, opened, strict=True)]


def _decisions(pairs: _Pairs, verdicts: Sequence[Verdict], opened: Sequence[Pair], shared: int) -> Decisions:
    half = dict(zip(pairs.pairs, pairs.half_widths(shared), strict=True))
    return Decisions(dict(zip(pairs.pairs, verdicts, strict=True)), {pair: float(half[pair]) for pair in opened})
