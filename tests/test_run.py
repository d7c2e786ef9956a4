"""`run.py`: what it starts for which arguments, and what it says when an install fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Collect the commands that would be run in .venv, and prepare nothing."""
    commands: list[list[str]] = []

    def keep(command: list[str]) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(run, "run", keep)
    monkeypatch.setattr(run, "prepare", lambda *_locks: 0)
    return commands


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    return run.main()


def test_no_argument_checks_the_parameters_then_measures_then_shows(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(monkeypatch) == 0
    assert [command[-1] for command in started] == [
        "bench.runtimes.base.check_params",
        "repro",
        "bench.report.terminal",
    ]
    for command in (started[0], started[2]):
        assert (ROOT / (command[-1].replace(".", "/") + ".py")).is_file()


def test_named_tests_are_run_by_pytest_and_not_by_another_program(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(monkeypatch, "test", "tests/test_run.py", "-k", "named") == 0
    assert started == [["pytest", "tests/test_run.py", "-k", "named"]]


def test_all_checks_run_even_if_one_fails(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_ruff(command: list[str]) -> int:
        started.append(command)
        return int(command[0] == "ruff")

    monkeypatch.setattr(run, "run", fail_ruff)
    assert main(monkeypatch, "test") == 2
    assert started == list(map(list, run.CHECKS))
    assert "failed: ruff check ., ruff format --check ." in capsys.readouterr().err


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Collect what would be installed into an environment that is there; uv is there and fails."""
    commands: list[list[str]] = []
    for name in ("PYTHON", "BIN", "VENV"):
        monkeypatch.setattr(run, name, tmp_path / ("python" if name == "PYTHON" else ""))
    (tmp_path / "python").touch()
    (tmp_path / f"uv{run.SUFFIX}").touch()

    def call(command: list[str], **_settings: object) -> int:
        commands.append(command)
        return int(Path(command[0]).stem == "uv")

    monkeypatch.setattr(subprocess, "call", call)
    return commands


def test_pip_installs_the_same_lock_where_uv_cannot(installs: list[list[str]], tmp_path: Path) -> None:
    assert run.prepare(run.RUN) == 0
    first, second = installs
    assert Path(first[0]).stem == "uv"
    assert second[1:3] == ["-m", "pip"]
    for command in installs:
        assert command[-3:] == ["--require-hashes", "-r", run.RUN]
    assert (tmp_path / f"{run.RUN}.installed").is_file()


def test_an_install_that_fails_is_not_taken_for_done(
    installs: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "call", lambda *_command, **_settings: 3)
    assert run.prepare(run.RUN) == 3
    assert f"error: installing {run.RUN} failed (code 3)" in capsys.readouterr().err
    assert not (tmp_path / f"{run.RUN}.installed").exists()
    assert installs == []
