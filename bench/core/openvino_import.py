"""OpenVINO imported without its telemetry, and told to answer one request at a time.

`import openvino` tells Google Analytics of itself unless a file in the user's home says no (openvino_telemetry/main.py
of 2026.4).  Where the package openvino_telemetry cannot be imported it uses a stand-in: its own way out.
"""

import sys
from typing import Any

TELEMETRY = "openvino_telemetry"
DEVICE = "CPU"


def import_openvino() -> Any:
    """Return the module `openvino`; ImportError or OSError where it cannot be imported."""
    if TELEMETRY not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # what makes an import of it fail
    import openvino

    return openvino


def properties(precision: str, threads: int) -> dict[str, Any]:
    """Return what OpenVINO is told: `precision` (f32 or bf16), one stream on all threads (the hint LATENCY)."""
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    return {**hints, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
