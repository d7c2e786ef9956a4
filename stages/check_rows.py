"""End with an error if a row failed or is wrong in fp32, after everything else was made: artifacts/checked.

What failed is tried again by the next `dvc repro`.  That a lower precision loses too much is a finding, and no error.
"""

from pathlib import Path
from typing import Any

import _project  # noqa: F401

from bench.core.errors import WorkerError, run_stage
from bench.core.files import read_csv, read_model, remove, write_text
from bench.core.paths import CHECKED, SAMPLES, SERVED, SERVED_TEXT, SERVING_CSV, SUMMARY_CSV, SUMMARY_TABLE
from bench.core.reports import Report, Served, ServedText
from bench.core.schemas import ServingRow, SummaryRow
from bench.core.staleness import renew_retry_token


def main() -> None:
    failures: dict[str, str] = {}
    for key, runtime in failed_rows(SUMMARY_CSV, SummaryRow).items():
        path = SAMPLES / f"{key}.json"
        failures[key] = read_model(path, f"`dvc repro` measures {key} again", Report).failure
        if runtime == "tensorrt":
            renew_retry_token(key)
        remove(path)
        remove(path.with_suffix(".csv"))
    for key in failed_rows(SERVING_CSV, ServingRow):
        path = SERVED / f"{key}.json"
        failure = read_model(path, f"`dvc repro -f serve@{key}` serves it again", Served).failure
        failures[f"{key} under load"] = failure.removeprefix(f"{key}: ")
        remove(path)
    failures |= failed_from_text()
    forget_cut_rows()
    messages = [message(failures)] if failures else []
    if wrong := wrong_rows():
        messages.append(
            f"wrong in fp32, which gives no row the right to other answers: {', '.join(wrong)}; the reasons are in "
            f"{SUMMARY_TABLE.as_posix()}: mend the runtime, or take the rows out of params.yaml"
        )
    if messages:
        raise WorkerError("\n       ".join(messages))
    write_text(CHECKED, "no row failed\n")


def failed_from_text() -> dict[str, str]:
    """Return why rows failed from text; what failed or was cut short is forgotten, so that it is served again."""
    failures: dict[str, str] = {}
    for path in sorted(SERVED_TEXT.glob("*.json")):
        report = read_model(path, f"`dvc repro -f serve_text@{path.stem}` serves it again", ServedText)
        if report.status == "failed":
            failures[f"{report.variant} from text"] = report.failure.removeprefix(f"{report.variant}: ")
        if report.status == "failed" or (report.session and report.session.cut_short):
            remove(path)
    return failures


def forget_cut_rows() -> None:
    """Let the next `dvc repro` time again what Ctrl-C cut short; the results stay as they are."""
    timed, served = cut_rows(SUMMARY_CSV, SummaryRow), cut_rows(SERVING_CSV, ServingRow)
    for key in timed:
        remove(SAMPLES / f"{key}.json")
        remove(SAMPLES / f"{key}.csv")
    for key in served:
        remove(SERVED / f"{key}.json")
    if timed:
        print(f"cut short, and timed again by the next `dvc repro`: {', '.join(timed)}")
    if served:
        print(f"cut short, and served again by the next `dvc repro`: {', '.join(served)}")


def cut_rows(path: Path, schema: Any) -> list[str]:
    """Return the variants of a table of results/ whose measuring was cut short."""
    rows = read_csv(path, "`dvc repro -f summarize` writes it anew", schema)
    return list(dict.fromkeys(row["variant"] for row in rows if row.get("cut_short")))


def failed_rows(path: Path, schema: Any) -> dict[str, str]:
    """Return the variants with a failed row in a table of results/, and the runtime of each."""
    rows = read_csv(path, "`dvc repro -f summarize` writes it anew", schema)
    return {row["variant"]: row["runtime"] for row in rows if row["status"] == "failed"}


def wrong_rows() -> list[str]:
    """Return the fp32 variants that were timed, or served, and are rejected for what they gave."""
    found: dict[str, None] = {}
    for path, schema, given in ((SUMMARY_CSV, SummaryRow, "p50_ms"), (SERVING_CSV, ServingRow, "requests")):
        for row in read_csv(path, "`dvc repro -f summarize` writes it anew", schema):
            if row["status"] == "rejected" and row["precision"] == "fp32" and given in row:
                found[row["variant"] + (" (under load)" if path == SERVING_CSV else "")] = None
    return list(found)


def message(failures: dict[str, str]) -> str:
    """Return the message for rows that failed, each with all that is known."""
    rows = "1 row" if len(failures) == 1 else f"{len(failures)} rows"
    lines = [
        f"{rows} failed; the others are in {SUMMARY_TABLE.as_posix()}, and `dvc repro` tries the failed ones again"
    ]
    lines += [f"- {text if text.startswith(key) else f'{key}: {text}'}" for key, text in failures.items()]
    return "\n       ".join(lines)


if __name__ == "__main__":
    run_stage(main)
