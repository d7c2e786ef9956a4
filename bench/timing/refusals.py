"""Recognise that a runtime does not take a model, from its errors: no run of it would go otherwise."""

from __future__ import annotations

from bench.core.files import shortened
from bench.runtimes.base.session import Unfit

REFUSALS = {"onnxruntime.": ("NotImplemented", "InvalidGraph", "InvalidArgument"), "torch._dynamo.": ()}
"""Modules of a library's errors, and which of them are refusals (none named: all)."""


def refusal(problem: BaseException) -> str:
    """Return in one line why a runtime does not take the model; empty if the error may mean something else."""
    if isinstance(problem, Unfit):
        return str(problem)
    kind = type(problem)
    for module, names in REFUSALS.items():
        if kind.__module__.startswith(module) and (not names or kind.__name__ in names):
            return _one_line(problem)
    return _one_line(problem) if isinstance(problem, NotImplementedError) else ""


def _one_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return shortened(f"{type(problem).__name__}: {lines[0]}" if lines else type(problem).__name__)
