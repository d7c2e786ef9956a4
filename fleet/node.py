"""What runs on a node: unpack the commit, probe the machine, measure it for as long as somebody waits.

Ray carries these functions to the node as they are, and runs them with the Python of the cluster: they need the
standard library, git and, as a watchdog, the filelock that Ray brings.  All else comes with the commit and `run.py`.

A watchdog is this file as a program:  python node.py apart LOCK LOG SECONDS COMMAND ...
The command and all that it started are ended when the watchdog's standard input closes, because whoever started it is
gone, and when its seconds are over: a task that is tried again must not find the first one still measuring.  A Ray
worker that ends kills its child processes at once: a watchdog that was one would leave its command behind.  With
`apart` the child is a process that only waits, and the watchdog is the child's, in a session of its own.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSY, OVERDUE, ABANDONED, NOT_STARTED = 75, 124, 125, 127
"""Exit codes: another watchdog holds the lock; the seconds are over; nobody waits any more; no such program."""
LOG_CHARACTERS = 200_000
"""Of a log, the last so many are brought back."""
SHORT_SECONDS = 1800
"""How long git and a probe may take."""
CACHE = ".cache/transformer-inference-benchmark/fleet"


@dataclass(frozen=True)
class TaskSpec:
    """What a node is asked to do.

    `python`: a Python on the node that has what requirements.lock pins; None: `run.py` makes .venv.  `environment`:
    variables to set, `secrets`: the same, and their values appear in no log.  `folder`: where to work; None: below the
    user's cache.  `again`: measure, even if a run of that name was finished here before.
    """

    commit: str
    name: str
    limit_seconds: float
    python: str | None = None
    folder: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    again: bool = False


class NodeError(Exception):
    """Why a node gives no result, in a line."""


def probe(spec: TaskSpec, bundle: bytes) -> dict[str, Any]:
    """Return the fingerprint of the machine, or `{"error": …}`."""
    try:
        checkout = unpack(spec, bundle)
        command = [spec.python or sys.executable, "-m", "fleet.machine_types"]
        ended = short_run(command, checkout, environment(spec))
        if ended.returncode and "ModuleNotFoundError" in ended.stderr and not spec.python:
            ended = short_run([sys.executable, "run.py", "fingerprint"], checkout, environment(spec))
        if ended.returncode:
            raise NodeError(last_words(ended.stdout + ended.stderr))
        machine: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return machine
    except (NodeError, OSError, subprocess.SubprocessError, ValueError, IndexError) as problem:
        return {"error": redacted(str(problem), spec)}


def measure(spec: TaskSpec, bundle: bytes) -> dict[str, Any]:
    """Measure the machine; return the kept run as a tar file, or why there is none: `{"error": …}`.

    A run that was finished here before, for the same commit and under the same name, is given back as it is.
    """
    log, began = "", time.monotonic()
    try:
        checkout = unpack(spec, bundle)
        run = checkout / "runs" / spec.name
        is_there = (run / "run.json").exists() and not spec.again
        if not is_there:
            try:
                measure_here(checkout, spec)
            finally:
                log = redacted(read_end(checkout.parent / "log.txt"), spec)
        check_secrets(run, spec)
        archive = packed(run)
        for name in (".venv", ".venv-fleet", "artifacts", ".dvc/cache"):  # gigabytes of packages and engines
            shutil.rmtree(checkout / name, ignore_errors=True)
        return {"archive": archive, "log": log, "seconds": time.monotonic() - began, "is_from_before": is_there}
    except (NodeError, OSError, subprocess.SubprocessError) as problem:
        return {"error": redacted(str(problem), spec), "log": log}


def unpack(spec: TaskSpec, bundle: bytes) -> Path:
    """Return a folder with the commit; it is made once for each name, whole or not at all."""
    base = Path(spec.folder) if spec.folder else Path.home() / CACHE
    place = base / spec.commit[:12] / spec.name
    if (place / "checkout").exists():
        return place / "checkout"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        file, new = Path(folder) / "commit.bundle", Path(folder) / "checkout"
        file.write_bytes(bundle)
        git(folder, "clone", "--quiet", "--no-checkout", str(file), str(new))
        git(str(new), "checkout", "--quiet", "--detach", spec.commit)
        with suppress(OSError):  # another task was quicker
            new.rename(place / "checkout")
    return place / "checkout"


def git(folder: str, *arguments: str) -> str:
    """Run git in a folder and return what it prints; NodeError with its last words if it fails."""
    try:
        ended = short_run(["git", *arguments], folder)
    except FileNotFoundError:
        raise NodeError("git is not installed") from None
    if ended.returncode:
        raise NodeError(f"git {arguments[0]}: {last_words(ended.stderr)}")
    return ended.stdout


def short_run(
    command: list[str], folder: str | Path, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a short command and return what it printed."""
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=SHORT_SECONDS, check=False
    )


