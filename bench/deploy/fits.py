"""Is this machine one that the folder's row can be served on, and does its session do what was measured?"""

from bench.core.errors import DataError
from bench.core.reports import Evidence
from bench.deploy.settings import Settings
from bench.machine.can_run import deciding_instructions
from bench.machine.gpus import ask, handle_of, nvml, visible_gpus
from bench.timing.evidence import contradiction

WAY_OUT = "measure there and deploy that run"


def check_machine(settings: Settings) -> None:
    """Raise DataError where the CPU lacks instructions, or the GPU is another than an engine's."""
    measured = settings.machine
    missing = set(measured.instructions.split()) - set(deciding_instructions().split())
    if settings.device == "cpu" and missing:
        names = ", ".join(sorted(missing))
        raise DataError(f"this CPU lacks instructions of the measured one ({measured.cpu}): {names}: {WAY_OUT}")
    if settings.device == "cuda":
        _check_gpu(settings)


def _check_gpu(settings: Settings) -> None:
    with nvml() as library:
        visible = visible_gpus(library) if library else []
        name = ask(library, "nvmlDeviceGetName", handle_of(library, visible[0])) if visible else None
    if name is None:
        raise DataError(f"this row needs an NVIDIA GPU, and none is seen here: {WAY_OUT}")
    if settings.engine and name != settings.machine.gpu:
        raise DataError(f"the engine is for {settings.machine.gpu}, this GPU is {name}: {WAY_OUT}")


def check_session(settings: Settings, evidence: Evidence) -> None:
    """Raise DataError where the open session contradicts its row, or took another number of threads."""
    reason = contradiction(settings.variant(), evidence)
    if settings.device == "cpu" and evidence.cpu_threads not in (None, settings.cpu_threads):
        reason = reason or f"wanted {settings.cpu_threads} threads, observed {evidence.cpu_threads}"
    if reason:
        raise DataError(f"{settings.row}: {reason}")
