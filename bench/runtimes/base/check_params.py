"""Check params.yaml before DVC reads it:  python -m bench.runtimes.base.check_params

DVC fills dvc.yaml from params.yaml before any stage can run, and names a missing key less clearly.
"""

import subprocess
from pathlib import Path

from bench.core.errors import BenchError, run_stage
from bench.core.files import first_line
from bench.core.params import Params, load_params
from bench.core.progress import log
from bench.runtimes.base.registry import check_variant


def main() -> None:
    check_home()
    check_git()
    check_params()


def check_home() -> None:
    """Raise BenchError with the way out for a user without a home folder, where DVC ends with a traceback."""
    try:
        Path.home()
    except RuntimeError:
        mend = "set HOME to a folder that you may write to (`docker run -e HOME=/tmp …`)"
        raise BenchError(f"this user has no home folder, as in containers without a passwd entry: {mend}") from None


def check_git() -> None:
    """Raise BenchError with the way out where there is no git, or none of this folder; say where git refuses it."""
    try:
        ended = subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True, text=True, check=False)
    except OSError as problem:
        raise BenchError(f"DVC needs git, which cannot be started ({problem}): install it") from None
    folder = Path.cwd()
    if not ended.returncode:
        return
    if not any((place / ".git").exists() for place in (folder, *folder.parents)):
        mend = "`git init`, `git add -A`, `git commit -m Start`, or clone the project"
        raise BenchError(f"{folder} is in no git repository (a ZIP?), which DVC needs: {mend}")
    said = first_line(BenchError(ended.stderr))
    mend = f"`git config --global --add safe.directory {folder.as_posix()}` mends it"
    log(f"NOTE: git does not take this folder ({said}), so that experiments and comparisons of commits fail: {mend}")


def check_params() -> Params:
    """Return the checked params.yaml, every variant's runtime asked too; ParameterError if something is not allowed."""
    params = load_params()
    for key, variant in params.all_variants().items():
        check_variant(key, variant)
    return params


if __name__ == "__main__":
    run_stage(main)
