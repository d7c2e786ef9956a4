"""`run.py`: what it starts for which arguments, and what it says when an install fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import webbrowser
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

    for environment in (run.OWN, run.OF_FLEETS):
        monkeypatch.setattr(environment, "run", keep)
        monkeypatch.setattr(environment, "prepare", lambda *_locks: 0)
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


@pytest.mark.parametrize(("arguments", "modules"), [(["one"], 2), (["--help"], 1), (["one", "-h"], 1)])
def test_what_record_offers_is_told_and_nothing_compared(
    arguments: list[str], modules: int, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(monkeypatch, "record", *arguments) == 0
    assert len(started) == modules
    assert started[0][-len(arguments) :] == arguments


def test_named_tests_are_run_by_pytest_and_not_by_another_program(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(monkeypatch, "test", "--slow", "tests/test_run.py", "-k", "named") == 0
    assert started == [["pytest", "--slow", "tests/test_run.py", "-k", "named"]]


def test_a_fleet_has_an_environment_of_its_own_that_no_row_is_timed_in(
    monkeypatch: pytest.MonkeyPatch, started: list[list[str]]
) -> None:
    prepared: list[str] = []

    def prepare(*locks: str) -> int:
        prepared.extend(locks)
        return 0

    monkeypatch.setattr(run.OF_FLEETS, "prepare", prepare)
    monkeypatch.setattr(run.OWN, "prepare", lambda *_locks: pytest.fail("the rows' own environment was touched"))
    assert main(monkeypatch, "fleet", "--repeat", "3") == 0
    assert (prepared, started) == ([run.FLEET], [["python", "-m", "fleet", "--repeat", "3"]])
    assert "\nray==" not in (ROOT / run.RUN).read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [[], ["--slow"]])
def test_all_checks_run_even_if_one_fails(
    options: list[str],
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail_ruff(command: list[str]) -> int:
        started.append(command)
        return int(command[0] == "ruff")

    monkeypatch.setattr(run.OWN, "run", fail_ruff)
    assert main(monkeypatch, "test", *options) == 2
    *others, tests = run.CHECKS
    assert started == [*others, [*tests, *options]]
    assert "failed: ruff check ., ruff format --check ." in capsys.readouterr().err


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Collect what would be installed into an environment that is there; uv is there and fails."""
    commands: list[list[str]] = []
    there = run.Environment(tmp_path)
    monkeypatch.setattr(run, "OWN", there)
    there.bin.mkdir()
    there.python.touch()
    (there.site_packages() / "pip").mkdir(parents=True)
    there.home.write_text(there.made_for(), encoding="utf-8")
    (there.bin / f"uv{run.SUFFIX}").touch()

    def call(command: list[str], **_settings: object) -> int:
        commands.append(command)
        return int(Path(command[0]).stem == "uv")

    monkeypatch.setattr(subprocess, "call", call)
    return commands


def test_pip_installs_the_same_lock_where_uv_cannot(installs: list[list[str]], tmp_path: Path) -> None:
    assert run.OWN.prepare(run.RUN) == 0
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
    assert run.OWN.prepare(run.RUN) == 3
    assert f"error: installing {run.RUN} failed (code 3)" in capsys.readouterr().err
    assert not (tmp_path / f"{run.RUN}.installed").exists()
    assert not (tmp_path / "made_for.txt").exists(), "the next call starts with a new .venv"
    assert installs == []


def test_show_says_where_the_page_is_or_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "results/report.html"
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "PAGE", page)
    monkeypatch.setattr(webbrowser, "open", lambda _address: False)
    assert main(monkeypatch, "show") == 1
    missing = "error: results/report.html is missing: `python run.py` measures and writes it"
    assert capsys.readouterr().err.strip() == missing
    page.parent.mkdir()
    page.touch()
    assert main(monkeypatch, "show") == 0
    assert page.as_uri() in capsys.readouterr().out


