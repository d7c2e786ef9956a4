"""Put the recorded run's table, and what DVC says of two recorded runs, into README.md.

    python run.py python tools/update_readme.py FIRST SECOND [--tensorrt COMMIT]

FIRST and SECOND are commits, and COMMIT one of a run with TensorRT, whose table gets a block of its own.
Only the lines between `<!-- NAME -->` and `<!-- end of NAME -->` change, so that no figure in the README is ever typed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--tensorrt")
    given = parser.parse_args()
    commits = [_output("git", "rev-parse", "--short", commit).strip() for commit in (given.first, given.second)]
    text = README.read_text(encoding="utf-8")
    text = with_block(text, "table", provenance_and_gpu_panel(_output("git", "show", f"{commits[1]}:{TABLE}")))
    if given.tensorrt:
        panel = provenance_and_gpu_panel(_output("git", "show", f"{given.tensorrt}:{TABLE}"))
        text = with_block(text, "table with TensorRT", panel)
    for command in ("params diff", "metrics diff"):
        text = with_block(text, command, _console(["dvc", *command.split(), *commits]))
    README.write_text(text, encoding="utf-8", newline="\n")
    return 0


TABLE = "results/summary_table.md"


def provenance_and_gpu_panel(table: str) -> str:
    """Return what stands above the panels of results/summary_table.md, then its GPU panel: answers, picks, rows."""
    head, _, panels = table.partition("\n## GPU")
    lines = [line for line in panels.partition("\n## ")[0].splitlines()[1:] if not line.startswith("- ")]
    return head.partition("\n")[2].strip() + "\n\n" + "\n".join(lines).strip()


def with_block(text: str, name: str, content: str) -> str:
    """Return `text` with other content between the two marks of a block; ValueError if it has no such block."""
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    block = re.compile(re.escape(marks[0]) + ".*?" + re.escape(marks[1]), re.DOTALL)
    if len(block.findall(text)) != 1:
        raise ValueError(f"README.md: wanted one block from {marks[0]} to {marks[1]}")
    return block.sub(lambda _found: f"{marks[0]}\n{content}\n{marks[1]}", text)


def _console(command: list[str]) -> str:
    lines = [line.rstrip() for line in _output(*command).splitlines()]
    return "\n".join(["```console", f"$ python run.py {' '.join(command)}", *lines, "```"])


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout


if __name__ == "__main__":
    sys.exit(main())
