"""Serve a variant: the first serving stage of a `dvc repro` runs the passes, the later ones take their report."""

from typing import NamedTuple

from bench.core.errors import BenchError
from bench.core.files import in_one_line, write_json
from bench.core.params import Device, Params
from bench.core.paths import FAST_TOKENIZER, SAMPLES, SERVED
from bench.core.progress import log
from bench.core.reports import Report, Served, rate_text
from bench.core.schemas import ServingStatus, Status, read_environment
from bench.inputs.texts import why_not_fast
from bench.machine.cores import tokenizer_threads
from bench.serving.jobs import LEAST_QUERIES
from bench.serving.search import expected_rate
from bench.timing.repro import current_request, read_report, served_place

LOADGEN = "mlcommons_loadgen"
NO_LOADGEN = (
    "mlcommons-loadgen is not installed; there are wheels for Linux and Windows on x86-64 and macOS on arm64, "
    "for Python 3.11 to 3.13"
)
TRIALS = 6
"""A row of which not even so many trials, one after another, would fit into `serving.minutes` is not tried."""
LOWEST_STATUS: tuple[Status, ...] = ("measured", "out_of_memory", "rejected", "failed", "skipped", "off")
"""Of the batch sizes of a row, the first of these that one has says why it is not served."""


def serve_variant(key: str, params: Params) -> None:
    """Serve a variant and write artifacts/served/KEY.json; see `served_report`."""
    report = served_report(key, params)
    write_json(SERVED / f"{key}.json", report.as_dict())
    log(f"  {key} under load: {report.status}{': ' + report.reason if report.reason else ''}")


def served_report(key: str, params: Params) -> Served:
    """Return what a variant sustained, or why it was not served; WorkerError if what it is served with was edited."""
    expected, request = expected_of(key, params), current_request()
    known = expected if isinstance(expected, Served) else None

    def run() -> None:
        from bench.serving.group import serve_together  # what statistics cost to import, no stage pays that only takes

        serve_together(key, params, request)

    return served_place(key, params.variant(key)).take(known, request, run)


class Expected(NamedTuple):
    """The requests a second that a row should hold, and what its closed loop did: most samples a second, batch size."""

    per_s: float
    closed_loop_per_s: float
    largest_batch: int


def expected_of(key: str, params: Params) -> Expected | Served:
    """Return what a variant should hold, or the report of one that, as is known before any load, cannot be served."""
    variant = params.variant(key)
    serving, device = params.serving, variant.device
    report = read_report(SAMPLES / f"{key}.json", Report)
    measured = {int(size): cell for size, cell in report.measured().items()} if report else {}
    if not any(size <= params.max_batch(device) for size in measured):
        return without_load(device, params, *_why_not_timed(report))
    if read_environment()["versions"].get(LOADGEN) is None:
        return without_load(device, params, "skipped", NO_LOADGEN)
    if serving.input == "text" and (reason := why_not_fast(FAST_TOKENIZER)):
        return without_load(device, params, "skipped", reason)
    mean_ms = {size: cell.mean_ms for size, cell in measured.items()}
    budget_ms = serving.p99_ms[device]
    rate = expected_rate(mean_ms, params.max_batch(device), budget_ms)
    if not rate:
        reason = f"holds no rate within {budget_ms:g} ms: a request alone takes {mean_ms[min(mean_ms)]:.2f} ms"
        return without_load(device, params, "over_budget", reason)
    if reason := why_too_slow(rate, serving.minutes):
        return without_load(device, params, "skipped", reason)
    most = max(cell.samples_per_s for size, cell in measured.items() if size <= params.max_batch(device))
    return Expected(rate, most, max(measured))


def why_too_slow(per_s: float, minutes: float) -> str:
    """Return why a row that should hold so many requests a second is not tried; empty if it is."""
    seconds = LEAST_QUERIES / per_s
    if seconds * TRIALS <= 60 * minutes:
        return ""
    return (
        f"too slow to be tried: it should hold about {rate_text(per_s)} requests/s, of which a trial needs "
        f"{LEAST_QUERIES}: {seconds:.0f} s, and {TRIALS} trials more than serving.minutes = {minutes:g}"
    )


def _why_not_timed(report: Report | None) -> tuple[Status, str]:
    if report is None or not report.cells:
        raise BenchError("no figures of the closed loop: `dvc repro` times the row first")
    cell = min(report.cells.values(), key=lambda cell: LOWEST_STATUS.index(cell.status))
    return cell.status, f"not timed: {cell.reason}" if cell.reason else ""


def without_load(device: Device, params: Params, status: ServingStatus, reason: str = "") -> Served:
    """Return the report of a row that was not served; what failed in one line, and as it is."""
    serving, has_failed = params.serving, status == "failed"
    return Served(
        status=status,
        reason=in_one_line(reason) if has_failed else reason,
        failure=reason if has_failed else "",
        processes=[],
        budget_ms=serving.p99_ms[device],
        max_batch=params.max_batch(device),
        max_delay_ms=serving.max_delay_ms,
        instances=serving.instances,
        in_flight=serving.in_flight[device],
        input=serving.input,
        tokenizer_threads=tokenizer_threads(params, device) if serving.input == "text" else None,
    )