@pytest.mark.parametrize("command", ["benchmark", "ls", "git", "tests", "recrod"])
def test_what_is_no_program_of_the_environment_is_refused(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    there = run.Environment(tmp_path)
    monkeypatch.setattr(there, "prepare", lambda *_locks: 0)
    monkeypatch.setattr(run, "OWN", there)
    assert main(monkeypatch, command) == 127
    said = capsys.readouterr().err
    assert (
        f"error: no command {command!r}, allowed: no argument, test, show, record, deploy, compare, fleet, or a program"
        in said
    )


@pytest.mark.parametrize(
    ("system", "machine", "is_served"),
    [
        ("Linux", "x86_64", True),
        ("Linux", "aarch64", True),
        ("Windows", "AMD64", True),
        ("Darwin", "arm64", True),
        ("Darwin", "x86_64", False),
        ("Windows", "ARM64", False),
        ("Linux", "i686", False),
        ("FreeBSD", "amd64", False),
    ],
)
def test_a_system_without_packages_is_refused_by_name_before_anything_is_fetched(
    system: str, machine: str, is_served: bool, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.1", ("", "", ""), machine))
    assert (main(monkeypatch) == 0) is is_served
    assert bool(started) is is_served
    told = f"{system} on {machine} has no packages of the pinned versions"
    assert any(reason.startswith(told) for reason in run.unsupported()) is not is_served


@pytest.mark.parametrize(("version", "is_served"), [("13.7", False), ("14.0", True), ("26.1", True), ("", True)])
def test_a_macos_that_the_pinned_pytorch_has_no_packages_for_is_refused(
    version: str, is_served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("platform.mac_ver", lambda: (version, ("", "", ""), "arm64"))
    assert (not list(run.unsupported())) is is_served


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A project whose locks pin nothing, so that its environment is made in seconds and without a network."""
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copyfile(ROOT / "run.py", folder / "run.py")
    for lock in (run.RUN, run.DEVELOP):
        (folder / lock).write_text("", encoding="utf-8")
    return folder


def call(clone: Path, *arguments: str, **surroundings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PIP_NO_INDEX": "1", **surroundings}
    python = getattr(sys, "_base_executable", sys.executable)
    return subprocess.run(
        [python, "run.py", *arguments], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )


def python_of(clone: Path) -> Path:
    return run.Environment(clone / ".venv").python


def works(clone: Path, **surroundings: str) -> str:
    """Return what run.py said while `python` of the environment was called through it."""
    ended = call(clone, "python", "-c", "import sys; print(sys.prefix)", **surroundings)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().splitlines()[-1] == str(clone / ".venv")
    return ended.stdout


@pytest.mark.parametrize("fault", ["pip is gone", "its Python is gone", "the lock changed", "it was moved"])
def test_an_environment_that_is_half_made_moved_or_outdated_is_made_anew(
    fault: str, installs: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make() -> str:
        made.append(fault)
        there.python.touch()
        return ""

    there = run.OWN
    monkeypatch.setattr(there, "make", make)
    assert there.prepare(run.RUN) == 0
    assert not made, "a whole one stays"
    if fault == "pip is gone":
        shutil.rmtree(there.site_packages() / "pip")
        (there.folder / f"{run.RUN}.installed").unlink()
    elif fault == "its Python is gone":
        there.python.unlink()
    elif fault == "the lock changed":
        monkeypatch.setattr(there, "mark", lambda lock: f"another {lock}")
    else:
        monkeypatch.setattr(there, "made_for", lambda: "another folder")
    installs.clear()
    assert there.prepare(run.RUN) == 0
    assert made == [fault]
    assert installs, "and filled"


@pytest.mark.slow
def test_an_environment_that_was_moved_works_again_and_without_activation(clone: Path) -> None:
    assert "making .venv with Python" in works(clone)
    assert "making" not in works(clone), "a whole one stays"
    moved = clone.with_name("moved")
    clone.rename(moved)
    assert "anew; what was installed by hand besides is gone" in works(moved)
    code = (
        "import os, shutil, subprocess, sys; print(shutil.which('python')); print(os.environ['PATH'].count(sys.prefix))"
    )
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    ended = subprocess.run(
        [str(python_of(moved)), "-c", nested],
        env={**os.environ, "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    )
    found, times = ended.stdout.split()
    assert Path(found).parent == python_of(moved).parent
    assert times == "1"


@pytest.mark.slow
def test_a_python_that_cannot_make_environments_is_told_with_what_to_install(clone: Path, tmp_path: Path) -> None:
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text("import sys\nsys.modules['ensurepip'] = None\n", encoding="utf-8")
    for _ in range(2):
        ended = call(clone, "python", PYTHONPATH=str(shim))
        assert ended.returncode == 1
        assert "error: this Python has no ensurepip: install it (Debian, Ubuntu: `apt install python3." in ended.stderr
        assert "Traceback" not in ended.stderr
    works(clone)
