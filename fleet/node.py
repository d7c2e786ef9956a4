"""What is done on a node: unpack the commit, tell which machine this is, measure it.

Ray carries these functions to the node as they are, and runs them with the Python of the cluster: they need the
standard library and git alone.  Everything else comes with the commit and `run.py`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSY, OVERDUE, ABANDONED = 75, 124, 125
"""Exit codes of guard.py."""
LOG_CHARACTERS = 200_000
"""Of a log, the last so many are brought back."""
LOOK_SECONDS = 1800
MISSING_PACKAGE = "ModuleNotFoundError"


@dataclass(frozen=True)
class Order:
    """What a node is asked to do.

    `python`: a Python on the node that has what requirements.lock pins; None: `run.py` makes .venv.  `environment`:
    variables to set, `secrets`: the same, and their values appear in no log.  `folder`: where to work; None: below the
    user's cache.
    """

    commit: str
    name: str
    limit_seconds: float
    python: str | None = None
    folder: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    again: bool = False
    """Measure, even if a run of that name was finished here before."""


class Fault(Exception):
    """Why a node gives no result, in a line."""


def look(order: Order, bundle: bytes) -> dict[str, Any]:
    """Return the fingerprint of the machine, or `{"fault": …}`."""
    try:
        checkout = unpack(order, bundle)
        asked = [order.python or sys.executable, "-m", "fleet.fingerprint"]
        told = call(asked, checkout, order)
        if told.returncode and MISSING_PACKAGE in told.stderr and not order.python:
            told = call([sys.executable, "run.py", "fingerprint"], checkout, order)
        if told.returncode:
            raise Fault(hidden(last_words(told.stdout + told.stderr), order))
        found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
        return found
    except (Fault, OSError, subprocess.SubprocessError, ValueError, IndexError) as problem:
        return {"fault": describe(problem)}


def measure(order: Order, bundle: bytes) -> dict[str, Any]:
    """Measure the machine; return the kept run as a tar file, or why there is none: `{"fault": …}`.

    A run that was finished here before, for the same commit and under the same name, is given back as it is.
    """
    log, began = "", time.time()
    try:
        checkout = unpack(order, bundle)
        run = checkout / "runs" / order.name
        is_there = (run / "run.json").exists() and not order.again
        if not is_there:
            try:
                measure_here(checkout, order)
            finally:
                log = hidden(read_end(checkout.parent / "log.txt"), order)
        check_secrets(run, order)
        archive = packed(run)
        shrink(checkout)
        return {"archive": archive, "log": log, "seconds": time.time() - began, "is_from_before": is_there}
    except (Fault, OSError, subprocess.SubprocessError) as problem:
        return {"fault": hidden(describe(problem), order), "log": log}


def describe(problem: Exception) -> str:
    """Return a problem as one line."""
    if isinstance(problem, FileNotFoundError) and problem.filename == "git":
        return "git is not installed"
    if isinstance(problem, OSError):
        return f"{problem.strerror or problem}: {problem.filename}" if problem.filename else str(problem)
    return str(problem)


def unpack(order: Order, bundle: bytes) -> Path:
    """Return a folder with the commit; it is made once for each name, whole or not at all."""
    base = Path(order.folder) if order.folder else Path.home() / ".cache" / "transformer-inference-benchmark" / "fleet"
    place = base / order.commit[:12] / order.name
    if (place / "checkout").exists():
        return place / "checkout"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        file, new = Path(folder) / "commit.bundle", Path(folder) / "checkout"
        file.write_bytes(bundle)
        git(folder, "clone", "--quiet", "--no-checkout", str(file), str(new))
        git(str(new), "checkout", "--quiet", "--detach", order.commit)
        with suppress(OSError):  # another task was quicker
            new.rename(place / "checkout")
    return place / "checkout"


def git(folder: str, *arguments: str) -> None:
    """Run git in a folder; Fault with its last words if it fails."""
    ended = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Fault(f"git {arguments[0]}: {last_words(ended.stderr)}")


def call(command: list[str], checkout: Path, order: Order) -> subprocess.CompletedProcess[str]:
    """Run a short command of the checkout."""
    return subprocess.run(
        command,
        cwd=checkout,
        env=environment(order),
        capture_output=True,
        text=True,
        timeout=LOOK_SECONDS,
        check=False,
    )


def environment(order: Order) -> dict[str, str]:
    """Return the variables of the processes that are started: the node's own, and those of the order.

    What Ray sets for its tasks is taken back: an empty CUDA_VISIBLE_DEVICES, which hides all GPUs from a task that asks
    for none, and OMP_NUM_THREADS.
    """
    own = dict(os.environ)
    own.pop("OMP_NUM_THREADS", None)
    if own.get("CUDA_VISIBLE_DEVICES") == "":
        del own["CUDA_VISIBLE_DEVICES"]
    if order.python:  # stages are run as `python`
        own["PATH"] = f"{Path(order.python).parent}{os.pathsep}{own.get('PATH', '')}"
    return {**own, **order.environment, **order.secrets}


def measure_here(checkout: Path, order: Order) -> None:
    """Run the pipeline and keep the run; Fault if a step fails, is overdue, or another fleet's holds the folder."""
    until = time.monotonic() + order.limit_seconds
    for command in steps(order):
        code = guarded(command, checkout, order, max(1.0, until - time.monotonic()))
        if code == BUSY:
            raise Fault(f"another fleet measures in {checkout.parent}")
        if code == OVERDUE:
            raise Fault(f"was not done after {order.limit_seconds / 3600:g} h and was ended")
        if code:
            raise Fault(last_words(read_end(checkout.parent / "log.txt")))


