"""How long does `dvc repro` take with nothing to do, beside a bare DVC project with as many stages?

    python run.py python validation/repro_overhead.py [--rounds N] [--write FILE]

Needs a finished `dvc repro`: only `probe` may run.  The bare project's stages have one dependency and one output each
and nothing to run, so that the ratio is what this project adds: `probe`, parameters, folders, and a larger dvc.lock.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.errors import DataError, run_stage
from validation.found import tell

ROOT = Path(__file__).resolve().parent.parent
DVC = [sys.executable, "-m", "dvc"]
MAKE = "import sys; from pathlib import Path; Path(sys.argv[1]).write_text('made')\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    check_nothing_is_stale()
    with tempfile.TemporaryDirectory() as folder:
        stages = count_stages()
        bare = make_bare_project(Path(folder), stages)
        found = compare(bare, given.rounds) | {"stages": stages}
    tell(found, given.write)


def check_nothing_is_stale() -> None:
    """Run `dvc repro` once; DataError if it did more than `probe`."""
    output = _run(["repro"], ROOT)
    ran = re.findall(r"^Running stage '([^']+)'", output, flags=re.MULTILINE)
    if ran != ["probe"]:
        raise DataError(f"`dvc repro` ran {', '.join(ran)}: it had more to do than nothing; now start this again")


def count_stages() -> int:
    """Return the number of this project's stages."""
    return len(_run(["stage", "list", "--name-only"], ROOT).split())


def make_bare_project(folder: Path, stages: int) -> Path:
    """Make and run a project of `stages` stages that do nothing."""
    (folder / "make.py").write_text(MAKE, encoding="utf-8")
    entry = "  s{0}:\n    cmd: python make.py out{0}\n    deps: [make.py]\n    outs: [out{0}]\n"
    text = "stages:\n" + "".join(entry.format(number) for number in range(stages))
    (folder / "dvc.yaml").write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    for command in (
        ["init", "--quiet"],
        ["config", "core.analytics", "false"],
        ["config", "core.check_update", "false"],
    ):
        _run(command, folder)
    _run(["repro"], folder)
    return folder


def compare(bare: Path, rounds: int) -> dict[str, Any]:
    """Time `dvc repro` in both projects in turn; return seconds and the ratio of each round's pair."""
    pairs = [(_seconds(ROOT), _seconds(bare)) for _ in range(rounds)]
    return {
        "project_seconds": median(ours for ours, _ in pairs),
        "bare_seconds": median(theirs for _, theirs in pairs),
        "ratio": median(ours / theirs for ours, theirs in pairs),
        "ratios": [ours / theirs for ours, theirs in pairs],
    }


def _seconds(folder: Path) -> float:
    began = time.perf_counter()
    _run(["repro"], folder)
    return time.perf_counter() - began


def _run(arguments: list[str], folder: Path) -> str:
    return subprocess.run([*DVC, *arguments], cwd=folder, check=True, capture_output=True, encoding="utf-8").stdout


if __name__ == "__main__":
    run_stage(main)
