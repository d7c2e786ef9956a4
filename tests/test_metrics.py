"""What `dvc metrics` shows: one small file a variant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from bench.summary.table_file import write_metrics

SERVED = pd.DataFrame({"variant": ["fast", "slow"], "requests_per_s": [57911.4, None]})


def written(folder: Path, *cells: tuple[str, int, str, float | None]) -> dict[str, Any]:
    table = pd.DataFrame(cells, columns=["variant", "batch_size", "status", "p50_ms"])
    write_metrics(table, SERVED, folder)
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()}


def test_a_variant_has_its_p50_by_batch_size_and_its_rate(tmp_path: Path) -> None:
    found = written(tmp_path / "m", ("fast", 1, "measured", 0.2912345), ("fast", 256, "measured", 9.7344))
    assert found == {
        "fast": {"status": "measured", "p50_ms": {"b001": 0.2912, "b256": 9.734}, "requests_per_s": 57910.0}
    }


def test_a_batch_size_that_was_not_measured_has_no_figure(tmp_path: Path) -> None:
    found = written(
        tmp_path / "m", ("slow", 1, "measured", 1.0), ("slow", 8, "out_of_memory", None), ("off", 1, "off", None)
    )
    assert found == {"slow": {"status": "measured, out_of_memory", "p50_ms": {"b001": 1.0}}, "off": {"status": "off"}}


def test_a_rejected_figure_is_not_shown_as_a_result(tmp_path: Path) -> None:
    assert written(tmp_path / "m", ("wrong", 1, "rejected", 0.1)) == {"wrong": {"status": "rejected"}}


def test_a_variant_that_is_gone_leaves_no_file(tmp_path: Path) -> None:
    written(tmp_path / "m", ("old", 1, "measured", 1.0))
    assert set(written(tmp_path / "m", ("new", 1, "measured", 1.0))) == {"new"}
