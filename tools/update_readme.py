"""Put the tables of two recorded runs, and what DVC says of two recorded runs, into README.md.

    python run.py python tools/update_readme.py CPU NEWEST TENSORRT

Each is the commit of a run: on a CPU alone, on a GPU with the newest ONNX Runtime, and on a GPU with TensorRT.
TENSORRT's table stands first and NEWEST's has a block of its own; DVC compares CPU with NEWEST.
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
TABLE = "results/summary_table.md"
ROWS = "| batch | variant |"
"""Begins the part of TABLE that is folded."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cpu", "newest", "tensorrt"):
        parser.add_argument(name, metavar=name.upper())
    given = parser.parse_args()
    cpu, newest, tensorrt = (
        _output("git", "rev-parse", "--short", commit).strip() for commit in (given.cpu, given.newest, given.tensorrt)
    )
    text = README.read_text(encoding="utf-8")
    for block, commit in (("table", tensorrt), ("table of the newest ONNX Runtime", newest)):
        text = with_block(text, block, provenance_and_gpu_panel(_output("git", "show", f"{commit}:{TABLE}")))
    for command in ("params diff", "metrics diff"):
        text = with_block(text, command, _console(["dvc", *command.split(), cpu, newest]))
    README.write_text(text, encoding="utf-8", newline="\n")
    return 0


def provenance_and_gpu_panel(table: str) -> str:
    """Return what stands above the panels of results/summary_table.md, then its GPU panel, the rows folded."""
    head, _, panels = table.partition("\n## GPU")
    lines = [line for line in panels.partition("\n## ")[0].splitlines()[1:] if not line.startswith("- ")]
    answers, _, rows = "\n".join(lines).partition(ROWS)
    parts = (
        head.partition("\n")[2].strip(),
        answers.strip(),
        "<details><summary>Every row</summary>",
        f"{ROWS}{rows}".strip(),
        "</details>",
    )
    return "\n\n".join(parts)


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
