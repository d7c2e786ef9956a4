"""Start worker processes, one at a time, and wait for them without using the CPU.

It sleeps in a read of the worker's output: a parent that polls or redraws takes a core away from what it measures.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil

from bench.core.errors import MemoryShortage, WorkerError
from bench.core.variables import chosen_variables
from bench.machine.cores import cpu_seconds
from bench.machine.memory import oom_kills
from bench.workers.protocol import ANSWER, Job, parse_event

Answer = dict[str, Any]
LAST_WORDS = 12
CREATE_NEW_PROCESS_GROUP = 0x200
OWN_GROUP: dict[str, Any] = (
    {"creationflags": CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"process_group": 0}
)
"""Of a process group of its own: a terminal sends Ctrl-C to the whole group of what it runs."""
SHORT = {"block": "a block", "rate": "a trial under load"}
"""Requests whose limit is of what they usually take, and no parameter."""
COLOUR = re.compile(r"\x1b\[[\d;]*m")
"""What libraries put around their errors for a terminal."""
WINDOWS_ERRORS = {
    0xC0000005: "an access violation",
    0xC000001D: "an illegal instruction (a library built for another CPU)",
    0xC00000FD: "a stack overflow",
    0xC0000135: "a missing DLL",
    0xC0000139: "a DLL of another version",
    0xC000013A: "Ctrl-C",
    0xC0000142: "a DLL that could not be started",
    0xC0000374: "a damaged heap",
    0xC0000409: "a stack overrun, or abort()",
}
"""NTSTATUS codes that processes end with (Microsoft's [MS-ERREF] 2.3.1)."""
NO_MEMORY = (0xC0000017, 0xC000012D)
KILLED = 9
"""SIGKILL, which Windows' Python does not name."""


def worker_environment(job: Job, base: Mapping[str, str], compiled: Path) -> dict[str, str]:
    """Return the environment variables of a worker; they are read at its start-up and never later."""
    environment = chosen_variables(base, job.cpu_threads, job.gpu) | {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": str(job.tokenizer_threads > 1).lower(),
        "RAYON_NUM_THREADS": str(job.tokenizer_threads),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "TORCHINDUCTOR_CACHE_DIR": str(compiled / "inductor"),
        "TRITON_CACHE_DIR": str(compiled / "triton"),
    }
    if job.device == "cuda" and job.precision == "fp32":
        environment["NVIDIA_TF32_OVERRIDE"] = "0"  # keeps every NVIDIA library at strict float32
    return environment


class WorkerProcess:
    """One worker: started on creation, it imports its libraries and sleeps until it is asked; no Ctrl-C reaches it."""

    def __init__(
        self,
        job: Job,
        scratch: Path,
        module: str = "bench.timing.worker",
        compiled: Path | None = None,
        *,
        python: str = sys.executable,
        home: Path | None = None,
    ) -> None:
        """`compiled`: where PyTorch keeps compiled code; without it in `scratch`, where there is none yet.

        `python` and `home`: its interpreter and working folder, this process's own unless another checkout's.
        """
        self.job = job
        job_file = scratch / f"job{job.process}.json"
        job.write(job_file)
        self._process = subprocess.Popen(
            [python, "-m", module, str(job_file.absolute())],
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=worker_environment(job, os.environ, (compiled or scratch).absolute()),
            encoding="utf-8",
            errors="replace",
            **OWN_GROUP,
        )
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._timed_out = threading.Event()
        self._usage = psutil.Process(self._process.pid)
        self._oom_kills = oom_kills()

    def wait_until_ready(self, limit_seconds: float) -> None:
        """Return when the libraries are imported, or the worker has ended."""
        with self._ended_after(limit_seconds):
            self._listen(until="ready")

    def ask(self, request: str, limit_seconds: float, **given: Any) -> Answer:
        """Return the answer to a request; WorkerError if the worker dies or takes longer than the limit."""
        with self._ended_after(limit_seconds):
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):  # it has died: its exit code and last words tell why
                self._process.stdin.write(json.dumps({"do": request, **given}) + "\n")
                self._process.stdin.flush()
            answer = self._listen(until=ANSWER)
        if answer is None:
            raise self._problem(limit_seconds, request)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used so far; 0.0 once it has ended."""
        return cpu_seconds(self._usage.pid)

    def host_mib(self) -> float:
        """Return the memory that it holds, in MiB; 0.0 once it has ended."""
        with suppress(psutil.Error):
            return float(self._usage.memory_info().rss / 2**20)
        return 0.0

    def _problem(self, limit_seconds: float, request: str) -> WorkerError:
        """Return how the worker ended, and its last words."""
        if self._timed_out.is_set() and request in SHORT:
            ended = f"hung in {SHORT[request]} for {limit_seconds:g} s and was ended"
        elif self._timed_out.is_set():
            ended = (
                f"took longer than timing.worker_limit_seconds = {limit_seconds:g} and was ended; raise the limit, or "
                f"lower {self.job.shortened_by}"
            )
        else:
            code = self._process.wait()
            if code % 2**32 in NO_MEMORY or (code == -KILLED and oom_kills() > self._oom_kills):
                return MemoryShortage(f"{self.job.key}: the system ended the worker, because memory ran out")
            ended = describe_exit(code)
        said = "".join(f"\n         {line}" for line in self._last_words)
        words = f"its last words:{said}" if said else "it said nothing"
        return WorkerError(f"{self.job.key}: the worker {ended}; {words}")

    def kill(self) -> None:
        """End the worker and all that it started; another thread that asks it gets a WorkerError."""
        with suppress(psutil.NoSuchProcess):
            for member in (*self._usage.children(recursive=True), self._usage):
                with suppress(psutil.NoSuchProcess):
                    member.kill()

    def end(self) -> None:
        """End the worker, whatever it is doing, and let nobody ask it any more."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # a turn that was never taken
                pipe.close()

    @contextmanager
    def _ended_after(self, limit_seconds: float) -> Iterator[None]:
        def end_it() -> None:
            self._timed_out.set()
            self.kill()

        timer = threading.Timer(limit_seconds, end_it)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _listen(self, until: str = "") -> Answer | None:
        """Return the event that is called `until`; None if the worker closes its output.  Keep the last other lines."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = parse_event(line)
            if event and event["event"] == until:
                return event
            if event is None and line.strip():
                self._last_words.append(COLOUR.sub("", line).rstrip())
        return None


def describe_exit(code: int) -> str:
    """Say how a process ended: by which signal, by which of Windows' errors, or with which code."""
    status = code % 2**32
    if status >= 0xC0000000 and (code >= 0 or code < -64):
        return f"ended with Windows' code 0x{status:08X}: {WINDOWS_ERRORS.get(status, 'an error of the system')}"
    if code >= 0:
        return f"ended with code {code}" if code else "ended without a result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (often because the system ran out of memory)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
