"""What `probe` finds out about the machine: versions, and who holds the timing lock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from bench.machine.environment import VERSIONED_LIBRARIES
from bench.machine.lock import timing_lock
from bench.machine.versions import library_version, read_constants


def in_new_process(code: str, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, check=True, capture_output=True, encoding="utf-8"
    )
    return ended.stdout


def test_versions_are_those_that_the_imported_libraries_state() -> None:
    code = (
        "import json, sys\n"
        "from bench.machine.versions import library_version\n"
        "read = {name: library_version(name) for name in sys.argv[1:]}\n"
        "loaded = [name for name in sys.argv[1:] if name in sys.modules]\n"
        "import importlib, importlib.metadata\n"
        "modules = {name: importlib.import_module(name) for name in read if read[name]}\n"
        "recorded = importlib.metadata.version\n"
        "stated = {name: getattr(each, '__version__', None) or recorded(name) for name, each in modules.items()}\n"
        "print(json.dumps([read, {name: str(text) for name, text in stated.items()}, loaded]))\n"
    )
    libraries = [name for name in VERSIONED_LIBRARIES if name != "tensorrt"]
    read, stated, loaded = json.loads(in_new_process(code, *libraries).splitlines()[-1])
    assert read == {name: text.split("-")[0] for name, text in stated.items()}, "a build's mark stays out"
    assert set(read) == set(libraries)
    assert loaded == []


def test_a_version_that_is_computed_is_asked_of_the_imported_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "computed").mkdir()
    (tmp_path / "computed/__init__.py").write_text('__version__ = "1" + ".5"\n', encoding="utf-8")
    (tmp_path / "broken.py").write_text("raise ImportError('a library of the system is missing')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert library_version("computed") == "1.5"
    assert library_version("broken") is None
    assert library_version("nowhere") is None


def test_constants_are_read_from_a_file_without_running_it(tmp_path: Path) -> None:
    file = tmp_path / "version.py"
    file.write_text('raise SystemExit\nfull: str = "2.0"\n__version__ = full\nnumber = 3\n', encoding="utf-8")
    assert read_constants(file) == {"full": "2.0", "__version__": "2.0"}
    assert read_constants(tmp_path / "missing.py") == {}


def test_a_run_that_waits_for_the_lock_says_for_whom_and_since_when(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench.machine.lock import timing_lock\n"
        "with timing_lock(Path(sys.argv[1])): print('mine', flush=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with timing_lock(tmp_path):
        waiting = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
        assert waiting.stdout is not None
        line = waiting.stdout.readline()
    assert waiting.communicate()[0] == "mine\n"
    note = json.loads(next(tmp_path.glob("*.holder.json")).read_text(encoding="utf-8"))
    assert f"(process {waiting.pid} in" not in line
    assert f"in {Path.cwd()}, for 0 min); waiting for it to end" in line
    assert note["process"] == waiting.pid
