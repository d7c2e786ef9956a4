"""The README's figures are put there by a tool, from what runs wrote."""

from __future__ import annotations

import pytest

from tools.update_readme import README, provenance_and_gpu_panel, with_block

TABLE = """# Inference latency and throughput

Model: some.

- GPU: some

## GPU: some

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
        "Model: some.\n\n- GPU: some\n\n| batch | variant |\n| --- | --- |\n| 1 | fast |"
    )


def test_filling_the_readme_changes_nothing_outside_its_marks() -> None:
    text = "before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n"
    assert with_block(text, "table", r"new \1") == "before\n<!-- table -->\nnew \\1\n<!-- end of table -->\nafter\n"
    with pytest.raises(ValueError, match="wanted one block from <!-- other -->"):
        with_block(text, "other", "new")


def test_the_readme_has_every_block_that_the_tool_fills() -> None:
    text = README.read_text(encoding="utf-8")
    for name in ("table", "params diff", "metrics diff"):
        assert with_block(text, name, "").count(f"<!-- {name} -->") == 1
