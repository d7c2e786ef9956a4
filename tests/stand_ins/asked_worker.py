"""A worker that answers, and in its second block does what its row's fate is."""

import os
import sys
import time
from typing import Any

from bench.workers.protocol import answer_requests

FATE = os.environ["FATE"]


def import_libraries() -> None:
    if FATE == "cannot be imported":
        raise ImportError("No module named 'x'", name="x")


def block(number: int) -> dict[str, Any]:
    if number == 1 and FATE == "dies":
        sys.stdout.write("no memory for the block\n")
        sys.stdout.flush()
        os._exit(3)
    if number == 1 and FATE == "hangs":
        time.sleep(60)
    if number == 1 and FATE == "refuses":
        raise NotImplementedError("no such operator")
    return {"latencies_ns": [number]}


answer_requests(import_libraries, {"block": block, "end": dict})
