"""Keep the last run under a name, to be compared with runs of other machines:  python run.py record NAME [--replace]

Copies what the comparison needs (a few hundred kB) to runs/NAME/; commit it.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from bench.core.errors import DataError, ParameterError, run_stage
from bench.core.files import replacing_folder
from bench.core.params import load_params
from bench.core.paths import ENVIRONMENT, EXPORT, METRICS, PARAMS, PEAKS, PROVENANCE, RUNS, SUMMARY_CSV
from bench.core.progress import say
from bench.summary.table_file import read_summary

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
KEPT = (ENVIRONMENT, PROVENANCE, EXPORT, PEAKS, SUMMARY_CSV, PARAMS)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="run.py record", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("--replace", action="store_true", help="write over a run of that name")
    given = parser.parse_args()
    record(given.name, replace=given.replace)


def record(name: str, replace: bool = False) -> Path:
    """Copy the last run to runs/`name` and return that folder.

    Raises ParameterError for a name that is not allowed or taken, DataError if there is no complete run to keep.
    """
    if not NAME.fullmatch(name):
        allowed = "a-z, 0-9, and after the first character also . _ -; at most 63 characters"
        raise ParameterError(f"record: got the name {name!r}, allowed: {allowed}")
    target = RUNS / name
    if target.exists() and not replace:
        raise ParameterError(f"record: {target.as_posix()} is there already; take another name, or add --replace")
    check_complete()
    with replacing_folder(target) as folder:
        for source in KEPT:
            shutil.copyfile(source, folder / source.name)
        for variant in load_params().all_variants():
            shutil.copytree(METRICS / variant, folder / "metrics" / variant)
    say(f"kept in {target.as_posix()}; commit it")
    return target


def check_complete() -> None:
    """Raise DataError unless every configured row is in results/summary.csv and every file that is kept is there."""
    for path in KEPT:
        if not path.exists():
            raise DataError(f"{path.as_posix()} is missing: `dvc repro` writes it, then record again")
    params = load_params()
    wanted = {(variant, size) for variant in params.all_variants() for size in params.batch_sizes}
    table = read_summary()
    there = set(zip(table["variant"], table["batch_size"], strict=True))
    if wanted != there:
        raise DataError(
            f"{SUMMARY_CSV.as_posix()} is of other parameters than params.yaml: `dvc repro`, then record again"
        )


if __name__ == "__main__":
    run_stage(main)
