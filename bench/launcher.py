"""Start worker processes, one at a time, and wait for them without using the CPU.

The launcher sleeps in a read of the worker's output while the worker times: a parent
that polls or redraws takes a core away from what it measures.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from bench.errors import WorkerError
from bench.progress import say
from bench.worker_protocol import Job, parse_event

OnEvent = Callable[[dict[str, Any]], None]
LOCK_NAME = "transformer-inference-benchmark.lock"
LAST_WORDS = 12


def worker_environment(job: Job, base: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """Return the environment variables of a worker; they are read at its start-up and never later.

    NVIDIA_TF32_OVERRIDE=0 keeps every NVIDIA library at strict float32 (fp32 rows);
    unset, each library's own setting holds.
    """
    environment = {name: value for name, value in base.items() if name != "NVIDIA_TF32_OVERRIDE"}
    environment |= {
        "OMP_NUM_THREADS": str(job.cpu_threads),
        "MKL_NUM_THREADS": str(job.cpu_threads),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": str(job.gpu_index) if job.device == "cuda" else "",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TRITON_CACHE_DIR": str(scratch / "triton"),
    }
    if job.device == "cuda" and job.precision == "fp32":
        environment["NVIDIA_TF32_OVERRIDE"] = "0"
    return environment


@contextmanager
def timing_lock(folder: Path | None = None) -> Iterator[None]:
    """Hold the machine-wide lock: two runs never time at once, whichever folder they run in."""
    path = (folder or Path(tempfile.gettempdir())) / LOCK_NAME
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another run is timing on this machine; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def run_worker(
    job: Job, scratch: Path, limit_seconds: float, on_event: OnEvent, module: str = "bench.worker"
) -> dict[str, Any]:
    """Run one worker (`module`) to its end and return its result.

    Raises WorkerError, with the worker's last words, if it dies, hangs past
    `limit_seconds`, or writes no result.
    """
    job_file, result_file = scratch / "job.json", scratch / "result.json"
    job.write(job_file)
    result_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", module, str(job_file), str(result_file)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=worker_environment(job, os.environ, scratch),
        encoding="utf-8",
        errors="replace",
    )
    timed_out = threading.Event()

    def end_it() -> None:
        timed_out.set()
        _kill_tree(process.pid)

    timer = threading.Timer(limit_seconds, end_it)
    timer.start()
    try:
        last_words = _listen(process, on_event)
        code = process.wait()
    finally:
        timer.cancel()
        _kill_tree(process.pid)
    if timed_out.is_set():
        raise WorkerError(_hung(job, limit_seconds, last_words))
    if code != 0 or not result_file.exists():
        raise WorkerError(_died(job, code, last_words))
    result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    if result["status"] == "failed":
        raise WorkerError(f"{job.key}: {result['reason']}")
    return result


def _listen(process: subprocess.Popen[str], on_event: OnEvent) -> deque[str]:
    """Hand on events until the worker closes its output; return the last lines of everything else."""
    last_words: deque[str] = deque(maxlen=LAST_WORDS)
    assert process.stdout is not None
    for line in process.stdout:
        event = parse_event(line)
        if event:
            on_event(event)
        elif line.strip():
            last_words.append(line.rstrip())
    return last_words


def _kill_tree(pid: int) -> None:
    """End a process and all that it started; nothing happens if it is gone."""
    try:
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def _hung(job: Job, limit_seconds: float, last_words: deque[str]) -> str:
    return (
        f"{job.key}: the worker took longer than timing.worker_limit_seconds = {limit_seconds:g} and was ended; "
        f"raise the limit, or lower timing.max_seconds{_quoted(last_words)}"
    )


def _died(job: Job, code: int, last_words: deque[str]) -> str:
    return f"{job.key}: the worker {describe_exit(code)}{_quoted(last_words)}"


def describe_exit(code: int) -> str:
    """Say how a process ended: by which signal, or with which code."""
    if code >= 0:
        return f"ended with code {code}" if code else "ended without a result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (often the system's answer to too little memory)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


def _quoted(last_words: deque[str]) -> str:
    if not last_words:
        return "; it said nothing"
    return "; its last words:\n         " + "\n         ".join(last_words)
