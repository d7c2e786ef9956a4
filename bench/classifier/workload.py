"""The least work of one call of the model: FLOPs and bytes, from its sizes.

With L layers of width d, h the width of the feed-forward part, c labels, B sentences of T tokens in all and P pairs of
tokens within a sentence (a sentence of s tokens has s² pairs):

    FLOPs  L · (8 T d² + 4 P d + 4 T d h) + B · (2 d² + 2 d c)
           a GEMM of m×k and k×n counts 2 m k n: queries, keys, values and output (8 T d²), scores and their use
           (4 P d), feed-forward (4 T d h), then the head on one token a sentence; as PyTorch's FLOP counter counts
    bytes  every weight that is used once, the embeddings of the tokens, both inputs and the logits; activations
           between two layers are taken to stay in caches

Both are lower limits: normalization, softmax and activations add work, and caches may be too small.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Literal, Self

from bench.core.model_inputs import INPUT_NAMES, Batch
from bench.core.reports import Work

BYTES_PER_WEIGHT = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1}
BYTES_PER_TOKEN = 8
BYTES_PER_LOGIT = 4


@dataclass(frozen=True)
class Load:
    """Sentences of one call, their tokens in all, and the pairs of tokens for attention."""

    sentences: int
    tokens: int
    pairs: int


def loads(batch_size: int, work: Work, kind: Literal["given", "computed"]) -> list[Load]:
    """Return the load of each batch of a pass: as `given`, or as `computed` with padding."""
    sizes = (getattr(work, f"{kind}_tokens"), getattr(work, f"{kind}_pairs"))
    return [Load(batch_size, tokens, pairs) for tokens, pairs in zip(*sizes, strict=True)]


@dataclass(frozen=True)
class Workload:
    """The sizes of an encoder with a classification head."""

    layers: int
    width: int
    feed_forward_width: int
    labels: int
    sequence_length: int

    @classmethod
    def of(cls, config: Any, sequence_length: int, counted: int) -> Self | None:
        """Return the sizes in a transformers configuration; None where the formula does not hold for the model.

        Tried, not read from a name: its FLOPs must be those `counted` in a call of one sentence.
        """
        feed_forward = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None)
        sizes = (getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None), feed_forward)
        if not all(isinstance(size, int) for size in sizes):
            return None
        found = cls(int(sizes[0] or 0), int(sizes[1] or 0), int(sizes[2] or 0), config.num_labels, sequence_length)
        return found if found.flops(Load(1, sequence_length, sequence_length**2)) == counted else None

    def flops(self, load: Load) -> int:
        """Return the FLOPs of one call (a multiplication and an addition are two)."""
        d, h = self.width, self.feed_forward_width
        layer = 8 * load.tokens * d * d + 4 * load.pairs * d + 4 * load.tokens * d * h
        return self.layers * layer + load.sentences * (2 * d * d + 2 * d * self.labels)

    def bytes_moved(self, load: Load, precision: str) -> int:
        """Return the bytes that one call must move to or from memory."""
        positions = load.tokens // load.sentences
        embeddings = (load.tokens + positions) * self.width
        inputs_and_logits = 2 * load.tokens * BYTES_PER_TOKEN + load.sentences * self.labels * BYTES_PER_LOGIT
        d, h = self.width, self.feed_forward_width
        layer = 4 * (d * d + d) + (d * h + h) + (h * d + d) + 2 * 2 * d  # matrices, biases and layer norms
        weights = self.layers * layer + 2 * d + (d * d + d) + (d * self.labels + self.labels)
        return (weights + embeddings) * BYTES_PER_WEIGHT[precision] + inputs_and_logits


def limit_ms(flops: int, moved: int, flops_per_s: float | None, bytes_per_s: float | None) -> dict[str, Any]:
    """Return the shortest time that the machine's measured peaks allow, and which of the two sets it; empty without.

    The roofline model (Williams, Waterman and Patterson 2009): the longer of FLOPs / peak and bytes / peak.
    """
    if not flops_per_s or not bytes_per_s:
        return {}
    compute, memory = flops / flops_per_s * 1000, moved / bytes_per_s * 1000
    return {"limit_ms": max(compute, memory), "limited_by": "compute" if compute >= memory else "memory"}


def counted_flops(classifier: Any, batch: Batch) -> int:
    """Return the FLOPs of one call as PyTorch counts them, eager attention preferred; 0 where its counter breaks."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    before = classifier.config._attn_implementation
    with contextlib.suppress(ValueError):
        classifier.set_attn_implementation("eager")
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.inference_mode():
            classifier(**dict(zip(INPUT_NAMES, map(torch.from_numpy, batch.arrays), strict=False)))
    except Exception:  # its hooks look for gradients in places where an architecture has none
        return 0
    finally:
        classifier.set_attn_implementation(before)
    return int(counter.get_total_flops())
