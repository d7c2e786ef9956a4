"""The quality gate: are the timed logits the model's logits?

Every run of the timed session is compared with the fp32 reference, so a row cannot be fast and wrong.  The absolute
error of a logit means little without the spread of the logits (0.01 is nothing for a trained model), hence

    relative error = largest absolute difference / standard deviation of the reference logits

where the standard deviation is over sentences, averaged over the labels that differ from sentence to sentence; each
output of a regression, and each label that never differs (a masked one), has its own scale (`scales`), and the largest
error counts.  What agreement is depends on the model's task:

    single_label  share of sentences whose most likely label is the reference's
    multi_label   of each label that is on either side of the threshold (logit 0, probability ½): the smaller of the
                  specific agreements on being above and below it, 2 both / (row's + reference's) (Cicchetti and
                  Feinstein 1990), which rare labels move; the mean over these labels
    regression    Pearson's correlation of an output with the reference's; the lowest of all outputs

Where runs met a share of the sentences only, agreement rejects a row if so low a one would be no chance (`CHANCE`) of a
row at the limit: of 24 sentences a single one is 4%.

A label that the reference gives to several sentences and the row to none rejects the row, however rare it is; of a
multi_label model also one that it gives to less than half of these, or to more than twice as many others.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.model_inputs import IntArray, Task
from bench.core.params import Gate, Tolerances
from bench.core.reports import Labels

Logits = NDArray[np.float32]
CONSTANT = 1e-12
"""Largest share of its mean square that the variance of a constant is off by in float64."""
CONSTANT_SPREAD = 1e-6
"""A label whose spread is a smaller share of its size is constant in float32."""
CHANCE = 0.05
SEVERAL = 5
"""Sentences that have a label, from which on it is no chance if a row gives it to none."""


@dataclass(frozen=True)
class Comparison:
    """How far the logits of some runs are from the reference; `relative`: each label by its own scale.

    `sums`: for each output those of x, y, x², y² and xy, x the row's and y the reference's: numbers, or for labels 1
    where the label is given, else 0.
    """

    max_abs_diff: float
    agreeing: int
    compared: int
    sentences: int
    fault: str = ""
    sums: list[list[float]] = field(default_factory=list)
    task: Task = "single_label"
    relative: float = math.inf
    seen: list[int] = field(default_factory=list)
    """The numbers of those sentences."""
    of: int = 0
    """All sentences of the reference."""


def compare(outputs: Iterable[tuple[IntArray, Logits]], reference: Logits, task: Task = "single_label") -> Comparison:
    """Compare logits `[batch, labels]` of each run with the reference rows of its sentences, by their numbers."""
    largest = np.zeros(reference.shape[1])
    agreeing, compared = 0, 0
    sums = np.zeros((reference.shape[1], 5))
    seen: set[int] = set()
    for indices, logits in outputs:
        wanted = reference[indices]
        if fault := _fault_of(logits, wanted):
            return Comparison(float("inf"), agreeing, compared, len(seen), fault)
        largest = np.maximum(largest, np.abs(logits.astype(np.float64) - wanted).max(axis=0))
        x, y = _decided(logits, task), _decided(wanted, task)
        agreeing += int((x == y).all(axis=1).sum())
        compared += len(x) if task == "single_label" else x.size
        sums += np.stack([each.sum(axis=0) for each in (x, y, x * x, y * y, x * y)], 1)
        seen.update(indices.tolist())
    if not compared:
        return Comparison(float("inf"), 0, 0, 0, "no logits to compare")
    relative = float((largest / scales(reference, task)).max())
    figures = (float(largest.max()), agreeing, compared, len(seen))
    return Comparison(*figures, "", sums.tolist(), task, relative, sorted(seen), len(reference))


def scales(reference: Logits, task: Task) -> NDArray[np.float64]:
    """Return what an error of each label is measured by, `[labels]`."""
    values = reference.astype(np.float64)
    spread, size = values.std(axis=0), np.abs(values).mean(axis=0)
    moves = spread > CONSTANT_SPREAD * size
    if task != "regression" and moves.any():
        spread[moves] = spread[moves].mean()
    return np.where(moves, spread, np.where(size > 0, size, 1.0))


def together(comparisons: list[Comparison]) -> Comparison:
    """Return several comparisons of one row as one."""
    sums = [each.sums for each in comparisons if each.sums]
    return Comparison(
        max(each.max_abs_diff for each in comparisons),
        sum(each.agreeing for each in comparisons),
        sum(each.compared for each in comparisons),
        len(seen := sorted({number for each in comparisons for number in each.seen})),
        next((each.fault for each in comparisons if each.fault), ""),
        np.sum(sums, axis=0).tolist() if sums else [],
        comparisons[0].task,
        max(each.relative for each in comparisons),
        seen,
        max(each.of for each in comparisons),
    )


def _decided(logits: Logits, task: Task) -> NDArray[np.float64]:
    """Return the outputs of a regression as they are, else 1 for each label that is given and 0 for the others."""
    if task == "regression":
        return logits.astype(np.float64)
    given = logits > 0 if task == "multi_label" else np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None]
    return given.astype(np.float64)


def agreement_of(comparison: Comparison) -> float:
    """Return the agreement as the task has it; 0.0 where nothing was compared."""
    if not comparison.compared:
        return 0.0
    if comparison.task == "single_label":
        return comparison.agreeing / comparison.compared
    sums = np.array(comparison.sums)
    is_regression = comparison.task == "regression"
    measure = _correlation if is_regression else _specific_agreement
    found = [value for each in sums if (value := measure(each, comparison.compared / len(sums))) is not None]
    if not found:
        return 1.0
    return float(min(found) if is_regression else np.mean(found))


def _correlation(sums: NDArray[np.float64], count: float) -> float | None:
    """Return Pearson's correlation; None where the reference is constant, 0.0 where only the row is."""
    x, y, xx, yy, xy = sums / count
    spread, wanted = xx - x * x, yy - y * y
    if wanted <= CONSTANT * yy:
        return None
    return float((xy - x * y) / math.sqrt(spread * wanted)) if spread > CONSTANT * xx else 0.0


