"""Export the PyTorch classifier to ONNX in the first form that keeps its logits on real inputs.

An additive 4-D mask gives a simple graph, but drops a decoder's causal mask, and DeBERTa reads it the other way round.
"""

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.classifier.model import logits_of
from bench.core.errors import ModelError
from bench.core.files import first_line, shortened
from bench.core.model_inputs import largest_difference, reference_spread
from bench.core.params import Export
from bench.graphs.onnx_files import IR_VERSION, save_graph, strip_traces
from bench.graphs.rewrites import BATCH, LENGTH, order_gelu_for_fusion, simplify_shapes
from bench.inputs.batches import pad
from bench.inputs.encoded import Encoded

if TYPE_CHECKING:
    import torch

PARITY_BATCHES = (1, 7)
"""Batch sizes that are compared; 7 is one that the export never saw."""
CHECKED_SENTENCES = max(PARITY_BATCHES)
ROUNDINGS = 16
"""Units in the last place by which the order of sums in float32 moves the largest logit."""

Pairs = list[tuple[tuple[NDArray[np.int64], ...], NDArray[np.float32]]]
"""Inputs of a call in the order of `INPUT_NAMES`, and the logits that it should give."""


@dataclass(frozen=True)
class Form:
    """How attention is computed, and whether the mask is handed on as it is or as an additive 4-D one."""

    attention: str
    has_additive_mask: bool

    def __str__(self) -> str:
        mask = "an additive 4-D mask" if self.has_additive_mask else "transformers' own mask"
        return f"{self.attention} attention with {mask}"


FORMS = (Form("eager", True), Form("eager", False), Form("sdpa", True), Form("sdpa", False))
"""The simplest graph first: eager attention is what fusion knows, an additive mask needs no nodes that build one."""


@dataclass(frozen=True)
class Exported:
    """A checked graph: how it was made, and how far its logits are from the model's."""

    graph: Any
    opset: int
    form: Form
    largest_difference: float
    takes_any_length: bool


def export_checked(
    classifier: Any, encoded: Encoded, reference: NDArray[np.float32], settings: Export, path: Path
) -> Exported:
    """Write the simplest graph to `path` whose logits are the reference's; ModelError if there is none.

    Opset `auto`: the lowest that works.  Any length comes before the sequence length alone.
    """
    opset = None if settings.opset == "auto" else settings.opset
    max_abs_diff = allowed_difference(reference, settings)
    # the shortest sentence, the longest, and others between them by length
    by_length = np.argsort(encoded.lengths, kind="stable")
    rows = by_length[np.linspace(0, len(by_length) - 1, CHECKED_SENTENCES).round().astype(int)]
    sample, wanted = encoded.take(rows), reference[rows]
    forms = faithful_forms(classifier, sample, wanted, max_abs_diff)
    failures = []
    for takes_any_length, form, candidate in product((True, False), forms, [opset] if opset else list(IR_VERSION)):
        classifier.set_attn_implementation(form.attention)
        module = exportable(classifier, form)
        try:
            graph = export_graph(module, sample, candidate, takes_any_length)
            if _opset_of(graph) != candidate and opset:
                raise ModelError(f"the exporter could only give {_opset_of(graph)}")
            save_graph(graph, path)
            pairs = with_reference(sample, wanted) + (with_own_length(module, sample) if takes_any_length else [])
            difference = parity(path, sample.input_names, pairs, max_abs_diff)
            return Exported(graph, _opset_of(graph), form, difference, takes_any_length)
        except ModelError as problem:
            length = "any length" if takes_any_length else "one length"
            failures.append(f"{length}, opset {candidate}, {form}: {problem}")
    way_out = "set export.opset to auto, or to one that works" if opset else "no setting changes that"
    raise ModelError(
        f"params.yaml: export.opset: got {opset or 'auto'}: no graph of this {classifier.config.model_type} model is "
        f"right: {way_out} ({'; '.join(failures)})"
    )


def allowed_difference(reference: NDArray[np.float32], settings: Export) -> NDArray[np.float64]:
    """Return how far each of a graph's logits may be off: a share of their spread, and what float32 rounds off of it.

    A label that is masked by a large constant allows the others no more.
    """
    rounded = ROUNDINGS * np.finfo(np.float32).eps * abs(reference).max(axis=0).astype(np.float64)
    moves = np.ptp(reference.astype(np.float64), axis=0) > rounded
    spread = reference_spread(reference[:, moves] if moves.any() else reference)
    return np.asarray(settings.max_abs_diff * spread + rounded)


def furthest(got: NDArray[Any], wanted: NDArray[Any], allowed: NDArray[np.float64]) -> tuple[float, float]:
    """Return the difference and the limit of the label that is closest to its limit, or furthest beyond it."""
    by_label = [(largest_difference(got[:, [label]], wanted[:, [label]]), limit) for label, limit in enumerate(allowed)]
    return max(by_label, key=lambda pair: pair[0] / pair[1])


def _opset_of(graph: Any) -> int:
    return int(next(entry.version for entry in graph.opset_import if entry.domain == ""))


