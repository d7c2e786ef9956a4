"""What can be checked of Windows without one: names, line ends, consoles, shells, exit codes, files that are held."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from conftest import ROOT

from bench.core import files
from bench.core.files import replacing_file, replacing_folder
from bench.runs.record import RESERVED
from bench.workers.launcher import describe_exit

TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:\$ )?((?:python|py|git|pytest) .*)$", re.MULTILINE)
BLOCK = re.compile(r"^```(?:sh|console|powershell)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_every_path_is_one_that_windows_can_have() -> None:
    names = [name for name in TRACKED if name]
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        for part in PurePosixPath(name).parts:
            assert not re.search(r'[<>:"\\|?*]|[. ]$', part), name
            assert part.split(".")[0].lower() not in RESERVED, name
        assert len(name) < 150, name


def test_a_clone_on_windows_has_the_same_bytes(tmp_path: Path) -> None:
    """git for Windows turns line ends by default; DVC would then call every stage changed."""
    shown = ["dvc.yaml", "params.yaml", "stages/probe.py", "bench/core/params.py", "run.py"]
    settings = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    subprocess.run(["git", "clone", "--quiet", *settings, str(ROOT), str(tmp_path / "clone")], check=True)
    for name in shown:
        assert b"\r\n" not in (tmp_path / "clone" / name).read_bytes(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_reads_the_same_in_sh_zsh_and_powershell(page: Path) -> None:
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for command in COMMAND.findall(block):
            bare = re.sub(r'"[^"$`\\!]*"', "", command)
            assert not re.search(r"[\[\]*?{}()<>|&;$`'~#!\\]", bare.replace(r".venv\Scripts\python", "")), command


def test_a_console_that_cannot_show_a_character_stops_nothing() -> None:
    code = "from bench.core.errors import run_stage\nrun_stage(lambda: print('1.5\\u00d7 \\u2013 \\u26a1'))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    )
    assert ended.stdout.strip() == b"1.5? ? ?"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (0xC0000005, "ended with Windows' code 0xC0000005: an access violation"),
        (0xC0000005 - 2**32, "ended with Windows' code 0xC0000005: an access violation"),
        (0xC0000135, "ended with Windows' code 0xC0000135: a missing DLL"),
        (0xC0FFEE00, "ended with Windows' code 0xC0FFEE00: an error of the system"),
        (1, "ended with code 1"),
        (-9, "was ended by SIGKILL (often because the system ran out of memory)"),
    ],
)
def test_an_exit_code_of_windows_has_a_name(code: int, told: str) -> None:
    assert describe_exit(code) == told


class Held:
    """Stands for a scanner that holds a new file for the first moves."""

    def __init__(self, moves: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = moves
        replace = Path.replace

        def held(path: Path, target: Path) -> Path:
            if self.left > 0:
                self.left -= 1
                raise PermissionError(13, "held by another process")
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", held)


def test_a_file_that_a_scanner_holds_is_moved_when_it_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Held(3, monkeypatch)
    with replacing_file(tmp_path / "a") as temporary:
        temporary.write_text("new")
    Held(3, monkeypatch)
    with replacing_folder(tmp_path / "b") as folder:
        (folder / "c").write_text("new")
    assert (tmp_path / "a").read_text() == (tmp_path / "b/c").read_text() == "new"


def test_a_file_that_stays_held_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.1)
    Held(10**6, monkeypatch)
    with pytest.raises(PermissionError), replacing_file(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert not list(tmp_path.iterdir())