def _specific_agreement(sums: NDArray[np.float64], count: float) -> float | None:
    """Return the smaller of both specific agreements; None for a label that all or no sentences have in both."""
    row, reference, both = sums[0], sums[1], sums[4]
    given, absent = row + reference, 2 * count - row - reference
    if not given or not absent:
        return None
    return float(min(2 * both / given, 2 * (count - given + both) / absent))


def _may_be_chance(whole: Comparison, agreement: float, least: float) -> bool:
    """Tell whether a row that agrees on the least share of all sentences may agree on so few of those it met."""
    if whole.task != "single_label" or whole.sentences >= whole.of:
        return False
    from bench.statistics.shares import fewer_p  # what scipy.stats costs, no measuring process shall pay

    return fewer_p(round(agreement * whole.sentences), whole.sentences, least) >= CHANCE


def _lost_label(comparison: Comparison, sentences: int) -> str:
    """Return which label the row takes from most sentences that have it, or gives to many others; empty for none."""
    task, sums = comparison.task, comparison.sums
    runs = comparison.compared / (1 if task == "single_label" else len(sums))
    for label, (row, reference, _, _, both) in enumerate(sums if task != "regression" else []):
        given, wanted, right = (round(count * sentences / runs) for count in (row, reference, both))
        is_lost = 2 * right < wanted or given - right > 2 * wanted if task == "multi_label" else not row
        if wanted >= SEVERAL and is_lost:
            who = f"about {given} sentences, {right} of them rightly" if row else "no sentence"
            return f"the label {label} is given to {who}, by the reference to about {wanted} of {sentences}"
    return ""


def _fault_of(logits: Logits, wanted: Logits) -> str:
    if logits.size == 0:
        return "the output is empty"
    if logits.shape != wanted.shape:
        return f"the output has shape {list(logits.shape)}, wanted {list(wanted.shape)}"
    if not np.isfinite(logits).all():
        return "the output holds NaN or infinity"
    return ""


def tolerances(gate: Gate, is_real: bool) -> Tolerances:
    """Return what a precision may differ by: random weights may have limits of their own."""
    return gate if is_real or gate.synthetic is None else gate.synthetic


def gate_verdict(comparisons: list[Comparison], gate: Tolerances) -> tuple[dict[str, Any], str]:
    """Return (figures of a cell, reason for rejection or an empty string)."""
    whole = together(comparisons)
    if whole.fault:
        return {}, whole.fault
    agreement, sentences = agreement_of(whole), max(comparison.sentences for comparison in comparisons)
    figures = {
        "max_abs_diff": whole.max_abs_diff,
        "relative_error": whole.relative,
        "agreement": agreement,
        "checked_sentences": sentences,
    }
    if not whole.relative <= gate.max_relative_error:
        return figures, f"relative error {whole.relative:.3g} is above {gate.max_relative_error:g}"
    if not agreement >= gate.min_agreement and not _may_be_chance(whole, agreement, gate.min_agreement):
        return figures, f"agreement {agreement:.1%} is below {gate.min_agreement:.1%}"
    return figures, _lost_label(whole, sentences)


def compare_labels(predicted: NDArray[np.int64], reference: NDArray[np.int64], labels: NDArray[np.int64]) -> Labels:
    """Count on the labelled sentences (label 0 or more) what a row and the reference get right, and one alone."""
    known = labels >= 0
    row, truth = predicted[known] == labels[known], reference[known] == labels[known]
    return Labels(
        labelled=int(known.sum()),
        right=int(row.sum()),
        reference_right=int(truth.sum()),
        only_reference=int((truth & ~row).sum()),
        only_row=int((row & ~truth).sum()),
    )


def accuracy_fault(counts: Labels | None, gate: Gate) -> str:
    """Return why a row's accuracy is too far below the reference's; empty if it is not, may be chance, or is not known.

    One sentence of 32 is 3%: a loss counts where McNemar's test finds it.
    """
    if not counts or gate.max_accuracy_loss is None:
        return ""
    from bench.statistics.shares import mcnemar_p  # what scipy.stats costs, no measuring process shall pay

    loss = (counts.reference_right - counts.right) / counts.labelled
    if loss <= gate.max_accuracy_loss or mcnemar_p(counts.only_reference, counts.only_row) >= CHANCE:
        return ""
    return f"accuracy is {loss:.2%} of {counts.labelled} sentences below fp32's, allowed: {gate.max_accuracy_loss:.2%}"
