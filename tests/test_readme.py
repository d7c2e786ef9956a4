"""The README's figures are put there by a tool, from what runs wrote."""

from __future__ import annotations

import re
import time

import pytest
from conftest import Project

from tools.update_readme import README, provenance_and_gpu_panel, with_block

TABLE = """# Inference latency and throughput

Model: some.

- GPU: some

## GPU: some

| batch | fastest |
| --- | --- |
| 1 | fast |

For a latency budget:

| batch | variant |
| --- | --- |
| 1 | fast |

- skipped: `slow`

## CPU: some

| batch | variant |
| --- | --- |
| 1 | other |
"""


def test_the_readme_shows_the_gpu_rows_with_where_they_come_from() -> None:
    assert provenance_and_gpu_panel(TABLE) == (
        "Model: some.\n\n- GPU: some\n\n| batch | fastest |\n| --- | --- |\n| 1 | fast |\n\n"
        "For a latency budget:\n\n<details><summary>Every row</summary>\n\n"
        "| batch | variant |\n| --- | --- |\n| 1 | fast |\n\n</details>"
    )


def test_filling_the_readme_changes_nothing_outside_its_marks() -> None:
    text = "before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n"
    assert with_block(text, "table", r"new \1") == "before\n<!-- table -->\nnew \\1\n<!-- end of table -->\nafter\n"
    with pytest.raises(ValueError, match="wanted one block from <!-- other -->"):
        with_block(text, "other", "new")


def test_the_readme_has_every_block_that_the_tool_fills() -> None:
    text = README.read_text(encoding="utf-8")
    for name in ("table", "table of the newest ONNX Runtime", "params diff", "metrics diff"):
        assert with_block(text, name, "").count(f"<!-- {name} -->") == 1


CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROMPT = "$ python run.py "
QUEUE_SECONDS = 600


def shown() -> list[tuple[str, str]]:
    """Return (command after `python run.py`, first line of the output shown) for each that needs no recorded run."""
    text = README.read_text(encoding="utf-8")
    for name in ("params diff", "metrics diff"):
        text = with_block(text, name, "")
    found: list[tuple[str, str]] = []
    for block in CONSOLE.findall(text):
        for line in block.splitlines():
            if line.startswith(PROMPT):
                found.append((line.removeprefix(PROMPT), ""))
            elif not found[-1][1]:
                found[-1] = (found[-1][0], line)
    return found


def test_every_command_in_the_readme_runs_and_gives_what_it_shows(measured_copy: Project) -> None:
    commands = shown()
    assert len(commands) >= 10
    for command, first_line in commands:
        name, *arguments = command.split()
        assert name == "dvc"
        output = measured_copy.dvc(*arguments).stdout
        if first_line:
            assert first_line.split() == output.splitlines()[0].split(), command
        if arguments[:2] == ["queue", "start"]:
            wait_for_queue(measured_copy)


def wait_for_queue(project: Project) -> None:
    """Return when the one queued experiment has succeeded."""
    ends = time.monotonic() + QUEUE_SECONDS
    while "Success" not in (status := project.dvc("queue", "status").stdout):
        assert "Failed" not in status, project.dvc("queue", "logs", code=None).stdout
        assert time.monotonic() < ends, status
        time.sleep(2)