def steps(order: Order) -> list[list[str]]:
    """Return the commands that measure and keep a run."""
    if order.python:
        own = [order.python, "-m"]
        check, keep = "bench.runtimes.base.check_params", "bench.runs.record"
        return [[*own, check], [*own, "dvc", "repro"], [*own, keep, order.name, "--replace"]]
    run = [sys.executable, "run.py"]
    return [run, [*run, "record", order.name, "--replace"]]


def guarded(command: list[str], checkout: Path, order: Order, seconds: float) -> int:
    """Run a command that ends when this process does; return its exit code, or one of guard.py's."""
    place = checkout.parent
    guard = [sys.executable, str(checkout / "fleet" / "guard.py"), "apart"]
    with subprocess.Popen(
        [*guard, str(place / "measuring.lock"), str(place / "log.txt"), str(seconds), *command],
        cwd=checkout,
        env=environment(order),
        stdin=subprocess.PIPE,
    ) as process:  # whatever ends the wait closes the guard's standard input
        return process.wait()


def last_words(text: str) -> str:
    """Return the last error that an output names, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("error:", "ERROR:"))]
    return (named or lines or ["no output"])[-1].removeprefix("error: ").removeprefix("ERROR: ")


def read_end(path: Path) -> str:
    """Return the end of a log, empty where there is none."""
    return path.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:] if path.exists() else ""


def hidden(text: str, order: Order) -> str:
    """Return a text without the values of secrets."""
    for name, value in order.secrets.items():
        text = text.replace(value, f"({name})") if value else text
    return text


def check_secrets(run: Path, order: Order) -> None:
    """Fault if a file of a kept run holds a secret."""
    values = [value.encode() for value in order.secrets.values() if value]
    for path in run.rglob("*"):
        if path.is_file() and any(value in path.read_bytes() for value in values):
            raise Fault(f"{path.relative_to(run)} holds a secret: the run is not brought back")


def packed(run: Path) -> bytes:
    """Return a folder as a tar file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as archive:
        archive.add(run, arcname=run.name)
    return stream.getvalue()


def shrink(checkout: Path) -> None:
    """Remove what a finished run needs no more: gigabytes of packages and engines."""
    for name in (".venv", ".venv-fleet", "artifacts", ".dvc/cache"):
        shutil.rmtree(checkout / name, ignore_errors=True)
