"""End with an error if a row failed or is wrong in fp32, after everything else was made: artifacts/checked.

What failed is tried again by the next `dvc repro`.  That a lower precision loses too much is a finding, and no error.
"""

from collections.abc import Mapping
from pathlib import Path

import _project  # noqa: F401

from bench.core.errors import WorkerError, run_stage
from bench.core.files import read_model, remove, write_text
from bench.core.params import Params, load_params
from bench.core.paths import CHECKED, SAMPLES, SERVED, SERVED_TEXT, SUMMARY_TABLE
from bench.core.reports import Report, Served, ServedText
from bench.core.staleness import renew_retry_token


def main() -> None:
    params = load_params()
    timed = {
        key: read_model(SAMPLES / f"{key}.json", f"`dvc repro` measures {key} again", Report)
        for key in params.all_variants()
    }
    served = {
        key: read_model(SERVED / f"{key}.json", f"`dvc repro -f serve@{key}` serves it again", Served)
        for key in params.serving.variants
    }
    from_text = {
        path.stem: read_model(path, f"`dvc repro -f serve_text@{path.stem}` serves it again", ServedText)
        for path in sorted(SERVED_TEXT.glob("*.json"))
    }
    failures = forget(timed, SAMPLES, "timed")
    for key in params.tensorrt_variants.keys() & failures:
        renew_retry_token(key)
    under_load = forget(served, SERVED, "served")
    failures |= {f"{key} under load": failure.removeprefix(f"{key}: ") for key, failure in under_load.items()}
    for device, failure in forget(from_text, SERVED_TEXT).items():
        key = from_text[device].variant
        failures[f"{key} from text"] = failure.removeprefix(f"{key}: ")
    messages = [message(failures)] if failures else []
    if wrong := wrong_rows(params, timed, served):
        messages.append(
            f"wrong in fp32, which gives no row the right to other answers: {', '.join(wrong)}; the reasons are in "
            f"{SUMMARY_TABLE.as_posix()}: mend the runtime, or take the rows out of params.yaml"
        )
    if messages:
        raise WorkerError("\n       ".join(messages))
    write_text(CHECKED, "no row failed\n")


def forget(reports: Mapping[str, Report | Served], folder: Path, done: str = "") -> dict[str, str]:
    """Let the next `dvc repro` do again what failed or was cut short; return why reports of failed rows failed."""
    cut = [key for key, report in reports.items() if report.session and report.session.cut_short]
    failures = {
        key: report.failure
        for key, report in reports.items()
        if report.failure or (isinstance(report, Served) and report.status == "failed")
    }
    for key in {*cut, *failures}:
        remove(folder / f"{key}.json")
        remove(folder / f"{key}.csv")
    if cut and done:
        print(f"cut short, and {done} again by the next `dvc repro`: {', '.join(cut)}")
    return failures


def wrong_rows(params: Params, timed: Mapping[str, Report], served: Mapping[str, Served]) -> list[str]:
    """Return the fp32 variants that were timed, or served, and are rejected for what they gave."""
    found = [key for key, report in timed.items() if "rejected" in {cell.status for cell in report.timed().values()}]
    under_load = [key for key, report in served.items() if report.status == "rejected" and report.requests is not None]
    strict = {key for key, variant in params.all_variants().items() if variant.precision == "fp32"}
    return [*(key for key in found if key in strict), *(f"{key} (under load)" for key in under_load if key in strict)]


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
