"""The errors that a user can cause or mend, shown as one message without a traceback, and how a stage reports them."""

import errno
import io
import re
import sys
from collections.abc import Callable

NO_SPACE = "No space left on device"
TENSORRT_ERROR = re.compile(r"\[E:onnxruntime.*?ERROR\] (.*)")
"""A line of TensorRT's log as ONNX Runtime prints it; the exception after it only says that there is no engine."""


class BenchError(Exception):
    """Something that the user can understand and mend: one message, no traceback, exit code 1."""


class ParameterError(BenchError):
    """params.yaml holds something that is not allowed."""


class DataError(BenchError):
    """A file that an earlier stage wrote is missing or damaged."""


class DownloadError(BenchError):
    """The model hub did not give what params.yaml asks for."""


class HubUnreachable(DownloadError):
    """The model hub did not answer; what it would have said is not known."""


class ModelError(BenchError):
    """The model is not one that can be measured here; nothing that is run again changes that."""


class WorkerError(BenchError):
    """A measuring process died, hung or gave no result."""

    def last_words(self) -> str:
        """Return how the process ended and why, as one line: TensorRT's own error, else the last line that it wrote."""
        first, *more = str(self).splitlines()
        own = TENSORRT_ERROR.findall(str(self))
        return f"{first.split(';')[0]}: {(own or more)[-1].strip()}" if more else first


class MemoryShortage(WorkerError):
    """The system ended a measuring process because memory ran out."""


class EngineError(BenchError):
    """A TensorRT engine was not built, or not used as it was built."""


def describe_os_error(problem: OSError) -> str:
    """Return one sentence for a file-system error, with what to do about it."""
    place = f" ({problem.filename})" if problem.filename else ""
    if problem.errno == errno.ENOSPC:
        return f"no space left on the disk{place}: free some space and run `dvc repro` again"
    if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"not allowed to write{place}: make the folder writable and run `dvc repro` again"
    return f"{problem.strerror or problem}{place}"


def run_stage(stage: Callable[[], object]) -> None:
    """Run a stage; end the process with code 1 and one message on a user's error.  Others keep their traceback."""
    for stream in (sys.stdout, sys.stderr):  # a character that the console cannot show becomes `?`
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        stage()
    except BenchError as problem:
        sys.exit(f"error: {problem}")
    except OSError as problem:
        sys.exit(f"error: {describe_os_error(problem)}")
    except Exception as problem:
        # Compiled libraries have error types of their own for a full disk.
        if NO_SPACE not in str(problem):
            raise
        sys.exit(f"error: {describe_os_error(OSError(errno.ENOSPC, NO_SPACE))}")
    except KeyboardInterrupt:
        sys.exit("stopped by the user; `dvc repro` goes on from here")
