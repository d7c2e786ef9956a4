"""A run as reports read it: its findings, the rows that they are of, and what it was measured on and with."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.core.files import damaged, read_json
from bench.core.params import ReportSettings, load_params
from bench.core.paths import EXPORT, LENGTHS, SERVING_CSV, SUMMARY_CSV
from bench.core.schemas import Export, Lengths, read_environment, read_provenance
from bench.findings.build import findings_of, read_findings
from bench.findings.models import Findings, Panel, Pick, Served, Sustained
from bench.findings.timed import memory_mib
from bench.report import words
from bench.report.columns import View
from bench.report.words import MISSING
from bench.summary.serving import Tables, read_serving
from bench.summary.table_file import MEND, Rows, grouped, is_missing, read_summary


@dataclass(frozen=True)
class Context:
    """The probe's findings, the model's provenance and how figures are judged."""

    environment: dict[str, Any]
    provenance: dict[str, Any]
    export: dict[str, Any]
    settings: ReportSettings
    lengths: dict[str, Any] = field(default_factory=dict)
    """metrics/lengths.json; empty where the lengths were not counted."""
    sequence_length: int = 0
    remarks: tuple[str, ...] = ()
    """Of params.yaml: what of its defaults was left out or cut."""

    @property
    def is_real(self) -> bool:
        """Whether the weights are the real model's."""
        return bool(self.provenance["model_is_real"])

    def stand_in(self) -> str:
        """Say in a heading that a stand-in was measured, and for which model; empty for a real one."""
        if self.is_real:
            return ""
        wanted = self.provenance.get("stands_for")
        return f" of a stand-in ({self.provenance['model']}{f', for {wanted}' if wanted else ''})"

    def what_holds(self) -> str:
        """Say for what the latencies of a stand-in hold."""
        wanted = self.provenance.get("stands_for")
        return f"latencies hold for {wanted or 'the real model'} if it has this architecture and these sizes"

    def model(self) -> str:
        """Say which model and sentences were measured."""
        return f"{self.provenance['model']}; {self.provenance['sentences']}"

    def length_text(self) -> str:
        """Say how long the sentences are and how much of a batch of fixed length is padding; empty if not known."""
        found = self.lengths
        if not found:
            return ""
        cut = f"; {found['at_limit']} of them fill the limit and may have been cut" if found["at_limit"] else ""
        spread = f"95% up to {found['p95_tokens']:.0f}, longest {found['longest_tokens']}"
        drawn = ""
        if found.get("drawn_sentences", found["sentences"]) < found["sentences"]:
            mean = f"drawn from all: {found['drawn_mean_tokens']:.1f} tokens on average"
            drawn = f"; each row is timed on at least {found['drawn_sentences']} of them, the same, {mean}"
        return (
            f"{found['sentences']} sentences of {found['mean_tokens']:.1f} tokens on average (median "
            f"{found['median_tokens']:g}, {spread}){cut}; padded to the sequence length, "
            f"{found['padding_share']:.0%} of a batch is padding{drawn}"
        )

    def length_warning(self) -> str:
        """Say that the lengths are not the user's: of the built-in sentences, or counted by a stand-in's tokenizer."""
        if not self.lengths:
            return ""
        if not self.provenance["sentences"].startswith("built-in"):
            counted = "The lengths are counted by the stand-in's tokenizer, which has a token for each word"
            return "" if self.is_real else counted
        return (
            "THE LENGTHS ARE THOSE OF BUILT-IN SENTENCES, not of your data: rows that pad less than to the sequence "
            "length are as fast as this only for lengths like these (set dataset.path)"
        )

    def label_text(self) -> str:
        """Say how the labels were read, with examples; empty where none were, or for a kept run that does not say."""
        found = self.provenance.get("labels_read")
        if not found:
            return ""
        sentences = self.provenance["evaluation_sentences"]
        parts = [f"{found['unlabelled']} of {sentences} sentences have none"] if found["unlabelled"] else []
        if found["examples"]:
            parts.append(f"read as {words.READINGS[found['reading']]} ({words.listed(found['meanings'])})")
        parts += map(words.example, found["examples"])
        return "; ".join([*parts, *found["remarks"]])

    def device(self, name: str) -> str:
        """Say which hardware `cpu` or `cuda` stands for: the GPU with driver, CUDA and cuDNN."""
        if name == "cpu":
            cpu = self.environment["cpu"]
            quota = f", a quota of {cpu['quota_cpus']:g} CPUs" if "quota_cpus" in cpu else ""
            governor = f", governor {cpu['governor']}" if "governor" in cpu else ""
            return f"{cpu['model']}, {cpu['cores']} cores{quota}{governor}"
        gpu = self.environment["cuda"]
        if not gpu:
            return str(self.environment.get("gpu_fault", "none"))
        memory = f"{gpu['memory_mib']} MiB" if gpu["memory_mib"] else "memory not told"
        limits = [f"power limit {gpu['power_limit_w']} W"] if "power_limit_w" in gpu else []
        parts = [memory, *(["a MIG part"] if gpu.get("mig") else []), *limits, f"1 of {gpu['count']}"]
        software = f"driver {gpu['driver']}, CUDA {gpu['cuda']}, cuDNN {gpu['cudnn']}"
        return f"{gpu['gpu']} ({', '.join(parts)}), {software}"

    def hardware(self, name: str) -> str:
        """Say which hardware `cpu` or `cuda` stands for."""
        return self.device(name).split(", driver")[0]

    def libraries(self) -> str:
        """List the library versions that are installed."""
        versions = self.environment["versions"]
        found = [f"{name} {version}" for name, version in versions.items() if version]
        return ", ".join([f"Python {self.environment['python']}", *found])

    def hardware_lines(self) -> list[str]:
        """Return `name: value` lines for the head of a report, each only where there is something to say."""
        variables = ", ".join(f"{name}={value}" for name, value in self.environment.get("variables", {}).items())
        lines = {
            "Lengths: ": self.length_text(),
            "": self.length_warning(),
            "Labels: ": self.label_text(),
            "GPU: ": self.device("cuda"),
            "CPU: ": self.device("cpu"),
            "System: ": self.environment["os"],
            "Libraries: ": self.libraries(),
            "Variables in force: ": variables,
            "Parameters: ": "; ".join(self.remarks),
        }
        return [f"{name}{value}" for name, value in lines.items() if value]


