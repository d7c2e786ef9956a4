"""Which row is taken home, with which settings, and what is known of it."""

from dataclasses import dataclass
from typing import NamedTuple

from bench.core.errors import DataError
from bench.core.files import file_sha256, read_json, read_model
from bench.core.params import Device, Params, Variant
from bench.core.paths import FINDINGS, SAMPLES, SERVED
from bench.core.reports import Report, Served
from bench.core.schemas import read_machine_id
from bench.deploy.settings import Figures
from bench.machine.cores import tokenizer_threads
from bench.serving.from_text import best_row, served_on, with_settings
from bench.statistics.served_together import Held, held_by, held_per_s
from bench.summary.serving import read_served_text

DEVICES: tuple[Device, ...] = ("cuda", "cpu")


class Choice(NamedTuple):
    """A row's name; `max_batch`: the batch size of a closed-loop pick."""

    key: str
    max_batch: int | None = None


@dataclass(frozen=True)
class Row:
    """A measured row; `params`: with the settings that it did best with; `served`: None without a rate under load."""

    key: str
    variant: Variant
    params: Params
    report: Report
    served: Served | None
    per_s: float | None
    max_batch: int

    @property
    def digest(self) -> str:
        """The SHA-256 of the row's report: under load, where it sustains a rate there."""
        return file_sha256((SERVED if self.served else SAMPLES) / f"{self.key}.json")

    def figures(self) -> Figures:
        cells, served = self.report.measured(), self.served
        text = read_served_text().get(self.key)
        is_own = text and served and served.session and text.tokens_session == served.session.id
        is_from_text = served is not None and served.input == "text"
        return Figures(
            budget_ms=served.budget_ms if served else None,
            tokens_per_s=None if is_from_text else self.per_s,
            text_per_s=self.per_s if is_from_text else held_per_s(text) if text and is_own else None,
            mean_ms={size: cell.mean_ms for size, cell in cells.items()},
            relative_error=max((cell.relative_error or 0.0 for cell in cells.values()), default=None),
            proof=next((cell.proof for cell in cells.values() if cell.proof), ""),
        )


def chosen(params: Params, asked: str = "") -> Row:
    """Return the row that is asked for, else the one that sustains most requests, else the best closed-loop one.

    ParameterError for a name that is none, DataError for a row that was not measured here.
    """
    choice = Choice(asked) if asked else _best(params)
    key, variant = choice.key, params.variant(choice.key)
    report = read_model(SAMPLES / f"{key}.json", f"`dvc repro -f infer@{key}` times it", Report)
    if not report.measured():
        found = next((f"{cell.status}: {cell.reason}" for cell in report.cells.values()), "not timed")
        raise DataError(f"{key} was not measured ({found}): name another row with --row")
    if report.session is None or report.session.machine != read_machine_id():
        raise DataError(f"{key} was measured on another machine: `python run.py` measures it on this one")
    served, held = _under_load(key, variant.device, params)
    if served and served.status in ("rejected", "failed"):
        raise DataError(f"{key} was {served.status} under load ({served.reason}): name another row with --row")
    settings = held.settings if held else None
    params = with_settings(params, variant.device, settings, tokenizer_threads(params, variant.device))
    most = choice.max_batch or params.max_batch(variant.device)
    return Row(key, variant, params, report, served if held else None, held.per_s if held else None, most)


def _under_load(key: str, device: Device, params: Params) -> tuple[Served | None, Held | None]:
    """Return what a row did under load, and what it sustains with its best settings; None where there is none."""
    reports = served_on(device, params)
    return reports.get(key), held_by(reports, params.report.margin).get(key)


def _best(params: Params) -> Choice:
    """Return the row that sustains most requests; where none does, the closed loop's pick."""
    best = max((best_row(device, params) for device in DEVICES), key=lambda row: row["requests_per_s"] or 0.0)
    if best["variant"]:
        return Choice(best["variant"])
    findings = read_json(FINDINGS, "`dvc repro summarize` writes it anew")
    cells = [pick["cell"] for panel in findings["panels"] for pick in panel["picks"] if pick["cell"]]
    if not cells:
        raise DataError("no row was measured within a latency budget: name one with --row")
    cell = max(cells, key=lambda cell: float(cell["samples_per_s"]))
    return Choice(cell["variant"], cell["batch_size"])
