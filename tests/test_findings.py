"""What a run shows, as data and in words: the published schema, and whole files that `--update-golden` writes anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from made_blocks import in_passes
from rich.console import Console

from bench.core.errors import DataError
from bench.findings.build import read_findings, write_findings
from bench.findings.models import Findings, Observation
from bench.report.document import to_markdown
from bench.report.notes import advice, notes_blocks
from bench.report.shown import Shown
from bench.report.terminal import print_panel, print_served
from bench.report.texts import table_blocks, taken_alone
from bench.runs.recorded_runs import RecordedRun

SCHEMA = ROOT / "docs/findings.schema.json"
GOLDEN = ROOT / "tests/golden"
GPU, CPU = "h100-minilm-tensorrt", "cpu-2-passes"
"""Kept runs: one with TensorRT, accuracies and energy; one with every way to pad on the CPU."""
JUMPING = {GPU: ("ort_tensorrt_fp16_longest", 16), CPU: ("torch_compile_cpu_fp32_longest", 4)}
"""Of each the cell that jumps as it is shown here."""


@cache
def shown(name: str) -> Shown:
    """Return a kept run as if it had been timed in passes."""
    return in_passes(RecordedRun.read(ROOT / "runs" / name), JUMPING[name]).shown()


def terminal(name: str) -> str:
    """Return what the terminal prints of a kept run at 120 characters."""
    console = Console(width=120, file=StringIO())
    for panel in shown(name).findings.panels:
        print_served(console, shown(name), panel)
        print_panel(console, shown(name), panel)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


WRITTEN: dict[str, Callable[[], str]] = {
    "gpu_notes.md": lambda: to_markdown(notes_blocks(shown(GPU))),
    "gpu_table.md": lambda: to_markdown(table_blocks(shown(GPU))),
    "gpu_terminal.txt": lambda: terminal(GPU),
    "cpu_notes.md": lambda: to_markdown(notes_blocks(shown(CPU))),
}


@pytest.fixture
def as_kept(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Assert that a text is what a file holds; with `--update-golden`, write the file instead."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        assert text == path.read_text(encoding="utf-8"), "meant? `pytest --update-golden` writes it anew"

    return check


@pytest.mark.parametrize("name", WRITTEN)
def test_the_words_are_those_of_the_golden_file(name: str, as_kept: Callable[[Path, str], None]) -> None:
    as_kept(GOLDEN / name, WRITTEN[name]())


def test_the_published_schema_is_that_of_the_models(as_kept: Callable[[Path, str], None]) -> None:
    as_kept(SCHEMA, json.dumps(Findings.model_json_schema()) + "\n")


@pytest.mark.parametrize("name", [GPU, CPU])
def test_findings_are_read_as_they_were_written(name: str, tmp_path: Path) -> None:
    write_findings(shown(name).findings, tmp_path / "findings.json")
    assert read_findings(tmp_path / "findings.json") == shown(name).findings
    assert json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["schema_version"] == 2


def test_every_shown_cell_is_a_row_of_the_summary() -> None:
    seen = shown(CPU)
    cells = {(row.variant, row.batch_size) for row in seen.summary}
    for panel in seen.findings.panels:
        for each in panel.fastest:
            assert {(cell.variant, cell.batch_size) for cell in (each.cell, *each.ties)} <= cells


def edited(content: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> str:
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda content: content.update(schema_version=1), "schema_version"),
        (lambda content: content.pop("panels"), "panels"),
        (lambda content: content["panels"][0].update(device="tpu"), "panels.0.device"),
        (lambda content: content.update(more=1), "more"),
    ],
)
def test_findings_of_another_schema_are_refused(
    change: Callable[[dict[str, Any]], object], key: str, tmp_path: Path
) -> None:
    path = tmp_path / "findings.json"
    path.write_text(edited(shown(GPU).findings.model_dump(mode="json"), change), encoding="utf-8")
    with pytest.raises(DataError, match=f"findings.json is damaged \\({key}: "):
        read_findings(path)


def test_missing_findings_name_what_writes_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing: `dvc repro -f summarize`"):
        read_findings(tmp_path / "findings.json")


def test_a_precision_whose_accuracy_was_not_taken_is_not_said_to_lose_none() -> None:
    findings = shown(CPU).findings
    claims = [each.claim for each in findings.observations if each.claim and each.claim.kind == "precision"]
    found = next(claim for claim in claims if "accuracy" in advice(claim, findings))
    assert "check its accuracy on labelled sentences (`dataset.path`) first" in advice(found, findings)
    taken = found.traits[0][0].model_copy(update={"accuracy_loss": 0.01, "accuracy_loss_p": 0.5})
    other = found.model_copy(update={"traits": [(taken, found.traits[0][1])]})
    observations = [Observation(kind="precision", device="cpu", weight=1.0, claim=each) for each in (other, found)]
    findings = findings.model_copy(update={"observations": observations})
    assert "it loses 1.00% accuracy (p = 0.5)" in advice(other, findings)
    assert "it was taken of the baseline and of possible best rows only" in advice(found, findings)


def test_rows_without_accuracy_beside_others_are_explained() -> None:
    run = shown(GPU)
    assert taken_alone(run) == ""
    first, *others = run.summary
    assert first.status == "measured"
    summary = [first._replace(accuracy=None), *others]
    assert taken_alone(replace(run, summary=summary)).startswith("What needs a process alone (accuracy")
