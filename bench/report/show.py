"""Open the page of the last run in the browser:  python run.py show"""

from __future__ import annotations

import webbrowser

from bench.core.errors import DataError, run_stage
from bench.core.paths import SUMMARY_CSV
from bench.report.page.write import PAGE


def main() -> None:
    if not PAGE.exists():
        raise DataError(f"{PAGE.as_posix()} is missing: `python run.py` measures and writes it")
    address = PAGE.resolve().as_uri()
    if SUMMARY_CSV.stat().st_mtime > PAGE.stat().st_mtime + 1:
        print(f"{SUMMARY_CSV.as_posix()} is newer than the page: `python run.py dvc repro render` brings it up to date")
    print(address if webbrowser.open(address) else f"no browser could be started here; open {address}")


if __name__ == "__main__":
    run_stage(main)
