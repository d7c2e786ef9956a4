"""How a rate is written, wherever one is told."""

from __future__ import annotations


def rate_text(per_s: float) -> str:
    """Write a rate, a second, without an exponent: 0.042, 38.2, 1205."""
    if per_s < 1:
        return f"{per_s:.2g}"
    return f"{per_s:.1f}" if per_s < 100 else f"{per_s:.0f}"
