"""Labelled sentences as they lie between the stages: a CSV with `sentence,label`."""

from __future__ import annotations

import csv
from pathlib import Path

from bench.core import schemas
from bench.core.files import damaged, read_csv

Labelled = tuple[str, int]
MEND = "`dvc repro -f download` renews it"


def write_sentences(path: Path, labelled: list[Labelled]) -> None:
    """Write `sentence,label` rows, UTF-8, Unix line ends."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("sentence", "label"))
        writer.writerows(labelled)


def read_sentences(path: Path) -> list[Labelled]:
    """Read what `write_sentences` wrote; DataError if it is missing, damaged or empty."""
    rows = read_csv(path, MEND, schemas.Labelled)
    if not rows:
        raise damaged(path, "no sentences", MEND)
    return [(row["sentence"], row["label"]) for row in rows]
