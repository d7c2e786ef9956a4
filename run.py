#!/usr/bin/env python3
"""Set up and run everything; needs nothing but Python 3.11 or newer and git.

    python run.py                 measure what is stale, then show the results
    python run.py test [TESTS]    run every check (ruff, mypy, pytest), or the named tests alone
    python run.py record NAME     keep the last run under a name and compare all kept runs
    python run.py dvc ...         run anything in the project's environment

The environment is .venv in this folder; it is made on the first call and again
whenever a lock (requirements.lock, requirements-dev.lock) changes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
SUFFIX = ".exe" if os.name == "nt" else ""
PYTHON = BIN / f"python{SUFFIX}"
OLDEST_PYTHON = (3, 11)
UV = "uv==0.13.9"
"""Installs in a fraction of pip's time; pip takes its place where it cannot be had."""
RUN, DEVELOP = "requirements.lock", "requirements-dev.lock"
SIZE_NOTES = {RUN: "; the first time this fetches up to 3 GB and takes minutes"}
CHECKS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    ["pytest", "--numprocesses", "auto"],
)


def main() -> int:
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"error: Python {found} is too old, allowed: 3.11 or newer", file=sys.stderr)
        return 1
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if not arguments:
        return prepare(RUN) or measure()
    if arguments[0] == "test":
        return prepare(RUN, DEVELOP) or (run(["pytest", *arguments[1:]]) if arguments[1:] else check())
    if arguments[0] == "record":
        return prepare(RUN) or record(arguments[1:])
    return prepare(RUN) or run(arguments)


def prepare(*locks: str) -> int:
    """Make .venv and install what the locks pin, unless that was done for just these files."""
    for lock in locks:
        stamp = VENV / f"{lock}.installed"
        digest = hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()
        if PYTHON.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
            continue
        code = install(lock)
        if code:
            print(f"error: installing {lock} failed (code {code}); run the same command again", file=sys.stderr)
            return code
        stamp.write_text(digest, encoding="utf-8")
    return 0


def install(lock: str) -> int:
    """Install what one lock pins into .venv, making that first where it is missing; uv does it, or else pip."""
    if not PYTHON.exists():
        print(f"making {VENV.name} with Python {sys.version.split()[0]}", flush=True)
        venv.create(VENV, with_pip=True)
    print(f"installing {lock}{SIZE_NOTES.get(lock, '')}", flush=True)
    wanted = ["--quiet", "--require-hashes", "-r", lock]
    if has_uv():
        command = [str(BIN / f"uv{SUFFIX}"), "pip", "install", "--python", str(PYTHON), "--compile-bytecode", *wanted]
        if subprocess.call(command, cwd=ROOT) == 0:
            return 0
        print("uv could not install it; pip tries", flush=True)
    return pip(*wanted)


def has_uv() -> bool:
    """Tell whether uv is in .venv, after getting it where it is missing."""
    return (BIN / f"uv{SUFFIX}").exists() or pip("--quiet", UV) == 0


def pip(*arguments: str) -> int:
    """Run `pip install` in .venv; return its exit code."""
    return subprocess.call([str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *arguments], cwd=ROOT)


def record(arguments: list[str]) -> int:
    """Keep the last run and write the comparison of all kept runs anew."""
    return run(["python", "-m", "bench.runs.record", *arguments]) or run(["dvc", "repro", "compare_runs"])


def measure() -> int:
    """Check params.yaml, run `dvc repro`, and show the results."""
    return (
        run(["python", "-m", "bench.runtimes.base.check_params"])
        or run(["dvc", "repro"])
        or run(["python", "-m", "bench.report.terminal"])
    )


def check() -> int:
    """Run every check to its end, and fail if one of them failed."""
    failed = [" ".join(command) for command in CHECKS if run(command)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def run(command: list[str]) -> int:
    """Run a command in the project's folder with .venv first on the path; return its exit code."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", "VIRTUAL_ENV": str(VENV)}
    environment.pop("PYTHONHOME", None)
    program = BIN / f"{command[0]}{SUFFIX}"
    start = [str(program) if program.exists() else command[0]]
    try:
        return subprocess.call([*start, *command[1:]], cwd=ROOT, env=environment)
    except FileNotFoundError:
        print(f"error: no command {command[0]!r} in .venv or on the path", file=sys.stderr)
        return 127
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
