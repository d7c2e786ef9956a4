"""README and docs: their figures come from kept runs, their commands run, their links lead somewhere."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from conftest import ROOT, Project, leave_pytorch

from tools.update_docs import BLOCKS, README, filled, read, with_blocks

DOCS = ROOT / "docs"
RUNS = ROOT / "runs"
KEPT = sorted(path.name for path in RUNS.iterdir() if path.is_dir())
PAGES = [README, ROOT / "CONTRIBUTING.md", RUNS / "README.md", *sorted(DOCS.glob("*.md"))]


def test_every_block_of_figures_is_what_the_kept_runs_say() -> None:
    for path, text in filled():
        assert text == read(path), f"{path.relative_to(ROOT)}: `python run.py python tools/update_docs.py`"


def test_a_kept_runs_readme_has_the_fastest_rows_of_each_batch_size() -> None:
    table = read(RUNS / "cpu-2-passes/README.md")
    for size in (1, 4, 8, 16):
        assert table.count(f"\n| {size} | `") >= 5
    assert "17 slower rows: `summary.csv`." in table


def test_every_kept_run_is_in_the_index_of_runs() -> None:
    index = read(RUNS / "README.md")
    for name in KEPT:
        assert f"[`{name}`]({name}/README.md)" in index


def test_filling_a_block_changes_nothing_outside_its_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "table", lambda run: [rf"new \1 of {run.name}"])
    text = "before\n<!-- table cpu-2-passes -->\nold\n<!-- end -->\nafter\n"
    assert with_blocks(text) == text.replace("old", r"new \1 of cpu-2-passes")


@pytest.mark.parametrize(
    "text", ["<!-- other cpu-2-passes -->\n<!-- end -->", "<!-- padding cpu-2-passes -->\nno end", "<!-- end -->"]
)
def test_marks_that_are_no_block_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted "):
        with_blocks(text)


def test_the_readme_is_short_and_every_page_is_in_the_index() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert "python run.py" in lines[:15]
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index


LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file = (page.parent / target) if target else page
        assert file.exists(), target
        if anchor:
            assert anchor[1:] in headings(file), f"{target}{anchor}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


PATH = re.compile(r"`((?:bench|fleet|stages|tests|tools|validation|docs)/[\w./-]+\.\w+)`")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "params.yaml", ROOT / "dvc.yaml"], ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    for name in PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name


CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROMPT = "$ python run.py "
QUEUE_SECONDS = 600


def shown(page: Path) -> list[tuple[str, str]]:
    """Return (command after `python run.py`, first line of the output shown) for each in a page."""
    text = page.read_text(encoding="utf-8")
    found: list[tuple[str, str]] = []
    for block in CONSOLE.findall(text):
        for line in block.splitlines():
            if line.startswith(PROMPT):
                found.append((line.removeprefix(PROMPT), ""))
            elif not found[-1][1]:
                found[-1] = (found[-1][0], line)
    return found


@pytest.mark.slow
def test_every_command_of_readme_and_docs_runs_and_gives_what_it_shows(measured_copy: Project) -> None:
    commands = dict(pair for page in PAGES for pair in shown(page))
    assert len(commands) >= 12
    measured_copy.set_params(leave_pytorch)
    measured_copy.set_params(lambda params: params["serving"].update(variants=[]))
    measured_copy.commit("Leave the rows that start fastest")
    for command, first_line in commands.items():
        name, *arguments = command.replace('"', "").split()
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
