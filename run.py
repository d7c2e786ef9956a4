#!/usr/bin/env python3
"""Set up and run everything; needs nothing but Python 3.11 or newer and git.

    python run.py              measure what is stale, then show the results
    python run.py test         run every check (ruff, mypy, pytest)
    python run.py record NAME  keep the last run under a name and compare all kept runs
    python run.py dvc ...      run anything in the project's environment

The environment is .venv in this folder; it is made on the first call and again
whenever a requirements file changes.
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
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
OLDEST_PYTHON = (3, 11)
SIZE_NOTES = {"requirements.txt": "; the first time this fetches up to 3 GB and takes minutes"}
CHECKS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    ["pytest"],
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
        return prepare("requirements.txt") or measure()
    if arguments == ["test"]:
        return prepare("requirements.txt", "requirements-dev.txt") or check()
    if arguments[:1] == ["record"]:
        return prepare("requirements.txt") or record(arguments[1:])
    return prepare("requirements.txt") or run(arguments)


def prepare(*requirements: str) -> int:
    """Make .venv and install the pinned requirements, unless that was done for just these files."""
    for name in requirements:
        stamp = VENV / f"{name}.installed"
        digest = hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
        if PYTHON.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
            continue
        code = install(name)
        if code:
            print(f"error: installing {name} failed (code {code}); run the same command again", file=sys.stderr)
            return code
        stamp.write_text(digest, encoding="utf-8")
    return 0


def install(name: str) -> int:
    """Install one requirements file into .venv, making that first where it is missing."""
    if not PYTHON.exists():
        print(f"making {VENV.name} with Python {sys.version.split()[0]}", flush=True)
        venv.create(VENV, with_pip=True)
    print(f"installing {name}{SIZE_NOTES.get(name, '')}", flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", name]
    return subprocess.call(pip, cwd=ROOT)


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
    program = BIN / (f"{command[0]}.exe" if os.name == "nt" else command[0])
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
