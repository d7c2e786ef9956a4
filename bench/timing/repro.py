"""Which `dvc repro` is this stage a part of, and what was it asked for?

DVC does not tell its stages; the command line of the process that started them does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath

import psutil

FORCE = ("-f", "--force")
SUBCOMMANDS = ("repro", "reproduce")
TIMED = ("infer", "serve")
"""Kinds of stages that time rows, in their order: those of one kind need all of the kind before."""


@dataclass(frozen=True)
class Request:
    """A `dvc repro`: an id that no other one has, the targets that it names, and whether it is forced."""

    id: str
    targets: tuple[str, ...] = ()
    is_forced: bool = False

    def includes(self, stages: Sequence[str]) -> bool:
        """Tell whether it may run one of these stages, the forms of a name: it names no target, one of them, or a later
        stage, which needs them all (`render`).
        """
        kind = stages[0].split("@")[0].split("_")[0]
        before = TIMED[: TIMED.index(kind) + 1]
        named = [target for target in self.targets if target.removeprefix("stages.").startswith(before)]
        return len(named) < len(self.targets) or not named or any(stage in named for stage in stages)


UNKNOWN = Request("")
"""The stage was started by hand, or by something that is not `dvc repro`."""


def current_request() -> Request:
    """Return the `dvc repro` that started this process, UNKNOWN where there is none to be found."""
    for process in _ancestors():
        try:
            words, began = process.cmdline(), process.create_time()
        except psutil.Error:
            continue
        found = parse(words)
        if found is not None:
            targets, is_forced = found
            return Request(f"{process.pid}-{began:.3f}", targets, is_forced)
    return UNKNOWN


def _ancestors() -> Iterator[psutil.Process]:
    try:
        yield from psutil.Process().parents()
    except psutil.Error:
        return


def parse(words: Sequence[str]) -> tuple[tuple[str, ...], bool] | None:
    """Return (targets, is forced) of the command line of a `dvc repro`, None for any other."""
    for place, word in enumerate(words):
        # Windows' rules split both kinds of paths.
        is_dvc = PureWindowsPath(words[place - 1]).stem == "dvc" if place else False
        if word in SUBCOMMANDS and is_dvc:
            rest = words[place + 1 :]
            targets = tuple(item for item in rest if not item.startswith("-"))
            return targets, any(item in FORCE for item in rest)
    return None
