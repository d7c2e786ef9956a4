"""Wait until every row is timed, so that rows can be served together: artifacts/gathered_rows.

The file never changes: it makes no row stale.
"""

from __future__ import annotations

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import write_text
from bench.core.paths import GATHERED_ROWS


def main() -> None:
    write_text(GATHERED_ROWS, "gathered\n")


if __name__ == "__main__":
    run_stage(main)
