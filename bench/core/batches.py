"""Which batches each variant is given: a file a variant, which its stages depend on.

A change of one device's batch sizes, or of how lengths are rounded up, so makes the rows stale that it touches alone.
"""

from __future__ import annotations

import json
from typing import Any

from bench.core.files import remove, write_if_other
from bench.core.params import Params, Variant
from bench.core.paths import BATCHES


def batches_of(variant: Variant, params: Params) -> dict[str, Any]:
    """Return the batch sizes and the padding of a variant's batches."""
    rounded = {"multiple_of": params.lengths.multiple_of} if variant.padding == "longest" else {}
    return {"batch_sizes": params.sizes(variant.device), "padding": variant.padding, **rounded}


def write_batches(params: Params) -> None:
    """Write artifacts/batches/KEY for each variant; files of variants that are gone are removed."""
    BATCHES.mkdir(parents=True, exist_ok=True)
    variants = params.all_variants()
    for path in BATCHES.iterdir():
        if path.name not in variants:
            remove(path)
    for key, variant in variants.items():
        write_if_other(BATCHES / key, json.dumps(batches_of(variant, params)) + "\n")
