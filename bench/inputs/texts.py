"""The sentences as text, and the tokenizer's fast form: the Rust library alone makes the same tokens of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from bench.core.errors import ModelError
from bench.core.files import damaged, read_json, shortened, write_json, write_text
from bench.core.model_inputs import IntArray, PackedBatch
from bench.core.schemas import Labelled
from bench.core.staleness import reason_not_made, write_not_made
from bench.inputs.encoded import RENEW, Encoded

CHUNK = 1000
Text = str | list[str]
"""A sentence, or both of a pair."""
Tokens = tuple[list[int], ...]
"""Of one sentence without padding: ids, and token types where the model is given them."""


class Texts(TypedDict):
    """artifacts/inputs/texts.json."""

    texts: list[Text]


@dataclass(frozen=True)
class TextEncoder:
    """Makes tokens of the sentences of `like`, which it lays out as the arrays there are."""

    rust: Any
    texts: Sequence[Text]
    like: Encoded

    def tokens(self, sentences: Iterable[int]) -> list[Tokens]:
        """Return the tokens of each sentence, by its number."""
        texts = (self.texts[index] for index in sentences)
        found = self.rust.encode_batch_fast([text if isinstance(text, str) else tuple(text) for text in texts])
        if self.like.token_type_ids is None:
            return [(each.ids,) for each in found]
        return [(each.ids, each.type_ids) for each in found]

    def laid_out(self, tokens: Sequence[Tokens]) -> Encoded:
        """Return sentences padded to the sequence length, as transformers pads them."""
        places, is_left, paddings = self._padding
        packed = self.packed(tokens)
        lengths = packed.lengths[:, None]
        is_token = places >= places.size - lengths if is_left else places < lengths
        arrays = [np.full(is_token.shape, padding) for padding in paddings]
        arrays[0][is_token] = packed.ids
        if packed.types is not None:
            arrays[1][is_token] = packed.types
        return Encoded(arrays[0], is_token.astype(np.int64), np.full(len(tokens), -1), *arrays[1:])

    def packed(self, tokens: Sequence[Tokens]) -> PackedBatch:
        """Return sentences laid end to end."""
        lengths = np.array([len(own[0]) for own in tokens])
        parts = (chain.from_iterable(values) for values in zip(*tokens, strict=True))
        ids, *types = (np.fromiter(part, np.int64, int(lengths.sum())) for part in parts)
        return PackedBatch(ids, lengths, *types)

    @cached_property
    def _padding(self) -> tuple[IntArray, bool, list[np.int64]]:
        """The places of a sentence, whether padding comes first, and what it is in each array but the mask."""
        is_left, shortest = self.like.is_left_padded, int(self.like.lengths.argmin())
        given = (self.like.input_ids, self.like.token_type_ids)
        paddings = [array[shortest, 0 if is_left else -1] for array in given if array is not None]
        return np.arange(self.like.sequence_length), is_left, paddings


def save_texts(path: Path, labelled: Sequence[Labelled]) -> None:
    write_json(path, {"texts": [row.sentence if row.pair is None else [row.sentence, row.pair] for row in labelled]})


def save_fast_tokenizer(path: Path, tokenizer: Any, texts: Path, encoded: Encoded) -> None:
    """Write the tokenizer's fast form, or why there is none: it must make of every sentence what transformers made."""
    if not tokenizer.is_fast:
        write_not_made(path, f"the model's tokenizer has no fast form: {type(tokenizer).__name__} is Python code")
        return
    write_text(path, _bare(tokenizer, encoded.sequence_length))
    encoder = open_encoder(path, texts, encoded)
    for first in range(0, len(encoded), CHUNK):
        sentences = np.arange(first, min(first + CHUNK, len(encoded)))
        made, wanted = encoder.laid_out(encoder.tokens(sentences)), encoded.take(sentences)
        same = [(ours == theirs).all(axis=1) for ours, theirs in zip(made.arrays, wanted.arrays, strict=True)]
        other = np.flatnonzero(~np.logical_and.reduce(same))
        if other.size:
            text = shortened(repr(encoder.texts[first + int(other[0])]))
            write_not_made(path, f"the fast form of the model's tokenizer makes other tokens of {text}")
            return


def _bare(tokenizer: Any, sequence_length: int) -> str:
    """Return the Rust library's JSON of a tokenizer that cuts to the sequence length and pads nothing."""
    from tokenizers import Tokenizer

    rust = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    rust.no_padding()
    rust.enable_truncation(sequence_length, strategy="longest_first", direction=tokenizer.truncation_side)
    text: str = rust.to_str()
    return text


def open_encoder(path: Path, texts: Path, like: Encoded) -> TextEncoder:
    """Return what encodes the sentences; ModelError if the tokenizer has no fast form, DataError for damaged files."""
    from tokenizers import Tokenizer

    if reason := why_not_fast(path):
        raise ModelError(reason)
    try:
        rust = Tokenizer.from_file(str(path))
    except Exception as problem:  # the Rust library raises plain ones
        raise damaged(path, shortened(str(problem)), RENEW) from None
    found = read_json(texts, RENEW, Texts)["texts"]
    if len(found) != len(like):
        raise damaged(texts, f"{len(found)} texts of {len(like)} sentences", RENEW)
    return TextEncoder(rust, found, like)


def why_not_fast(path: Path) -> str:
    """Return why a tokenizer has no fast form; empty if it has one."""
    return reason_not_made(path, "")
