"""Sentences as they lie between the stages: a CSV with `sentence,pair,label`, empty where there is no pair or label."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple, NotRequired

from typing_extensions import TypedDict

from bench.core.files import damaged, read_csv
from bench.core.schemas import Count

MEND = "`dvc repro -f download` renews it"


class Labelled(NamedTuple):
    """A sentence, the number of its label, and the second sentence of a pair."""

    sentence: str
    label: int | None
    pair: str | None = None


class SentenceRow(TypedDict):
    """A row of artifacts/sentences/evaluation.csv and calibration.csv."""

    sentence: str
    pair: NotRequired[str]
    label: NotRequired[Count]


def write_sentences(path: Path, labelled: list[Labelled]) -> None:
    """Write `sentence,pair,label` rows, UTF-8, Unix line ends."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("sentence", "pair", "label"))
        writer.writerows((row.sentence, row.pair or "", "" if row.label is None else row.label) for row in labelled)


def read_sentences(path: Path) -> list[Labelled]:
    """Read what `write_sentences` wrote; DataError if it is missing, damaged or empty."""
    rows = read_csv(path, MEND, SentenceRow)
    if not rows:
        raise damaged(path, "no sentences", MEND)
    return [Labelled(row["sentence"], row.get("label"), row.get("pair")) for row in rows]
