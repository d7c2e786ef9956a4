"""SST-2 as the hub keeps it: a parquet file a split."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from bench.core.errors import DataError
from bench.core.sentences import Labelled


def read_parquet(path: Path, limit: int | None = None) -> list[Labelled]:
    """Read `sentence` and `label` of an SST-2 parquet file; DataError if it is none."""
    import pandas as pd

    try:
        table = pd.read_parquet(path, columns=["sentence", "label"])
    except (ValueError, OSError, KeyError) as problem:
        raise DataError(f"{path.name} is no SST-2 parquet file: {problem}") from None
    rows = zip(table["sentence"].astype(str), table["label"].astype(int), strict=True)
    return [(sentence.strip(), label) for sentence, label in islice(rows, limit)]
