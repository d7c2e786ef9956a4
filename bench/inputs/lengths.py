"""How long the sentences are, and how much of a batch that is padded to the sequence length is padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.inputs.encoded import Encoded


def length_figures(encoded: Encoded) -> dict[str, Any]:
    """Return mean, median, 95th percentile and longest in tokens, and the share of padding at the sequence length.

    `at_limit`: sentences as long as the sequence length, which may have been cut to it.
    """
    lengths = encoded.lengths
    return {
        "sentences": len(lengths),
        "mean_tokens": float(lengths.mean()),
        "median_tokens": float(np.median(lengths)),
        "p95_tokens": float(np.percentile(lengths, 95)),
        "longest_tokens": int(lengths.max()),
        "at_limit": int((lengths == encoded.sequence_length).sum()),
        "padding_share": float(1 - lengths.mean() / encoded.sequence_length),
    }


def token_counts(encoded: Encoded) -> str:
    """Return a CSV of how many sentences have how many tokens."""
    tokens, sentences = np.unique(encoded.lengths, return_counts=True)
    return "".join(
        f"{token},{count}\n" for token, count in [("tokens", "sentences"), *zip(tokens, sentences, strict=True)]
    )
