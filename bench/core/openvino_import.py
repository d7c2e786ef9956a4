"""Import OpenVINO without its telemetry.

`import openvino` tells Google Analytics of itself unless a file in the user's home says no, and writes an id and a
count there (openvino/tools/ovc/__init__.py and openvino_telemetry/main.py of 2026.4: no file counts as consent).  Where
the package openvino_telemetry cannot be imported it uses a stand-in that does nothing: its own way out.
"""

from __future__ import annotations

import sys
from typing import Any

TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Return the module `openvino`; ImportError or OSError where it cannot be imported."""
    if TELEMETRY not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # what makes an import of it fail
    import openvino

    return openvino
