"""The runs that were kept in runs/: whether their parts are whole, what they say, and which may be compared.

run.json of a run names every part with its hash, and the model and graphs that were measured.
"""

import hashlib
import json
import lzma
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import pandas as pd
from pydantic import Field
from typing_extensions import TypedDict

from bench.core.errors import DataError
from bench.core.files import checked, damaged, read_json, read_model, read_yaml, write_json
from bench.core.params import Params, ReportSettings
from bench.core.paths import RUNS, SAMPLES, SERVED, SERVING_CSV, SUMMARY_CSV
from bench.core.reports import Report, Served
from bench.core.schemas import Environment, Export, Lengths, Name, Peaks, Provenance, Seconds, SingleRun
from bench.report.document import to_markdown
from bench.report.shown import Context, Shown, shown_of
from bench.report.texts import table_blocks
from bench.summary.comparisons import with_levels
from bench.summary.over_http import ServedHttp, read_over_http
from bench.summary.serving import Curves, Tables, curves_of, read_served_text, read_serving, with_rates
from bench.summary.table_file import read_summary, read_table

MANIFEST, MEASURED_WITH, PACKED, README = "run.json", "measured_with.json", "samples.json.xz", "README.md"
PARTS = (MEASURED_WITH, PACKED, SERVING_CSV.name, SUMMARY_CSV.name)
"""What a kept run is made of; README.md is drawn from them."""
IN_ROUNDS = "timed in rounds, by an earlier version: its figures are those of its time"
"""Why such a run is compared with no newer one; its README.md stays as it is."""
LOCK = Path("dvc.lock")
MADE_OF = ("artifacts/model", "artifacts/sentences", "artifacts/inputs", "artifacts/onnx", "artifacts/engines")
MEND = "restore it with git, or record the run again with --replace"


class Manifest(TypedDict):
    """run.json of a kept run."""

    id: Name
    machine: Name
    made_of: dict[str, str]
    parts: dict[str, str]


class RecordedParams(TypedDict):
    """What is read of the parameters of a kept run."""

    model: dict[str, Any]
    sequence_length: Annotated[int, Field(ge=1)]
    report: dict[str, Any]
    baselines: dict[str, str]


class MeasuredWith(TypedDict):
    """measured_with.json of a kept run: what `probe` and the stages before the timing wrote, and params.yaml."""

    environment: Environment
    peaks: Peaks
    model: Provenance
    lengths: Lengths
    export: Export
    conversions: dict[str, Seconds]
    params: RecordedParams


@dataclass(frozen=True)
class RecordedRun:
    """One kept run: its machine (the id of the one that measured), its model, its parameters and its tables."""

    name: str
    machine: str
    context: Context
    """What the run's reports say of its machine, model and settings."""
    params: dict[str, Any]
    table: pd.DataFrame
    serving: pd.DataFrame
    curves: Curves = field(default_factory=dict)
    """The rates that were tried of each row under load."""
    over_http: Mapping[str, ServedHttp] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read runs/NAME; DataError if a file is missing, damaged, or not of that run."""
        machine = check_manifest(folder)["machine"]
        found = read_json(folder / MEASURED_WITH, MEND, MeasuredWith)
        samples = unpack_samples(folder)
        served = {key: Served.model_validate(each["served"]) for key, each in samples.items() if "served" in each}
        params = found["params"]
        settings = checked(params["report"], ReportSettings, folder / MEASURED_WITH, MEND)
        context = Context(found["environment"], found["model"], found["export"], settings, found["lengths"])
        table = read_summary(folder / SUMMARY_CSV.name, MEND)
        if not is_in_rounds(table):
            reports = {key: Report.model_validate(each["report"]) for key, each in samples.items()}
            table = with_levels(table, reports, params["baselines"])
        serving = with_rates(read_serving(folder / SERVING_CSV.name, MEND), served, params["report"]["margin"])
        key, over = "served_http", samples.items()
        http = {name: ServedHttp.model_validate(each[key]) for name, each in over if key in each}
        return cls(folder.name, machine, context, params, table, serving, curves_of(served), http)

    def readme(self) -> str:
        """Return the run's README.md: its tables."""
        return to_markdown(table_blocks(self.shown()))

    def shown(self) -> Shown:
        """Return the run as reports read it; its findings are computed anew."""
        return shown_of(Tables(self.table, self.serving, self.curves, self.over_http), self.context)

    def workload(self) -> tuple[str, int]:
        """Return what was run: the sizes of runs of another model or sequence length cannot be compared."""
        synthetic = f"synthetic {self.params['model']['synthetic']}"
        model = self.context.provenance["model"] if self.context.is_real else synthetic
        return str(model), int(self.params["sequence_length"])

    def measured(self, device: str) -> pd.DataFrame:
        """Return the measured rows of a device."""
        return self.table[(self.table["device"] == device) & (self.table["status"] == "measured")]


def is_in_rounds(table: pd.DataFrame) -> bool:
    """Tell whether a run was timed in rounds of processes, by an earlier version: its figures stay as they are."""
    return "rounds" in table


