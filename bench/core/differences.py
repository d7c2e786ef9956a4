"""The largest difference between two arrays, in which NaN is never lost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def largest_difference(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the largest absolute difference; infinity if a value of either is NaN or infinite.

    A running `max` of Python forgets NaN: every comparison with it is false.  Raises ValueError for other shapes.
    """
    if got.shape != wanted.shape:
        raise ValueError(f"shapes {got.shape} and {wanted.shape} cannot be compared")
    difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    return float(difference.max(initial=0.0)) if np.isfinite(difference).all() else float("inf")
