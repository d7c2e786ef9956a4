"""Recognise from a library's error that memory ran out, or that a runtime does not take a model: no run would go
otherwise.
"""

from __future__ import annotations

from bench.core.files import shortened
from bench.runtimes.base.session import Unfit

OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad allocation",
    "bad_alloc",
    "failed to allocate memory",
    "cublas_status_alloc_failed",
    "unable to allocate",
)


def is_out_of_memory(problem: BaseException) -> bool:
    """Tell whether an exception of PyTorch, ONNX Runtime or numpy means that memory ran out."""
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError":
        return True
    return _phrase_at(str(problem)) is not None


def describe_out_of_memory(problem: BaseException) -> str:
    """Return the sentence of the message that says so, without the call stack before it."""
    text = str(problem).strip() or type(problem).__name__
    place = _phrase_at(text) or 0
    start = max((text.rfind(mark, 0, place) + len(mark) for mark in SENTENCE_ENDS if mark in text[:place]), default=0)
    return text[start:].splitlines()[0][:200]


SENTENCE_ENDS = (". ", ") ", "] ", ": ", "\n")


def _phrase_at(text: str) -> int | None:
    """Return where a message says that memory ran out, None if it does not."""
    found = [place for phrase in OUT_OF_MEMORY_TEXTS if (place := text.lower().find(phrase)) >= 0]
    return min(found, default=None)


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