def write_manifest(folder: Path, machine: str) -> None:
    """Write run.json for the parts that lie in `folder`; `machine`: the id of the one that measured.

    Names DVC's hash of the model, the inputs, and every graph and engine that was measured.
    """
    outs = (out for stage in read_yaml(LOCK)["stages"].values() for out in stage.get("outs", []))
    made_of = {out["path"]: out["md5"] for out in outs if out["path"].startswith(MADE_OF)}
    content = {"machine": machine, "made_of": made_of, "parts": {name: part_sha256(folder / name) for name in PARTS}}
    write_json(folder / MANIFEST, {"id": manifest_id(content), **content})


def check_manifest(folder: Path) -> dict[str, Any]:
    """Return run.json; DataError if a part is not the one that was kept, or a file is there that is none."""
    path = folder / MANIFEST
    manifest = read_json(path, MEND, Manifest)
    for name in PARTS:
        if not (folder / name).is_file():
            raise DataError(f"{(folder / name).as_posix()} is missing: {MEND}")
        if manifest["parts"].get(name) != part_sha256(folder / name):
            raise damaged(folder / name, f"not the part that {path.as_posix()} names", MEND)
    for found in sorted(folder.iterdir()):
        if found.name not in (*PARTS, MANIFEST, README):
            raise damaged(found, f"not a part that {path.as_posix()} names", MEND)
    if manifest["id"] != manifest_id(manifest):
        raise damaged(path, "its id is not of its content", MEND)
    return manifest


def part_sha256(path: Path) -> str:
    """Return the SHA-256 of a part; line ends of text do not count."""
    content = path.read_bytes()
    return hashlib.sha256(content if path.suffix == ".xz" else content.replace(b"\r\n", b"\n")).hexdigest()


def manifest_id(content: dict[str, Any]) -> str:
    """Return the hash of what a manifest names: machine, model and graphs, parts."""
    named = [item for kind in ("made_of", "parts") for item in sorted(content[kind].items())]
    parts = [content["machine"], *(f"{name} {value}" for name, value in named)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def pack_samples(params: Params, folder: Path) -> None:
    """Write every variant's report and single calls to one file; the same content gives the same bytes.

    `{variant: {"report": …, "latency_ns": {batch size: [[one block's calls], …]}, "served": …,
    "served_text": …, "served_http": …}}`.
    """
    content: dict[str, Any] = {}
    for key in params.all_variants():
        mend = f"`dvc repro` measures {key} again"
        report = read_model(SAMPLES / f"{key}.json", mend, Report).as_dict()
        runs, _ = read_table(SAMPLES / f"{key}.csv", SingleRun, mend)
        content[key] = {"report": report, "latency_ns": _by_block(runs) if len(runs) else {}}
    for key in params.serving.variants:
        served = read_model(SERVED / f"{key}.json", f"`dvc repro` serves {key} again", Served)
        content[key]["served"] = served.as_dict()
    for key, from_text in read_served_text().items():
        content[key]["served_text"] = from_text.as_dict()
    for key, over_http in read_over_http(params.serving.variants).items():
        content[key]["served_http"] = over_http.as_dict()
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    (folder / PACKED).write_bytes(lzma.compress(text.encode(), preset=9))


def _by_block(runs: pd.DataFrame) -> dict[str, list[list[int]]]:
    """Return whole nanoseconds, which is what was measured, by batch size and block, in the order of the report."""
    nanoseconds = (runs["latency_ms"] * 1e6).round().astype(int)
    found: dict[str, list[list[int]]] = {}
    for (batch, *_), own in nanoseconds.groupby([runs["batch"], runs["pass"], runs["process"]], sort=False):
        found.setdefault(str(batch), []).append(own.tolist())
    return found


def unpack_samples(folder: Path) -> dict[str, Any]:
    """Return what `pack_samples` wrote; DataError if it is missing or damaged."""
    path = folder / PACKED
    try:
        content: dict[str, Any] = json.loads(lzma.decompress(path.read_bytes()))
    except (OSError, lzma.LZMAError, ValueError) as problem:
        raise damaged(path, str(problem), MEND) from None
    return content


def read_runs(folder: Path = RUNS) -> list[RecordedRun]:
    """Return all kept runs by name."""
    return [RecordedRun.read(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.exists() else []


def comparable(runs: list[RecordedRun]) -> tuple[list[RecordedRun], dict[str, str]]:
    """Split runs into those of the most frequent workload and, by name, why each of the others cannot be compared."""
    others = {run.name: IN_ROUNDS for run in runs if is_in_rounds(run.table)}
    left = [run for run in runs if run.name not in others]
    if not left:
        return [], others
    common = Counter(run.workload() for run in left).most_common(1)[0][0]
    others |= {run.name: _difference(run, common) for run in left if run.workload() != common}
    return [run for run in left if run.name not in others], others


def _difference(run: RecordedRun, common: tuple[str, int]) -> str:
    (model, length), (model_of_others, length_of_others) = run.workload(), common
    parts = [f"another model: {model}, the others: {model_of_others}"] * (model != model_of_others)
    parts += [f"sequence length {length}, the others: {length_of_others}"] * (length != length_of_others)
    return "; ".join(parts)
