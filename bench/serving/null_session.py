"""A session that computes nothing: what it holds is the most that generator, queue and Python hold on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.runtimes.base.session import Computed, Logits, TokenArray, computed_as_given

NULL = "null"
"""Its name in place of a runtime's."""


class NullSession:
    """Answers at once, with zeros."""

    is_for_one_batch_size = False
    is_of_fixed_sizes = False

    def __init__(self, labels: int) -> None:
        self._labels = labels

    def prepare(self, batch_size: int) -> None:
        """Nothing is needed."""

    def run(self, *inputs: TokenArray) -> Logits:
        return np.zeros((len(inputs[0]), self._labels), dtype=np.float32)

    def computed(self, *inputs: TokenArray) -> Computed:
        return computed_as_given(*inputs)

    def free_cached_memory(self) -> None:
        """Nothing is cached."""

    def operator_ms(self, _batches: Sequence[tuple[TokenArray, ...]]) -> dict[str, float]:
        return {}

    def evidence(self) -> dict[str, Any]:
        return {}
