"""Measure each kind of machine of a Ray cluster once:  python run.py fleet [--address HOST:PORT]

Without an address a Ray of this machine alone is started.  Every node is asked which machine it is; of each kind that
has no current run in runs/, one node measures the checked-out commit with the node to itself.
"""

from __future__ import annotations

import argparse
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from functools import partial

from filelock import FileLock, Timeout

from bench.core.errors import DataError, ParameterError, run_stage
from fleet import home, ray_engine
from fleet.commit import bundle_of, clean_commit
from fleet.kinds import Node, by_kind, chosen, kind_of, run_names
from fleet.node import Order
from fleet.schedule import Lines, Result, Work, look_at, measure_all

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
MOST_REPEATS = 100
LONGEST_HOURS = 240.0


def main() -> None:
    given = parsed(sys.argv[1:])
    commit = clean_commit()
    home.LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home.LOCK, timeout=0):
            missing = run(given, commit)
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
    parser.add_argument("--kinds", metavar="PATTERN", default="*", help="only kinds whose name fits, such as *h100*")
    parser.add_argument("--repeat", type=whole, metavar="N", default=1, help="measure N nodes of each kind")
    parser.add_argument("--hours", type=hours, default=3.0, help="a node that takes longer is given up (default: 3)")
    parser.add_argument("--again", action="store_true", help="measure kinds that have a current run too")
    parser.add_argument("--python", metavar="PATH", help="a Python on the nodes that has what requirements.lock pins")
    parser.add_argument("--wheelhouse", metavar="FOLDER", help="on the nodes: install from it, from no registry")
    parser.add_argument("--folder", metavar="FOLDER", help="on the nodes: where to work (default: in the user's cache)")
    return parser.parse_args(arguments)


def whole(text: str) -> int:
    """Return a number of nodes."""
    if not text.isdigit() or not 1 <= int(text) <= MOST_REPEATS:
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed: 1 to {MOST_REPEATS}")
    return int(text)


def hours(text: str) -> float:
    """Return a number of hours."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= LONGEST_HOURS:
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed: more than 0, up to {LONGEST_HOURS:g}")
    return number


def run(given: argparse.Namespace, commit: str) -> list[str]:
    """Run the fleet, print a line for each node, and return the runs that are missing at the end."""
    lines = Lines()
    order = order_of(given, commit)
    with ray_engine.connected(given.address):
        engine = ray_engine.RayEngine(order, bundle_of(commit), say)
        there = ray_engine.nodes()
        say(f"asking {len(there)} nodes which machine they are")
        found = look_at(engine, there, lines)
        kinds = by_kind(found)
        for kind, nodes in kinds.items():
            say(f"{kind}: {', '.join(node.address for node in nodes)}")
        wanted = wanted_runs(given, commit, kinds, lines)
        missing = measure_all(engine, wanted, lines, partial(take, commit), say)
    for node in there:
        kind = kind_of(found[node]) if node in found else "unknown"
        say(f"{node.address}  {kind}  {lines.texts.get(node, 'not asked for')}")
    if any((home.RUNS / name).exists() for name in home.read_book()):
        compare(given.python)
    for name in missing:
        print(f"no run: {name}", file=sys.stderr)
    unknown = [node.address for node in there if node not in found]
    return [*missing, *unknown]


def order_of(given: argparse.Namespace, commit: str) -> Order:
    """Return what every node is asked to do."""
    house = given.wheelhouse
    settings = {"NO_INDEX": "1", "FIND_LINKS": house}
    offline = {f"{tool}_{name}": value for tool in ("PIP", "UV") for name, value in settings.items()}
    return Order(
        commit,
        "look",
        given.hours * 3600,
        given.python,
        given.folder,
        offline if house else {},
        {name: os.environ[name] for name in SECRETS if os.environ.get(name)},
        given.again,
    )


def wanted_runs(
    given: argparse.Namespace, commit: str, kinds: Mapping[str, list[Node]], lines: Lines
) -> dict[str, tuple[list[str], list[Node]]]:
    """Return the runs that each chosen kind lacks, with its nodes; the others' nodes get their line."""
    wanted = {}
    for kind in chosen(kinds, given.kinds):
        nodes = kinds[kind]
        names = run_names(kind, min(given.repeat, len(nodes)))
        lacking = [name for name in names if given.again or not home.is_current(name, commit)]
        if given.repeat > len(nodes):
            say(f"{kind} has {len(nodes)} nodes: --repeat {given.repeat} measures these")
        if lacking:
            book = home.read_book()
            measured = {book[name]["node"] for name in names if name not in lacking}
            wanted[kind] = (lacking, [node for node in nodes if node.address not in measured] or nodes)
        else:
            for node in nodes:
                lines.add(node, f"not needed: {', '.join(names)} is current")
    return wanted


def take(commit: str, work: Work, kind: str, result: Result) -> str:
    """Keep the run and the log that a node sent; return why that failed, empty if it did not."""
    try:
        if result.get("log"):
            home.keep_log(work.name, work.node, result["log"])
        if "archive" in result:
            home.keep(work.name, kind, work.node, commit, result["archive"])
    except (OSError, DataError, tarfile.TarError, lzma.LZMAError) as problem:
        return f"what it sent could not be kept: {problem}"
    return ""


def compare(python: str | None) -> None:
    """Write results/hardware.md and its picture anew."""
    own = [python, "-m", "dvc"] if python else [sys.executable, "run.py", "dvc"]
    subprocess.run([*own, "repro", "--quiet", "compare_runs"], check=False)


def say(text: str) -> None:
    """Print one line at once; bench.core.progress needs a package that the environment of fleets does not have."""
    print(text, flush=True)


if __name__ == "__main__":
    run_stage(main)
