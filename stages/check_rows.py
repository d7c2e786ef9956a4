"""End with an error if a row failed, after everything else was made: artifacts/checked.

What failed is tried again by the next `dvc repro`.
"""

from __future__ import annotations

import _project  # noqa: F401

from bench.core.errors import WorkerError, run_stage
from bench.core.files import read_model, remove, write_text
from bench.core.params import load_params
from bench.core.paths import CHECKED, SAMPLES, SERVED, SUMMARY_TABLE
from bench.core.reports import Report, Served
from bench.core.staleness import count_attempt


def main() -> None:
    params = load_params()
    failures: dict[str, str] = {}
    for key in params.all_variants():
        path = SAMPLES / key
        report = read_model(path.with_suffix(".json"), f"`dvc repro` measures {key} again", Report)
        if report.failure:
            failures[key] = report.failure
            if key in params.tensorrt_variants:
                count_attempt(key)
            for suffix in (".csv", ".json"):
                remove(path.with_suffix(suffix))
    for key in params.serving.variants:
        served = read_model(SERVED / f"{key}.json", f"`dvc repro -f serve@{key}` serves it again", Served)
        if served.failure:
            failures[f"{key} under load"] = served.failure.removeprefix(f"{key}: ")
            remove(SERVED / f"{key}.json")
    if failures:
        raise WorkerError(told(failures))
    write_text(CHECKED, "no row failed\n")


def told(failures: dict[str, str]) -> str:
    """Return the message for rows that failed, each with all that is known."""
    rows = "1 row" if len(failures) == 1 else f"{len(failures)} rows"
    lines = [
        f"{rows} failed; the others are in {SUMMARY_TABLE.as_posix()}, and `dvc repro` tries the failed ones again"
    ]
    lines += [f"- {text if text.startswith(key) else f'{key}: {text}'}" for key, text in failures.items()]
    return "\n       ".join(lines)


if __name__ == "__main__":
    run_stage(main)
