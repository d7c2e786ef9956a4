"""The reports of rows that were timed together, until the stage of each takes its own.

The first stage of a kind in a `dvc repro` runs the rounds, the later ones take their report.  It waits in
artifacts/rounds, with the hash of what it was timed with and the repro that it belongs to.  It is taken once, so that
old timings never come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from bench.core.errors import WorkerError
from bench.core.files import read_model, remove, write_json
from bench.core.params import Variant
from bench.core.reports import Report, Served, Stored
from bench.timing.digest import Request, variant_digest

R = TypeVar("R", Report, Served)


class Waiting(Stored, Generic[R]):
    """artifacts/rounds/DEVICE/KEY.json, artifacts/rounds/serve/KEY.json."""

    fingerprint: str
    request: str
    report: R


@dataclass(frozen=True)
class Place(Generic[R]):
    """Where a variant's report waits; `words`: what its stage does, and has done."""

    key: str
    variant: Variant
    stage: str
    path: Path
    kind: type[Waiting[R]]
    words: tuple[str, str]

    @property
    def digest(self) -> str:
        """What the variant's stage depends on now."""
        return variant_digest(self.key, self.variant, self.stage)

    def leave(self, report: R, request: Request) -> None:
        """Write a report that was made with what the variant is now."""
        waiting = self.kind(fingerprint=self.digest, request=request.id, report=report)
        write_json(self.path, waiting.as_dict())

    def take(self, recorded: str, request: Request, run: Callable[[], None]) -> R:
        """Return the report that waits, after `run` where there is none that this repro may take.

        `recorded`: the digest of the last report; if nothing has changed since, only one of this very repro is new.
        WorkerError if what the row is timed with was edited meanwhile.
        """
        digest = self.digest
        report = self._find(digest, request.id if request.is_forced or recorded == digest else None)
        if report is None:
            run()
            report = self._find(digest, None)
        if report is None:
            does, done = self.words
            reason = f"what it is {done} with changed while it was {done}: `dvc repro` {does} it again"
            raise WorkerError(f"{self.key}: {reason}")
        return report

    def _find(self, digest: str, request_id: str | None) -> R | None:
        if not self.path.is_file():
            return None
        waiting = read_model(self.path, "remove it, then `dvc repro`", self.kind)
        is_of_repro = request_id is None or (request_id and waiting.request == request_id)
        return waiting.report if waiting.fingerprint == digest and is_of_repro else None

    def clear(self) -> None:
        """Remove the report that waits, taken or out of date."""
        remove(self.path)


def is_due(key: str, variant: Variant, stage: str, recorded: str, request: Request) -> bool:
    """Tell whether this `dvc repro` will run the variant's stage anyway; `recorded`: the digest of its last report."""
    if not request.includes((stage, f"{stage}@{key}")):
        return False
    return request.is_forced or recorded != variant_digest(key, variant, stage)