def exportable(classifier: Any, form: Form) -> "torch.nn.Module":
    """Wrap the classifier so that it takes tensors in the order of `INPUT_NAMES` and gives logits.

    Token types that are not given are a constant 0 `[1, 1]`: transformers' own are expanded to the batch on the CPU.
    """
    import torch

    parameters = inspect.signature(classifier.forward).parameters
    has_types = "token_type_ids" in parameters and bool(getattr(classifier.config, "type_vocab_size", 0))

    class Exportable(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier
            self.register_buffer("no_types", torch.zeros(1, 1, dtype=torch.int64))

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> torch.Tensor:
            if form.has_additive_mask:
                kept = attention_mask[:, None, None, :].to(torch.float32)
                attention_mask = (1.0 - kept) * torch.finfo(torch.float32).min
            types = self.no_types if token_type_ids is None and has_types else token_type_ids
            more = {} if types is None else {"token_type_ids": types}
            logits: torch.Tensor = self.classifier(input_ids=input_ids, attention_mask=attention_mask, **more).logits
            return logits

    return Exportable().eval()


def faithful_forms(
    classifier: Any, encoded: Encoded, reference: NDArray[np.float32], max_abs_diff: NDArray[np.float64]
) -> list[Form]:
    """Return the forms whose logits are the reference's within `max_abs_diff`; ModelError if there is none."""
    faults = {form: _fault(classifier, form, encoded, reference, max_abs_diff) for form in FORMS}
    if all(faults.values()):
        shown = "; ".join(f"{form}: {fault}" for form, fault in faults.items())
        what = f"this {classifier.config.model_type} model cannot be written down for the exporter"
        raise ModelError(f"{what} without changing its logits ({shown})")
    return [form for form, fault in faults.items() if not fault]


def _fault(
    classifier: Any, form: Form, encoded: Encoded, reference: NDArray[np.float32], max_abs_diff: NDArray[np.float64]
) -> str:
    """Return how far the form is off, or why the model does not take it; empty if it is faithful."""
    try:
        classifier.set_attn_implementation(form.attention)
        if classifier.config._attn_implementation != form.attention:
            return f"has no {form.attention} attention"
        difference, limit = furthest(logits_of(exportable(classifier, form), encoded), reference, max_abs_diff)
    except Exception as problem:  # whatever an architecture's own code raises on a mask that it does not know
        return type(problem).__name__
    return "" if difference <= limit else f"off by {difference:.3g}"


def export_graph(module: Any, example: Encoded, opset: int, takes_any_length: bool = True) -> Any:
    """Return an onnx.ModelProto of `module` with a dynamic batch and length; ModelError if PyTorch can give none.

    Its opset is the one asked for, or the next that the exporter can give.
    """
    import torch

    sizes = {0: torch.export.Dim(BATCH, min=1, max=65536)}
    arrays = example.rows(np.arange(2) % len(example)).arrays
    if takes_any_length:
        sizes[1] = torch.export.Dim(LENGTH, min=2, max=example.sequence_length)
        # Of another length than the longest: a size that equals one of the model's own would be taken for it.
        arrays = tuple(np.ascontiguousarray(array[:, : example.sequence_length - 1]) for array in arrays)
    try:
        with _quiet_exporter():
            program = torch.onnx.export(
                module,
                tuple(map(torch.from_numpy, arrays)),
                dynamo=True,
                opset_version=opset,
                input_names=list(example.input_names),
                output_names=["logits"],
                dynamic_shapes=dict.fromkeys(example.input_names, sizes),
            )
    except Exception as problem:  # the exporter lets through whatever a model's code raises while it is traced
        raise ModelError(f"PyTorch's exporter cannot trace it: {_reason(problem)}") from None
    graph = program.model_proto
    order_gelu_for_fusion(graph)
    simplify_shapes(graph)
    strip_traces(graph)
    graph.ir_version = IR_VERSION.get(_opset_of(graph), max(IR_VERSION.values()))
    return graph


def _reason(problem: BaseException) -> str:
    """Return the first line of the root of a chain of exceptions."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    kind = type(problem).__name__
    return f"{kind}: {shortened(first_line(problem))}" if str(problem).strip() else kind


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    logging.disable(logging.WARNING)
    silent = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def with_reference(encoded: Encoded, reference: NDArray[np.float32]) -> Pairs:
    """Return sentences in batches of 1 and 7, with the reference logits of each batch."""
    chosen = [np.arange(s, s + size) for size in PARITY_BATCHES for s in range(0, len(encoded) - size + 1, size)]
    return [(encoded.rows(each).arrays, reference[each]) for each in chosen]


def with_own_length(module: Any, encoded: Encoded) -> Pairs:
    """Return each sentence padded to an own length, with the logits of `module`: those may depend on the padding."""
    import torch

    batches = [pad(encoded, np.array([row]), "longest").arrays for row in range(len(encoded))]
    with torch.inference_mode():
        return [(arrays, module(*map(torch.from_numpy, arrays)).float().numpy()) for arrays in batches]


def parity(graph_file: Path, names: tuple[str, ...], pairs: Pairs, max_abs_diff: NDArray[np.float64]) -> float:
    """Return the largest difference of logits between ONNX Runtime (CPU) and `pairs`; ModelError if not allowed."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(graph_file), providers=["CPUExecutionProvider"])
    except Exception as problem:
        raise ModelError(f"ONNX Runtime does not load the graph: {_reason(problem)}") from None
    differences = []
    for arrays, wanted in pairs:
        try:
            got = session.run(["logits"], dict(zip(names, arrays, strict=True)))[0]
        except Exception as problem:
            raise ModelError(f"ONNX Runtime does not run the graph: {_reason(problem)}") from None
        if got.shape != wanted.shape:
            raise ModelError(f"the graph gives logits of shape {list(got.shape)}")
        difference, limit = furthest(got, wanted, max_abs_diff)  # infinity where a logit is NaN
        if not difference <= limit:
            allowed = f"allowed: {limit:.3g}, which is export.max_abs_diff of their spread"
            raise ModelError(f"the exported graph differs from PyTorch by {difference:.3g} in a logit; {allowed}")
        differences.append(difference)
    return max(differences)