def environment(spec: TaskSpec) -> dict[str, str]:
    """Return the variables of the processes that are started: the node's own, and those of the task spec.

    What Ray sets for its tasks is taken back: an empty CUDA_VISIBLE_DEVICES, which hides all GPUs from a task that asks
    for none, and OMP_NUM_THREADS.
    """
    taken_back = {("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS")), ("CUDA_VISIBLE_DEVICES", "")}
    own = {name: value for name, value in os.environ.items() if (name, value) not in taken_back}
    if spec.python:  # stages are run as `python`
        own["PATH"] = f"{Path(spec.python).parent}{os.pathsep}{own.get('PATH', '')}"
    return {**own, **spec.environment, **spec.secrets}


def measure_here(checkout: Path, spec: TaskSpec) -> None:
    """Run the pipeline and keep the run; NodeError if a step fails, is overdue, or another fleet holds the folder."""
    place = checkout.parent
    log = place / "log.txt"
    apart = [sys.executable, str(checkout / "fleet/node.py"), "apart", str(place / "measuring.lock"), str(log)]
    until = time.monotonic() + spec.limit_seconds
    for command in steps(spec):
        watched = [*apart, str(max(1.0, until - time.monotonic())), *command]
        # Whatever ends this call closes the watchdog's standard input.
        code = subprocess.call(watched, cwd=checkout, env=environment(spec), stdin=subprocess.PIPE)
        if code == BUSY:
            raise NodeError(f"another fleet measures in {place}")
        if code == OVERDUE:
            raise NodeError(f"was not done after {spec.limit_seconds / 3600:g} h and was ended")
        if code:
            raise NodeError(last_words(read_end(log)))


def steps(spec: TaskSpec) -> list[list[str]]:
    """Return the commands that measure and keep a run."""
    if spec.python:
        own = [spec.python, "-m"]
        check, record = "bench.runtimes.base.check_params", "bench.runs.record"
        return [[*own, check], [*own, "dvc", "repro"], [*own, record, spec.name, "--replace"]]
    run = [sys.executable, "run.py"]
    return [run, [*run, "record", spec.name, "--replace"]]


def last_words(text: str) -> str:
    """Return the last error that an output names, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("error:", "ERROR:"))]
    return (named or lines or ["no output"])[-1].removeprefix("error: ").removeprefix("ERROR: ")


def read_end(path: Path) -> str:
    """Return the end of a log, empty where there is none."""
    return path.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:] if path.exists() else ""


def redacted(text: str, spec: TaskSpec) -> str:
    """Return a text without the values of secrets."""
    for name, value in spec.secrets.items():
        text = text.replace(value, f"({name})")
    return text


def check_secrets(run: Path, spec: TaskSpec) -> None:
    """NodeError if a file of a kept run holds a secret."""
    values = [value.encode() for value in spec.secrets.values()]
    for path in run.rglob("*"):
        if path.is_file() and any(value in path.read_bytes() for value in values):
            raise NodeError(f"{path.relative_to(run)} holds a secret: the run is not brought back")


def packed(run: Path) -> bytes:
    """Return what a folder holds as a tar file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as archive:
        archive.add(run, arcname=".")
    return stream.getvalue()


def watchdog() -> int:
    """Run the command that the arguments name, alone in its folder; return its exit code or one of those above."""
    from filelock import FileLock, Timeout

    if sys.argv[1] == "apart":
        return subprocess.Popen([sys.executable, __file__, *sys.argv[2:]], start_new_session=True).wait()
    lock, log, seconds, *command = sys.argv[1:]
    try:
        with FileLock(lock, timeout=0):
            return run_watched(command, Path(log), float(seconds))
    except Timeout:
        return BUSY


def run_watched(command: list[str], log: Path, seconds: float) -> int:
    """Run a command with its output appended to `log`; return its exit code, OVERDUE or ABANDONED."""
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as problem:
            output.write(f"error: {problem.strerror}: {command[0]}\n".encode())
            return NOT_STARTED
    abandoned = threading.Event()

    def watch() -> None:
        sys.stdin.buffer.read()
        abandoned.set()
        end(process)

    threading.Thread(target=watch, daemon=True).start()
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        end(process)
        return OVERDUE
    return ABANDONED if abandoned.is_set() else code


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    with suppress(OSError):
        if sys.platform == "win32":
            subprocess.call(["taskkill", "/F", "/T", "/PID", str(process.pid)], stdout=subprocess.DEVNULL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


if __name__ == "__main__":
    exit_code = watchdog()
    sys.stdout.flush()
    os._exit(exit_code)  # the thread that watches standard input would hold the process up
