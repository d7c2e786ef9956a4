"""The server of a folder in an environment of its own, while it is measured."""

import os
import re
import subprocess
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.core.errors import WorkerError
from bench.core.files import file_sha256
from bench.core.paths import ARTIFACTS
from bench.core.progress import log
from bench.workers.launcher import OWN_GROUP

ENVIRONMENTS = ARTIFACTS / "deployed"
WORDS = ENVIRONMENTS / "server.log"
LAST_LINES = 5
READY_SECONDS = 10.0
"""Without an answer from then on a server hangs."""
SHOWN = ("batch_texts_sum", "batch_texts_count", "session_seconds_total")
EXCHANGED = re.compile(rf"^classifier_({'|'.join(SHOWN)}) (\S+)$", re.MULTILINE)
GONE = (urllib.error.URLError, ConnectionError, TimeoutError)


@dataclass(frozen=True)
class Server:
    """A server that runs; `silence_seconds`: after so long without an answer it hangs."""

    address: str
    pid: int
    silence_seconds: float = READY_SECONDS

    def exchanged(self) -> dict[str, float]:
        """Return what it shows of its batches, nothing where it has none to show; WorkerError if it is gone."""
        try:
            with urllib.request.urlopen(f"{self.address}/metrics", timeout=self.silence_seconds) as response:
                return {name: float(value) for name, value in EXCHANGED.findall(response.read().decode())}
        except urllib.error.HTTPError:
            return {}
        except GONE as problem:
            raise _ended(f"answers no more ({problem})") from None

    def is_ready(self) -> bool:
        """Tell whether it answers requests."""
        try:
            with urllib.request.urlopen(f"{self.address}/v2/health/ready", timeout=self.silence_seconds):
                return True
        except GONE:
            return False

    def check(self, error: str) -> None:
        """Raise WorkerError if it answers no requests any more; `error`: what its clients saw."""
        if not self.is_ready():
            raise _ended(f"answers no more ({error})")


@contextmanager
def running(command: Sequence[str], folder: Path, limit_seconds: float, silence_seconds: float) -> Iterator[Server]:
    """Run a server, and give it once it is ready; WorkerError if it never is.

    What it says goes into a file: a pipe that nobody reads holds it up.
    """
    WORDS.parent.mkdir(parents=True, exist_ok=True)
    with WORDS.open("w", encoding="utf-8") as words:
        process = psutil.Popen(
            [*command, "--port", "0"], cwd=folder, stdout=words, stderr=subprocess.STDOUT, **OWN_GROUP
        )
    try:
        end = time.monotonic() + limit_seconds
        while not (found := re.search(r"http://\S+:\d+", _words())):
            _wait(process, end)
        server = Server(found[0], process.pid, silence_seconds)
        while not server.is_ready():
            _wait(process, end)
        yield server
    finally:
        with suppress(psutil.NoSuchProcess):  # it ended by itself
            process.terminate()
        try:
            process.wait(silence_seconds)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: psutil.Popen, end: float) -> None:
    if process.poll() is not None or time.monotonic() > end:
        raise _ended("did not start")
    time.sleep(0.1)


def _words() -> str:
    return WORDS.read_text(encoding="utf-8", errors="replace")


def _ended(how: str) -> WorkerError:
    last = "".join(f"\n  {line}" for line in _words().splitlines()[-LAST_LINES:])
    return WorkerError(f"the server {how}; its last words, in {WORDS.as_posix()}:{last}")


def environment(folder: Path) -> Path:
    """Return the Python of an environment with the folder's requirements alone, made where there is none yet."""
    pins = folder / "requirements.txt"
    place = (ENVIRONMENTS / file_sha256(pins)[:16]).absolute()
    python, made = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python"), place / "made"
    if not made.exists():
        log(f"installing {pins}")
        venv.create(place, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)]
        if subprocess.call(command):
            raise WorkerError(f"installing {pins} failed: pip's last words stand above")
        made.touch()
    return python
