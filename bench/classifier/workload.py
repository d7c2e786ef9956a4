"""What one call of the model takes at the least: operations and bytes, from its sizes.

With L layers of width d, h the width of the feed-forward part, c labels, B sentences of T tokens in all and P pairs of
tokens within a sentence (a sentence of s tokens has s² pairs):

    operations  L · (8 T d² + 4 P d + 4 T d h) + B · (2 d² + 2 d c)
                a product of matrices m×k and k×n counts 2 m k n: queries, keys, values and output (8 T d²), scores
                and their use (4 P d), feed-forward (4 T d h), then the head on one token a sentence.  PyTorch's FLOP
                counter counts the same.
    bytes       every weight that is used once, the embeddings of the tokens, both inputs and the logits; what lies
                between two layers is taken to stay in caches.

Both are lower limits: normalization, softmax and activations add work, and caches may be too small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.core.reports import Work

BYTES_PER_WEIGHT = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}
BYTES_PER_TOKEN = 8
BYTES_PER_LOGIT = 4


@dataclass(frozen=True)
class Load:
    """What one call works on: sentences, their tokens in all, and the pairs of tokens for attention."""

    sentences: int
    tokens: int
    pairs: int

    @classmethod
    def of_sentence(cls, tokens: int) -> Load:
        """Return the load of one sentence."""
        return cls(1, tokens, tokens * tokens)


def loads(batch_size: int, work: Work, kind: Literal["given", "computed"]) -> Iterator[Load]:
    """Yield the load of each batch of a pass: what was `given`, or what was `computed` with padding."""
    given = kind == "given"
    tokens_of, pairs_of = (
        (work.given_tokens, work.given_pairs) if given else (work.computed_tokens, work.computed_pairs)
    )
    for tokens, pairs in zip(tokens_of, pairs_of, strict=True):
        yield Load(batch_size, tokens, pairs)


@dataclass(frozen=True)
class Workload:
    """The sizes of an encoder with a classification head."""

    layers: int
    width: int
    feed_forward_width: int
    labels: int
    sequence_length: int

    @classmethod
    def of(cls, config: Any, sequence_length: int, counted: int) -> Workload | None:
        """Return the sizes in a transformers configuration; None where the model is built otherwise than the formula
        says.

        Whether the formula holds is not read from a name: its operations must be those that were `counted` in a call of
        one sentence.
        """
        feed_forward = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None)
        sizes = (getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None), feed_forward)
        if not all(isinstance(size, int) for size in sizes):
            return None
        found = cls(int(sizes[0] or 0), int(sizes[1] or 0), int(sizes[2] or 0), config.num_labels, sequence_length)
        return found if found.operations(Load.of_sentence(sequence_length)) == counted else None

    def as_dict(self) -> dict[str, int]:
        """Return the sizes as JSON holds them."""
        return asdict(self)

    def operations(self, load: Load) -> int:
        """Return the operations of one call (a multiplication and an addition are two)."""
        d, h = self.width, self.feed_forward_width
        layer = 8 * load.tokens * d * d + 4 * load.pairs * d + 4 * load.tokens * d * h
        return self.layers * layer + load.sentences * (2 * d * d + 2 * d * self.labels)

    def bytes_moved(self, load: Load, precision: str) -> int:
        """Return the bytes that one call must move to or from memory."""
        positions = load.tokens // load.sentences
        embeddings = (load.tokens + positions) * self.width
        inputs_and_logits = 2 * load.tokens * BYTES_PER_TOKEN + load.sentences * self.labels * BYTES_PER_LOGIT
        return (self._weights() + embeddings) * BYTES_PER_WEIGHT[precision] + inputs_and_logits

    def _weights(self) -> int:
        """Return the number of weights beside the embeddings: matrices, biases and layer norms."""
        d, h = self.width, self.feed_forward_width
        layer = 4 * (d * d + d) + (d * h + h) + (h * d + d) + 2 * 2 * d
        return self.layers * layer + 2 * d + (d * d + d) + (d * self.labels + self.labels)


def limit_ms(operations: int, moved: int, operations_per_s: float | None, bytes_per_s: float | None) -> dict[str, Any]:
    """Return the shortest time that the machine's measured peaks allow, and which of the two sets it.

    The roofline model (Williams, Waterman and Patterson 2009): the longer of operations / peak and
    bytes / peak.  Empty where a peak was not measured.
    """
    if not operations_per_s or not bytes_per_s:
        return {}
    compute, memory = operations / operations_per_s * 1000, moved / bytes_per_s * 1000
    return {"limit_ms": max(compute, memory), "limited_by": "compute" if compute >= memory else "memory"}
