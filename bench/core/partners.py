"""Which rows are compared because only one thing is different: the precision, the padding or the runtime."""

from collections.abc import Mapping
from itertools import combinations

from bench.core.params import Variant


def partners(variants: Mapping[str, Variant]) -> list[tuple[str, str]]:
    """Return the pairs of variants of one device that differ in one of precision, padding and runtime."""
    return [(a, b) for a, b in combinations(variants, 2) if _is_one_toggle(variants[a], variants[b])]


def _is_one_toggle(first: Variant, second: Variant) -> bool:
    pairs = ((getattr(first, name), getattr(second, name)) for name in ("precision", "padding", "runtime"))
    changed = sum(a != b for a, b in pairs)
    is_new_runtime = first.runtime != second.runtime  # its options are others
    return first.device == second.device and changed == 1 and (is_new_runtime or first.options == second.options)
