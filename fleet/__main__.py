"""Measure each machine type of a Ray cluster once:  python run.py fleet [--address HOST:PORT]

Without an address a Ray of this machine alone is started.  Every node is asked which machine it is; of each machine
type that has no current run in runs/, one node measures the checked-out commit with the node to itself.
"""

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from filelock import FileLock, Timeout

from bench.core.errors import ParameterError, run_stage
from bench.core.paths import RUNS
from fleet import ray_engine, results_store
from fleet.machine_types import Node, by_machine_type, chosen, machine_type_of, run_names
from fleet.node import TaskSpec
from fleet.schedule import Lines, measure_all, probe_all

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

log = partial(print, flush=True)


def main() -> None:
    options = parsed(sys.argv[1:])
    commit = results_store.clean_commit()
    try:
        with FileLock(results_store.LOCK, timeout=0):
            missing = run(options, commit)
    except Timeout:
        raise ParameterError("fleet: another fleet was started in this folder and has not ended") from None
    except KeyboardInterrupt:
        sys.exit("stopped by the user; the same command goes on from here")
    if missing:
        sys.exit(1)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the arguments; ends the process with one message for bad ones."""
    parser = argparse.ArgumentParser(
        prog="run.py fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster; without it: this machine alone")
    parser.add_argument("--machine-types", metavar="PATTERN", default="*", help="only those named so, such as *h100*")
    whole, hours = partial(number, int, 100), partial(number, float, 240)
    parser.add_argument("--repeat", type=whole, metavar="N", default=1, help="measure N nodes of each type")
    parser.add_argument("--hours", type=hours, default=3.0, help="a node that takes longer is given up (default: 3)")
    parser.add_argument("--again", action="store_true", help="measure machine types that have a current run too")
    parser.add_argument("--python", metavar="PATH", help="a Python on the nodes that has what requirements.lock pins")
    parser.add_argument("--wheelhouse", metavar="FOLDER", help="on the nodes: install from it, from no registry")
    parser.add_argument("--folder", metavar="FOLDER", help="on the nodes: where to work (default: in the user's cache)")
    return parser.parse_args(arguments)


def number(kind: Callable[[str], float], most: float, text: str) -> float:
    """Return a number above 0; ArgumentTypeError says what is allowed."""
    with suppress(ValueError):
        if 0 < kind(text) <= most:
            return kind(text)
    raise argparse.ArgumentTypeError(f"got {text!r}, allowed: more than 0, up to {most:g}")


def run(options: argparse.Namespace, commit: str) -> list[str]:
    """Run the fleet, print a line for each node, and return the runs that are missing at the end."""
    lines: Lines = defaultdict(list)
    with ray_engine.connected(options.address):
        engine = ray_engine.RayEngine(task_spec(options, commit), results_store.bundle_of(commit), log)
        there = ray_engine.nodes()
        log(f"asking {len(there)} nodes which machine they are")
        found = probe_all(engine, there, lines)
        machine_types = by_machine_type(found)
        for machine_type, nodes in machine_types.items():
            log(f"{machine_type}: {', '.join(node.address for node in nodes)}")
        required = required_runs(options, commit, machine_types, lines)
        missing = measure_all(engine, required, lines, partial(results_store.keep, commit), log)
    for node in there:
        machine_type = machine_type_of(found[node]) if node in found else "unknown"
        log(f"{node.address}  {machine_type}  {'; '.join(lines[node]) or 'not asked for'}")
    if any((RUNS / name).exists() for name in results_store.read_index()):
        compare(options.python)
    for name in missing:
        print(f"no run: {name}", file=sys.stderr)
    return [*missing, *(node.address for node in there if node not in found)]


def task_spec(options: argparse.Namespace, commit: str) -> TaskSpec:
    """Return what every node is asked to do; the engine puts in the name."""
    offline = {"NO_INDEX": "1", "FIND_LINKS": options.wheelhouse} if options.wheelhouse else {}
    return TaskSpec(
        commit,
        name="",
        limit_seconds=options.hours * 3600,
        python=options.python,
        folder=options.folder,
        environment={f"{tool}_{name}": value for tool in ("PIP", "UV") for name, value in offline.items()},
        secrets={name: os.environ[name] for name in SECRETS if os.environ.get(name)},
        again=options.again,
    )


def required_runs(
    options: argparse.Namespace, commit: str, machine_types: Mapping[str, list[Node]], lines: Lines
) -> dict[str, tuple[list[str], list[Node]]]:
    """Return the runs that each chosen machine type lacks, with its nodes; the others' nodes get their line."""
    required = {}
    for machine_type in chosen(machine_types, options.machine_types):
        nodes = machine_types[machine_type]
        names = run_names(machine_type, min(options.repeat, len(nodes)))
        lacking = [name for name in names if options.again or not results_store.is_current(name, commit)]
        if options.repeat > len(nodes):
            log(f"{machine_type} has {len(nodes)} nodes: --repeat {options.repeat} measures these")
        if lacking:
            index = results_store.read_index()
            measured = {index[name]["node"] for name in names if name not in lacking}
            required[machine_type] = (lacking, [node for node in nodes if node.address not in measured] or nodes)
        else:
            for node in nodes:
                lines[node].append(f"not needed: {', '.join(names)} is current")
    return required


def compare(python: str | None) -> None:
    """Write results/hardware.md and its picture anew."""
    own = [python, "-m", "dvc"] if python else [sys.executable, "run.py", "dvc"]
    subprocess.run([*own, "repro", "--quiet", "compare_runs"], check=False)


if __name__ == "__main__":
    run_stage(main)
