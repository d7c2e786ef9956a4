"""Tokenize the sentences once; every runtime sees the same arrays with their real masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import DataError
from bench.core.files import damaged, first_line, replacing_file, shortened
from bench.core.model_inputs import INPUT_NAMES, Batch, IntArray
from bench.core.schemas import Labelled

NEEDED = ("input_ids", "attention_mask", "labels")
REFERENCE = "reference_logits"
RENEW = "`dvc repro -f prepare_inputs` renews it"
LEAVE_OUT = "leave such rows out of the table"
EPOCH_SENTENCES = 128
"""Sentences of a workload epoch, at least, where the data has them: their mean length is then known to some percent."""


@dataclass(frozen=True)
class Encoded:
    """Padded sentences: int64 arrays `[sentences, sequence_length]`, and labels `[sentences]` (-1: none)."""

    input_ids: IntArray
    attention_mask: IntArray
    labels: IntArray
    token_type_ids: IntArray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def arrays(self) -> tuple[IntArray, ...]:
        """What the model is given, in the order of `INPUT_NAMES`."""
        types = () if self.token_type_ids is None else (self.token_type_ids,)
        return (self.input_ids, self.attention_mask, *types)

    @property
    def input_names(self) -> tuple[str, ...]:
        return INPUT_NAMES[: len(self.arrays)]

    def first(self, count: int) -> Encoded:
        """Return at most `count` sentences from the beginning."""
        return self.take(np.arange(min(count, len(self))))

    def take(self, indices: IntArray) -> Encoded:
        types = None if self.token_type_ids is None else self.token_type_ids[indices]
        return Encoded(self.input_ids[indices], self.attention_mask[indices], self.labels[indices], types)

    def rows(self, indices: IntArray) -> Batch:
        return Batch(*(np.ascontiguousarray(array[indices]) for array in self.arrays))

    def without_types(self) -> Encoded:
        return Encoded(self.input_ids, self.attention_mask, self.labels)

    @property
    def sequence_length(self) -> int:
        """The tokens that every sentence is padded to."""
        return int(self.input_ids.shape[1])

    @cached_property
    def lengths(self) -> IntArray:
        """The tokens of each sentence without padding, `[sentences]`."""
        found: IntArray = self.attention_mask.sum(axis=1)
        return found

    @property
    def is_left_padded(self) -> bool:
        """Whether the tokenizer puts padding before a sentence."""
        return bool((self.attention_mask[:, 0] == 0).any())

    @property
    def has_types(self) -> bool:
        """Whether a token has another type than 0, which is what a model takes where it is told nothing."""
        return self.token_type_ids is not None and bool(self.token_type_ids.any())


def encode(tokenizer: Any, labelled: list[Labelled], sequence_length: int) -> Encoded:
    """Pad or cut every sentence or pair to `sequence_length` tokens; DataError for the first that cannot be encoded."""
    try:
        tokens = _tokens(tokenizer, labelled, sequence_length)
    except Exception as problem:  # the Rust tokenizers raise plain exceptions
        for row in labelled:
            _check_alone(tokenizer, row, sequence_length)
        raise DataError(f"the model's tokenizer cannot encode the sentences: {first_line(problem)}") from None
    empty = np.flatnonzero(tokens["attention_mask"].sum(axis=1) == 0)
    if empty.size:
        row = labelled[empty[0]]
        text = shortened(repr(row.sentence))
        raise DataError(f"{row.place}: the model's tokenizer makes no token of {text}: {LEAVE_OUT}")
    types = tokens.get("token_type_ids")
    return Encoded(
        tokens["input_ids"].astype(np.int64),
        tokens["attention_mask"].astype(np.int64),
        np.array([-1 if row.label is None else row.label for row in labelled], dtype=np.int64),
        None if types is None else types.astype(np.int64),
    )


def _tokens(tokenizer: Any, labelled: list[Labelled], sequence_length: int) -> Any:
    pairs = [row.pair for row in labelled]
    return tokenizer(
        [row.sentence for row in labelled],
        text_pair=pairs if any(pair is not None for pair in pairs) else None,
        padding="max_length",
        truncation=True,
        max_length=sequence_length,
        return_attention_mask=True,
        return_tensors="np",
    )


def _check_alone(tokenizer: Any, row: Labelled, sequence_length: int) -> None:
    try:
        _tokens(tokenizer, [row], sequence_length)
    except Exception as problem:
        what = f"the model's tokenizer cannot encode {shortened(repr(row.sentence))} ({shortened(first_line(problem))})"
        raise DataError(f"{row.place}: {what}: {LEAVE_OUT}") from None


def draw(encoded: Encoded) -> IntArray:
    """Return all sentences' numbers in a random order of which every beginning has the lengths of the whole.

    Stratified: each run of 128 holds one of each 128th part by length; the run nearest to the mean length comes first.
    """
    count, lengths = len(encoded), encoded.lengths
    chance = np.random.default_rng(0)
    strata = min(EPOCH_SENTENCES, count)
    stratum = np.arange(count) * strata // count
    by_length = np.lexsort((chance.random(count), lengths))
    members = by_length[np.lexsort((chance.random(count), stratum))]
    run = np.arange(count) - np.searchsorted(stratum, stratum)
    sizes = np.bincount(run)
    off = np.abs(np.bincount(run, lengths[members]) / sizes - lengths.mean())
    turn = np.where(sizes < strata, np.inf, off).argsort().argsort()
    order: IntArray = members[np.lexsort((chance.random(count), turn[run]))]
    return order


def save_encoded(path: Path, encoded: Encoded, **more: NDArray[Any]) -> None:
    """Write the arrays to an .npz whose bytes depend on their values alone."""
    with replacing_file(path) as temporary, temporary.open("wb") as stream:
        arrays = dict(zip(encoded.input_names, encoded.arrays, strict=True)) | {"labels": encoded.labels}
        np.savez(stream, **arrays, **more)  # type: ignore[arg-type]  # NumPy 1.26 writes `allow_pickle` as an array


def load_encoded(path: Path) -> Encoded:
    """Read the arrays that `save_encoded` wrote; DataError if the file is damaged or its arrays do not fit together."""
    arrays = _load(path)
    return Encoded(**{name: array for name, array in arrays.items() if name in (*INPUT_NAMES, "labels")})


def load_reference(path: Path) -> NDArray[np.float32]:
    """Read the fp32 reference logits `[sentences, labels]` stored beside the evaluation arrays."""
    arrays = _load(path, REFERENCE)
    reference: NDArray[np.float32] = arrays[REFERENCE]
    if reference.ndim != 2 or len(reference) != len(arrays["labels"]):
        raise damaged(path, f"reference_logits {reference.shape} are not of these sentences", RENEW)
    if not np.isfinite(reference).all():
        raise damaged(path, "reference_logits hold NaN or infinity", RENEW)
    return reference


def _load(path: Path, *more: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz, `more` than the needed ones among them; DataError unless they fit together."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            arrays = dict(content)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as problem:
        raise damaged(path, str(problem), RENEW) from None
    if missing := [name for name in (*NEEDED, *more) if name not in arrays]:
        raise damaged(path, f"no array {missing[0]!r}", RENEW)
    for name, array in arrays.items():
        if array.dtype.kind != ("f" if name == REFERENCE else "i"):
            raise damaged(path, f"array {name!r} of {array.dtype}", RENEW)
    shapes = {name: arrays[name].shape for name in (*INPUT_NAMES, "labels") if name in arrays}
    size = shapes["input_ids"]
    if len(size) != 2 or 0 in size or shapes != dict.fromkeys(shapes, size) | {"labels": size[:1]}:
        shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise damaged(path, f"arrays that do not fit together: {shown}", RENEW)
    return arrays


def length_figures(encoded: Encoded) -> dict[str, Any]:
    """Return lengths in tokens, `at_limit` those that may be cut, `drawn_` of the fewest that a cell is timed on."""
    lengths = encoded.lengths
    epoch = lengths[:EPOCH_SENTENCES]
    return {
        "sentences": len(lengths),
        "mean_tokens": float(lengths.mean()),
        "median_tokens": float(np.median(lengths)),
        "p95_tokens": float(np.percentile(lengths, 95)),
        "longest_tokens": int(lengths.max()),
        "at_limit": int((lengths == encoded.sequence_length).sum()),
        "padding_share": float(1 - lengths.mean() / encoded.sequence_length),
        "drawn_sentences": len(epoch),
        "drawn_mean_tokens": float(epoch.mean()),
    }


def token_counts(encoded: Encoded) -> str:
    """Return a CSV of how many sentences have how many tokens."""
    tokens, sentences = np.unique(encoded.lengths, return_counts=True)
    return "tokens,sentences\n" + "".join(f"{token},{count}\n" for token, count in zip(tokens, sentences, strict=True))
