"""A runtime with a fault of choice; tests put it into a copy's bench/runtimes."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.core.model_inputs import AnyBatch, IntArray
from bench.core.reports import Evidence
from bench.runtimes.base.session import Logits, Session, SessionSpec

LIBRARIES = ("onnxruntime",)
SUPPORTED = frozenset({("cpu", "fp32")})
PADDINGS = ("fixed", "longest")
FAULTS = (
    "none",
    "signal",
    "hang",
    "memory",
    "perturbed",
    "no_mask",
    "empty",
    "not_a_number",
    "cpu_for_cuda",
    "traceback",
    "dies_in_a_block",
    "hangs_in_a_block",
    "memory_in_a_block",
    "dies_under_load",
    "hangs_under_load",
    "memory_under_load",
    "wrong_under_load",
    "mixed_up_under_load",
)
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {"fault": FAULTS}


def import_libraries() -> None:
    import onnxruntime  # noqa: F401


def under_load() -> bool:
    """Tell whether requests are answered: in a serving process, with every shape prepared."""
    return "mlperf_loadgen" in sys.modules and not gc.isenabled()


def in_a_block() -> bool:
    """Tell whether this call is one of a block: the warm-up is over."""
    return any(frame.f_code.co_name == "run_block" for frame, _ in traceback.walk_stack(None))


def hang() -> None:
    """Hang, and tell so in the project's folder."""
    Path("hangs").touch()
    time.sleep(600)


def open_session(spec: SessionSpec) -> Session:
    return Faulty(spec)


class Faulty(Session):
    """ONNX Runtime on the CPU, with one thing wrong."""

    def __init__(self, spec: SessionSpec) -> None:
        import onnxruntime

        self.fault = str(spec.options["fault"])
        self.seen: set[bytes] = set()
        self.session = onnxruntime.InferenceSession(str(spec.graph), providers=["CPUExecutionProvider"])

    def run(self, batch: AnyBatch) -> Logits:
        input_ids, attention_mask = batch.arrays
        if under_load():
            self._fail_under_load()
        elif in_a_block():
            self._fail_in_a_block(len(input_ids))
        if self.fault == "signal":
            print("the driver is about to fail", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fault == "traceback":
            raise RuntimeError("something nobody expected")
        if self.fault == "hang":
            hang()
        if self.fault == "memory" and len(input_ids) == 1:
            np.empty(2**60, dtype=np.int8)
        if self.fault == "no_mask":
            attention_mask = np.ones_like(attention_mask)
        logits: Logits = self.session.run(["logits"], {"input_ids": input_ids, "attention_mask": attention_mask})[0]
        return self._broken_under_load(input_ids, logits) if under_load() else self._broken(logits)

    def _fail_in_a_block(self, batch_size: int) -> None:
        if self.fault == "dies_in_a_block":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "hangs_in_a_block":
            hang()
        if self.fault == "memory_in_a_block" and batch_size == 1:
            np.empty(2**60, dtype=np.int8)

    def _fail_under_load(self) -> None:
        if self.fault == "dies_under_load":
            print("the driver is about to fail", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "hangs_under_load":
            hang()
        if self.fault == "memory_under_load":
            np.empty(2**60, dtype=np.int8)

    def _broken_under_load(self, input_ids: IntArray, logits: Logits) -> Logits:
        """Return what is wrong under load alone: too large, or for a batch that is new the answers of each other."""
        if self.fault == "wrong_under_load":
            return logits * np.float32(1.01)
        is_new = input_ids.tobytes() not in self.seen
        self.seen.add(input_ids.tobytes())
        return logits[::-1].copy() if is_new and self.fault == "mixed_up_under_load" else logits

    def _broken(self, logits: Logits) -> Logits:
        if self.fault == "empty":
            return logits[:0]
        if self.fault == "not_a_number":
            return logits * np.float32(np.nan)
        return logits * np.float32(1.01) if self.fault == "perturbed" else logits

    def operator_ms(self, batches: Sequence[AnyBatch]) -> dict[str, float]:
        return {"MatMul": float(len(batches))}

    def evidence(self) -> Evidence:
        return Evidence(device=["cuda" if self.fault == "cpu_for_cuda" else "cpu"], product_weights={"float": 1})