def read_context() -> Context:
    """Read what `probe`, `download` and `export_onnx` wrote; DataError if one is missing or damaged."""
    export = read_json(EXPORT, "`dvc repro export_onnx` writes it anew", Export)
    lengths = read_json(LENGTHS, "`dvc repro prepare_inputs` writes it anew", Lengths)
    params = load_params()
    return Context(
        *(read_environment(), read_provenance(), export, params.report, lengths),
        sequence_length=params.sequence_length,
        remarks=params.remarks,
    )


@dataclass(frozen=True)
class Shown:
    """`summary`, `serving`: the rows of results/summary.csv and serving.csv."""

    findings: Findings
    summary: Rows
    serving: Rows
    context: Context

    def timed(self, panel: Panel) -> list[View]:
        """Return the lines of a device's rows with times by batch size; measured before rejected, fastest first."""
        everywhere = {each.kind for each in panel.widespread}
        own = [each for each in panel.disturbances if each.kind not in everywhere]
        disturbed = grouped(own, "variant", "batch_size")
        rows = [row for row in self.summary if row.device == panel.device and not is_missing(row.p50_ms)]
        rows.sort(key=lambda row: (row.batch_size, row.status != "measured", row.p50_ms))
        return [{**_figures(row), "disturbances": disturbed.get((row.variant, row.batch_size), ())} for row in rows]

    def by_batch(self, panel: Panel) -> dict[int, list[View]]:
        """Return the lines of a device's rows with times at each batch size."""
        return {size: list(views) for size, views in groupby(self.timed(panel), key=lambda view: view["batch_size"])}

    def picks(self, panel: Panel) -> Iterator[View]:
        """Yield a pick's lines once for all neighbouring budgets that share it: the pick, then the nearest ties."""
        for _, sharing in groupby(panel.picks, key=_choice):
            pick, *others = sharing
            budget = f"{', '.join(f'{each.budget_ms:g}' for each in (pick, *others))} ms"
            if pick.cell is None:
                yield {"budget": budget, "instead": words.no_pick(pick)}
                continue
            figures = self._cell(pick.cell.variant, pick.cell.batch_size)
            yield {**figures, "budget": budget, "significant": words.doubts(pick)}
            for tie in pick.ties[: words.NEAREST]:
                figures = self._cell(tie.first, tie.first_batch)
                against = {"against_pick": words.factor(tie.comparison), "significant": words.verdict(tie.comparison)}
                yield {**figures, "budget": "", **against}

    def _cell(self, *cell: str | int | None) -> View:
        return _figures(next(row for row in self.summary if (row.variant, row.batch_size) == cell))

    def served(self, served: Served) -> list[View]:
        """Return a line for each row that sustains a rate, most requests first."""
        rows = {row.variant: row for row in self.serving}
        searched = {each.variant: each.requests_per_s for each in served.searched}
        return [
            {
                **(row := rows[each.variant])._asdict(),
                "memory_under_load_mib": row.gpu_mib if row.device == "cuda" else row.host_mib,
                "searched": searched.get(each.variant),
                "vs_best": words.factor(each.vs_best) if each.vs_best else MISSING,
                "vs_best_verdict": words.MORE[each.vs_best.verdict] if each.vs_best else MISSING,
                "remarks": "; ".join(_remarks(each)) or MISSING,
            }
            for each in served.rows
        ]


