"""Keep the last run under a name, to be compared with runs of other machines:  python run.py record NAME [--replace]

Writes every single run, compressed, what it was measured with, the tables and a README.md to runs/NAME/ (up to some
hundred kB); commit it.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.core import paths
from bench.core.errors import DataError, ParameterError, run_stage
from bench.core.files import read_json, read_model, read_yaml, replacing_folder, write_json, write_text
from bench.core.params import Params, load_params
from bench.core.progress import log
from bench.core.reports import Report, Served
from bench.core.schemas import read_machine_id
from bench.core.shared import shared_by_rows
from bench.runs.recorded_runs import MEASURED_WITH, README, RecordedRun, pack_samples, write_manifest
from bench.summary.build import read_tables
from bench.summary.table_file import read_summary, write_table
from bench.timing.repro import served_place, timed_place

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
NOT_OF_A_RUN = {"probe", "compare_runs", "check_rows"}
"""Stages that may be stale: DVC always lists the first; the others are of all kept runs, or only end with an error."""
MOST_STAGES = 5
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
"""Names of devices that Windows takes for no folder, whatever follows their first dot."""
WRITTEN = {
    "environment": paths.ENVIRONMENT,
    "peaks": paths.PEAKS,
    "model": paths.PROVENANCE,
    "lengths": paths.LENGTHS,
    "export": paths.EXPORT,
}
"""What the stages wrote that the run was measured with, by its name in measured_with.json."""
MEND = "`dvc repro` writes it, then record again"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="run.py record", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("--replace", action="store_true", help="write over a run of that name")
    given = parser.parse_args()
    record(given.name, replace=given.replace)


def record(name: str, replace: bool = False) -> Path:
    """Keep the last run in runs/`name` and return that folder.

    Raises ParameterError for a name that is not allowed or taken, DataError if no whole, unchanged run is there.
    """
    if not NAME.fullmatch(name):
        allowed = "a-z, 0-9, and after the first character also . _ -; at most 63 characters"
        raise ParameterError(f"record: got the name {name!r}, allowed: {allowed}")
    if name.split(".", maxsplit=1)[0] in RESERVED or name.endswith("."):
        raise ParameterError(f"record: got the name {name!r}, which Windows cannot have as a folder; take another")
    target = paths.RUNS / name
    if target.exists() and not replace:
        raise ParameterError(f"record: {target.as_posix()} is there already; take another name, or add --replace")
    check_none_failed()
    check_unchanged()
    params = load_params()
    check_made_with(params)
    machine = machine_of(params)
    with replacing_folder(target) as folder:
        for source in (paths.SUMMARY_CSV, paths.SERVING_CSV):
            shutil.copyfile(source, folder / source.name)
        write_json(folder / MEASURED_WITH, measured_with())
        pack_samples(params, folder)
        write_manifest(folder, machine)
        write_text(folder / README, RecordedRun.read(folder).readme())
    log(f"kept in {target.as_posix()}; commit it")
    return target


def check_none_failed() -> None:
    """Raise DataError if a row failed."""
    table = read_summary()
    failed = sorted(set(table[table["status"] == "failed"]["variant"]))
    if failed:
        raise DataError(f"rows that failed: {', '.join(failed)}; `dvc repro` tries them again, then record again")


def check_unchanged() -> None:
    """Raise DataError unless all that is kept is of one run: made here, with the parameters and files that are here.

    DVC knows: parameters, environment, graphs, samples and results belong together by the hashes in dvc.lock.
    """
    dvc("repro", "--quiet", "probe")
    changed = sorted(set(json.loads(dvc("status", "--json"))) - NOT_OF_A_RUN)
    if changed:
        raise DataError(
            f"what lies in results/ is not of the parameters, files and machine that are here ({_few(changed)}): "
            "`dvc repro`, then again"
        )


def check_made_with(params: Params) -> None:
    """Raise DataError unless all was made with what is here: `dvc commit` writes into dvc.lock that it was."""
    made = {paths.PROVENANCE: "download", paths.EXPORT: "export_onnx"}
    made |= dict.fromkeys(sorted(paths.CONVERSIONS.glob("*.json")), "convert_onnx")
    written = [
        path for path, stage in made.items() if read_json(path, MEND).get("made_with") != params.made_with(stage)
    ]
    timed = [timed_place(key, row) for key, row in params.all_variants().items()]
    served = [served_place(key, params.variant(key)) for key in params.serving.variants]
    for path in sorted(paths.BARRIERS.glob("*.json")):
        if read_json(path, MEND) != json.loads(json.dumps(shared_by_rows(path.stem))):
            written.append(path)
    changed = [path.as_posix() for path in (*written, *_other_tables(params))]
    changed += [f"{place.stage}@{place.key}" for place in timed if place.is_changed()]
    changed += [f"{place.stage}@{place.key}" for place in served if place.is_changed()]
    if changed:
        raise DataError(
            f"rows were timed with other parameters, files or versions than those that are here ({_few(changed)}), "
            "which `dvc commit` does not change: `dvc repro -f`, then record again"
        )


def _other_tables(params: Params) -> list[Path]:
    """Return the tables in results/ that these parameters make otherwise."""
    tables = read_tables(params)
    with tempfile.TemporaryDirectory() as folder:
        made = {paths.SUMMARY_CSV: tables.summary, paths.SERVING_CSV: tables.serving}
        for path, table in made.items():
            write_table(table, Path(folder, path.name))
        return [path for path in made if path.read_bytes() != Path(folder, path.name).read_bytes()]


def machine_of(params: Params) -> str:
    """Return the id of the machine that timed the rows; DataError if they are of several."""
    timed = [read_model(paths.SAMPLES / f"{key}.json", MEND, Report).session for key in params.all_variants()]
    served = [read_model(paths.SERVED / f"{key}.json", MEND, Served).session for key in params.serving.variants]
    machines = {session.machine for session in (*timed, *served) if session}
    if len(machines) > 1:
        raise DataError(
            "rows were timed on several machines (or in a container, before and after its host started anew): "
            "`dvc repro -f` times all of them here, then record again"
        )
    return machines.pop() if machines else read_machine_id()


def _few(names: list[str]) -> str:
    return ", ".join(names[:MOST_STAGES]) + (", …" if len(names) > MOST_STAGES else "")


def dvc(*arguments: str) -> str:
    """Run DVC and return what it prints; DataError if it fails."""
    ended = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise DataError(f"`dvc {' '.join(arguments)}` failed: {ended.stderr.strip()}")
    return ended.stdout


def measured_with() -> dict[str, Any]:
    """Return what the run was measured with: machine, model, graphs and parameters."""
    written = {name: read_json(path, MEND) for name, path in WRITTEN.items()}
    conversions = {path.stem: read_json(path, MEND) for path in sorted(paths.CONVERSIONS.glob("*.json"))}
    return {**written, "conversions": conversions, "params": read_yaml(paths.PARAMS)}


if __name__ == "__main__":
    run_stage(main)
