"""Run a command for as long as somebody waits for it:  python watchdog.py apart LOCK LOG SECONDS COMMAND ...

Runs on a node, with the Python that Ray runs there (which has filelock).  The command and all that it started are ended
when this process's standard input closes, because whoever started it is gone, and when its seconds are over: a task
that is tried again must not find the first one still measuring.

A Ray worker that ends kills its child processes at once: a watchdog that was one would leave its command behind.  With
`apart` the child is a process that only waits, and the watchdog is the child's, in a session of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

BUSY, OVERDUE, ABANDONED, NOT_STARTED = 75, 124, 125, 127
"""Exit codes: another watchdog holds the lock; the seconds are over; nobody waits any more; no such program."""


def main() -> int:
    if sys.argv[1] == "apart":
        return subprocess.Popen([sys.executable, __file__, *sys.argv[2:]], start_new_session=True).wait()
    lock, log, seconds, *command = sys.argv[1:]
    try:
        with FileLock(lock, timeout=0):
            return run(command, Path(log), float(seconds))
    except Timeout:
        return BUSY


def run(command: list[str], log: Path, seconds: float) -> int:
    """Run a command with its output appended to `log`; return its exit code, OVERDUE or ABANDONED."""
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as problem:
            output.write(f"error: {problem.strerror}: {command[0]}\n".encode())
            return NOT_STARTED
    abandoned = threading.Event()

    def watch() -> None:
        sys.stdin.buffer.read()
        abandoned.set()
        end(process)

    threading.Thread(target=watch, daemon=True).start()
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        end(process)
        return OVERDUE
    return ABANDONED if abandoned.is_set() else code


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    with suppress(OSError):
        if sys.platform == "win32":
            subprocess.call(["taskkill", "/F", "/T", "/PID", str(process.pid)], stdout=subprocess.DEVNULL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the thread that watches standard input would hold the process up
