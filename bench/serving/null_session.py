"""A session that computes nothing: what it holds is the most that generator, queue and Python hold on this machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.core.model_inputs import AnyBatch
from bench.core.reports import Evidence
from bench.runtimes.base.session import Logits, Session

NULL = "null"
"""Its name in place of a runtime's."""


class NullSession(Session):
    """Answers at once, with zeros."""

    def __init__(self, labels: int) -> None:
        self._labels = labels

    def run(self, batch: AnyBatch) -> Logits:
        return np.zeros((len(batch), self._labels), dtype=np.float32)

    def operator_ms(self, _batches: Sequence[AnyBatch]) -> dict[str, float]:
        return {}

    def evidence(self) -> Evidence:
        return Evidence()
