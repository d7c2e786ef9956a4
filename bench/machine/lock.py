"""One timing at a time on a machine, whichever folder it is started in."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bench.core.progress import log

LOCK_NAME = "transformer-inference-benchmark.lock"
HOLDER_SUFFIX = ".holder.json"
"""Beside a lock: who holds it and since when.  The locked file itself cannot be read on Windows."""
FOLDER_VARIABLE = "BENCHMARK_LOCK_FOLDER"
"""Names another folder for the lock: tests set it, so that they wait neither for each other nor for a user's run."""


@contextmanager
def timing_lock(folder: Path | None = None) -> Iterator[None]:
    """Hold the machine-wide lock, so that two runs never time at once; say whom it waits for."""
    path = (folder or lock_folder()) / LOCK_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log(f"another run is timing on this machine{_holder(path)}; waiting for it to end")
        lock.acquire()
    try:
        _sign(path)
        yield
    finally:
        lock.release()


def lock_folder() -> Path:
    """Return the folder of the machine-wide lock: the same for all users, whatever their settings.

    Where that cannot be had, one in the user's own folder: then two users may time at once, and that is said.
    """
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE])
    shared = shared_folder()
    with suppress(OSError):
        shared.mkdir(exist_ok=True)
        with suppress(PermissionError):  # another user made it, and opened it for all
            # Writable for all, and not sticky: Linux lets nobody open another user's file in a sticky folder to write.
            shared.chmod(0o777)
    if os.access(shared, os.W_OK):
        return shared
    log(f"{shared} is not writable: other users of this machine could time at the same time")
    return Path.home() / ".cache" / LOCK_NAME


def shared_folder() -> Path:
    """Return the folder that every user of this system can write to and that no setting moves."""
    places = {"win32": os.environ.get("PROGRAMDATA", "C:/ProgramData"), "darwin": "/Users/Shared"}
    return Path(places.get(sys.platform, "/var/tmp")) / LOCK_NAME.removesuffix(".lock")


def _sign(path: Path) -> None:
    """Write beside the lock who holds it; another user's note may not be ours to write over."""
    note = {"process": os.getpid(), "folder": str(Path.cwd()), "since_s": time.monotonic()}
    with suppress(OSError):
        path.with_suffix(HOLDER_SUFFIX).write_text(json.dumps(note), encoding="utf-8")


def _holder(path: Path) -> str:
    """Return ` (process 123 in FOLDER, for 4 min)`, empty where the note cannot be read."""
    try:
        note = json.loads(path.with_suffix(HOLDER_SUFFIX).read_text(encoding="utf-8"))
        minutes = (time.monotonic() - float(note["since_s"])) / 60  # a clock that all processes share
        since = f", for {minutes:.0f} min" if minutes >= 0 else ""  # else of another container
        return f" (process {note['process']} in {note['folder']}{since})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
