"""Labelled sentences as they lie between the stages: a CSV with `sentence,label`."""

from __future__ import annotations

import csv
from pathlib import Path

Labelled = tuple[str, int]


def write_sentences(path: Path, labelled: list[Labelled]) -> None:
    """Write `sentence,label` rows, UTF-8, Unix line ends."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("sentence", "label"))
        writer.writerows(labelled)


def read_sentences(path: Path) -> list[Labelled]:
    """Read what `write_sentences` wrote."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["sentence"], int(row["label"])) for row in csv.DictReader(stream)]