def _remarks(row: Sustained) -> Iterator[str]:
    yield from map(words.remark, row.remarks)
    if row.vs_best and row.vs_best.verdict == "inconclusive":
        yield row.vs_best.reason or words.untold(row.vs_best.smallest)


def _figures(row: Any) -> dict[str, Any]:
    return {**row._asdict(), "memory_mib": memory_mib(row)}


def _choice(pick: Pick) -> tuple[Any, ...]:
    """Return what neighbouring budgets must share to stand in one line."""
    return pick.cell, pick.ties, words.doubts(pick) if pick.cell else words.no_pick(pick)


def shown_of(tables: Tables, context: Context) -> Shown:
    """Return a run of which nothing is written yet."""
    findings = findings_of(tables, context.settings)
    return Shown(findings, list(tables.summary.itertuples()), list(tables.serving.itertuples()), context)


def read_shown() -> Shown:
    """Read what the stages before wrote; DataError if a file is missing or damaged."""
    summary, serving = (list(table.itertuples()) for table in (read_summary(), read_serving()))
    params = load_params()
    variants = params.all_variants().items()
    cells = [f"{key} batch size {size}" for key, row in variants for size in params.sizes(row.device)]
    _check_rows(SUMMARY_CSV, [f"{row.variant} batch size {row.batch_size}" for row in summary], cells)
    _check_rows(SERVING_CSV, [str(row.variant) for row in serving], params.serving.variants)
    return Shown(read_findings(), summary, serving, read_context())


def _check_rows(path: Path, found: list[str], wanted: list[str]) -> None:
    """Raise DataError unless a table has just the rows that params.yaml asks for."""
    for what, these, others in (("no row of", wanted, found), ("a row that params.yaml has not:", found, wanted)):
        if lacking := next((name for name in these if name not in others), ""):
            raise damaged(path, f"{what} {lacking}", MEND)
