"""The locks fit the requirements, and the environment that the checks run in is the locked one."""

from __future__ import annotations

import importlib.metadata
import re

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from run import CHECKS, DEVELOP, FLEET, RAY, RUN, SERVER
from tools.lock import LOCKS, header

OWN = {"pip", "setuptools", "uv"}
"""What makes the environment, and is pinned by none."""


def requirements(text: str) -> list[Requirement]:
    lines = text.replace("\\\n", " ").splitlines()
    plain = [re.sub(r"\s--hash=\S+|\s*#.*", "", line).strip() for line in lines]
    return [Requirement(line) for line in plain if line]


def locked(*names: str) -> list[Requirement]:
    return [pin for name in names for pin in requirements((ROOT / name).read_text(encoding="utf-8"))]


def version(pin: Requirement) -> str:
    [specifier] = list(pin.specifier)
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_made_from_the_requirements_as_they_are_now(lock: str) -> None:
    source = LOCKS[lock][0]
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert text.startswith(header(source)), f"{source} changed: `python run.py python tools/lock.py`"
    pins = {(canonicalize_name(pin.name), version(pin)) for pin in requirements(text)}
    for wanted in requirements((ROOT / source).read_text(encoding="utf-8")):
        assert (canonicalize_name(wanted.name), version(wanted)) in pins


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_with_hashes_and_no_index_is_named(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    for block in re.split(r"\n(?=\S)", text.split("\n", 2)[2].strip()):
        assert re.fullmatch(r"[\w.-]+==\S+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", block), block[:80]
    assert "://" not in text


def test_run_py_installs_from_the_locks() -> None:
    assert {RUN, DEVELOP, FLEET, SERVER, RAY} == set(LOCKS)
    assert [command[0] for command in CHECKS] == ["ruff", "ruff", "mypy", "pytest"]


def test_what_is_installed_and_needed_here_is_what_the_locks_pin() -> None:
    pins = {canonicalize_name(pin.name): pin for pin in locked(*LOCKS) if pin.marker is None or pin.marker.evaluate()}
    there = {canonicalize_name(each.name) for each in importlib.metadata.distributions()}
    waiting, seen = list(pins), set()
    while waiting:
        name = waiting.pop()
        if name in seen or name in OWN:
            continue
        seen.add(name)
        assert name in pins, f"{name} is needed and not locked"
        if name not in there:
            continue
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(needed.name))
    assert len(seen) > 80
