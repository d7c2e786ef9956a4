"""Recognise from an error that memory ran out, that a runtime is not to be had, or that it does not take a model."""

from bench.core.errors import BenchError
from bench.core.files import shortened
from bench.runtimes.base.session import Unavailable, Unfit

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
SENTENCE_ENDS = (". ", ") ", "] ", ": ", "\n")
REFUSALS = {
    "onnxruntime.": ("NotImplemented", "InvalidGraph", "InvalidArgument"),
    "torch._dynamo.": (),
    "torch._inductor.": (),
}
"""Modules of a library's errors, and which of them are refusals (none named: all)."""


def is_out_of_memory(problem: BaseException) -> bool:
    """Tell whether an exception of PyTorch, ONNX Runtime or numpy means that memory ran out."""
    is_by_type = isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError"
    return is_by_type or _phrase_at(str(problem)) is not None


def describe_out_of_memory(problem: BaseException) -> str:
    """Return the sentence of the message that says so, without the call stack before it."""
    text = str(problem).strip() or type(problem).__name__
    place = _phrase_at(text) or 0
    start = max((text.rfind(mark, 0, place) + len(mark) for mark in SENTENCE_ENDS if mark in text[:place]), default=0)
    return text[start:].splitlines()[0][:200]


def _phrase_at(text: str) -> int | None:
    found = [place for phrase in OUT_OF_MEMORY_TEXTS if (place := text.lower().find(phrase)) >= 0]
    return min(found, default=None)


def status_of(problem: BaseException) -> dict[str, str] | None:
    """Return the status and the reason of a row whose process met this problem; None if nobody foresaw it."""
    if isinstance(problem, Unavailable):
        return {"status": "skipped", "reason": str(problem)}
    if isinstance(problem, ImportError) and not (problem.name or "").startswith("bench"):
        return {"status": "skipped", "reason": f"cannot be imported: {shortened(str(problem))}: install it"}
    if is_out_of_memory(problem):
        return {"status": "out_of_memory", "reason": describe_out_of_memory(problem)}
    if isinstance(problem, BenchError):
        return {"status": "failed", "reason": str(problem)}
    if isinstance(problem, Unfit):
        return {"status": "rejected", "reason": str(problem)}
    module, kind = type(problem).__module__, type(problem).__name__
    is_refusal = isinstance(problem, NotImplementedError) or any(
        module.startswith(library) and (not names or kind in names) for library, names in REFUSALS.items()
    )
    lines = str(problem).strip().splitlines()
    reason = shortened(f"{kind}: {lines[0].strip()}" if lines else kind)
    return {"status": "rejected", "reason": reason} if is_refusal else None
