"""What a model is given, and what its logits mean."""

from __future__ import annotations

from typing import Literal

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
"""In this order; the third only where the tokenizer gives types that are not all 0."""

Padding = Literal["fixed", "longest", "none"]
"""To the sequence length; to the longest sentence of the batch; or sentences laid end to end, without any."""

Task = Literal["single_label", "multi_label", "regression"]
"""One label of several, each label by itself (logit above 0), or a number."""
