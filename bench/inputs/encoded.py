"""Tokenize the sentences once; every runtime sees the same arrays with their real masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import DataError
from bench.core.files import replacing_file

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """Padded sentences: int64 arrays `[sentences, sequence_length]` and labels `[sentences]`."""

    input_ids: IntArray
    attention_mask: IntArray
    labels: IntArray

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Encoded:
        """Return at most `count` sentences from the beginning."""
        return Encoded(self.input_ids[:count], self.attention_mask[:count], self.labels[:count])

    def rows(self, indices: IntArray) -> tuple[IntArray, IntArray]:
        """Return (input_ids, attention_mask) of these sentences, contiguous."""
        return np.ascontiguousarray(self.input_ids[indices]), np.ascontiguousarray(self.attention_mask[indices])


def encode(tokenizer: Any, labelled: list[tuple[str, int]], sequence_length: int) -> Encoded:
    """Pad or cut every sentence to `sequence_length` tokens."""
    tokens = tokenizer(
        [text for text, _ in labelled],
        padding="max_length",
        truncation=True,
        max_length=sequence_length,
        return_tensors="np",
    )
    return Encoded(
        tokens["input_ids"].astype(np.int64),
        tokens["attention_mask"].astype(np.int64),
        np.array([label for _, label in labelled], dtype=np.int64),
    )


def save_encoded(path: Path, encoded: Encoded, **more: NDArray[Any]) -> None:
    """Write the arrays to an .npz whose bytes depend on their values alone."""
    with replacing_file(path) as temporary, temporary.open("wb") as stream:
        arrays = {"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask, "labels": encoded.labels}
        np.savez(stream, allow_pickle=False, **arrays, **more)


def load_encoded(path: Path) -> Encoded:
    """Read the arrays that `save_encoded` wrote; DataError if the file is damaged or its arrays do not fit together."""
    return _encoded(_load(path), path)


def _encoded(content: dict[str, NDArray[Any]], path: Path) -> Encoded:
    input_ids, mask, labels = (_array(content, name, path, "i") for name in ("input_ids", "attention_mask", "labels"))
    if (
        input_ids.ndim != 2
        or not input_ids.size
        or mask.shape != input_ids.shape
        or labels.shape != input_ids.shape[:1]
    ):
        shapes = f"input_ids {input_ids.shape}, attention_mask {mask.shape}, labels {labels.shape}"
        raise _damaged(path, f"arrays that do not fit together: {shapes}")
    return Encoded(input_ids, mask, labels)


def load_reference(path: Path) -> NDArray[np.float32]:
    """Read the fp32 reference logits `[sentences, labels]` stored beside the evaluation arrays."""
    content = _load(path)
    reference: NDArray[np.float32] = _array(content, "reference_logits", path, "f")
    if reference.ndim != 2 or len(reference) != len(_encoded(content, path)):
        raise _damaged(path, f"reference_logits {reference.shape} are not of these sentences")
    if not np.isfinite(reference).all():
        raise _damaged(path, "reference_logits hold NaN or infinity")
    return reference


def _array(content: dict[str, NDArray[Any]], name: str, path: Path, kind: str) -> NDArray[Any]:
    """Return an array of integers (kind "i") or floating-point numbers ("f")."""
    if name not in content:
        raise _damaged(path, f"no array {name!r}")
    if content[name].dtype.kind != kind:
        raise _damaged(path, f"array {name!r} of {content[name].dtype}")
    return content[name]


def _damaged(path: Path, what: object) -> DataError:
    return DataError(f"{path.as_posix()} is damaged ({what}): `dvc repro -f prepare_inputs` renews it")


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            return dict(content)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as problem:
        raise _damaged(path, problem) from None
