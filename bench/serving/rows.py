"""The rows that are served together, each by two workers that take turns, and the no-op backend beside them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.core.model_inputs import Task
from bench.core.params import Params
from bench.core.reports import NoopProcess, RatePoint, ServingSettings
from bench.machine.cores import tokenizer_threads
from bench.serving.exploration import IN_FLIGHT, Space, default_settings
from bench.serving.jobs import NOOP, ServeJob, ServingResult
from bench.serving.passes import Tried
from bench.serving.search import STEP, Figures, Search, place_of, tried
from bench.timing.monitors import ClockCheck
from bench.timing.resident import Resident, Row
from bench.workers.protocol import Job, make_job

TRIAL_LIMIT_SECONDS = 60.0
LONGER_THAN_PLANNED = 10.0
"""A trial that takes a minute more than so many times as long as it was planned hangs."""
ABOVE_ALL = 1.25
"""Of the most that a row does, with and without load: a no-op backend that sustains this much is no row's limit."""
OF_A_LOAD = {"in_flight", "max_batch"}
CLOCK_SET = (
    "the system's clock was set while requests were sent, each time that they were: LoadGen takes latencies by it; end "
    "what sets it, then `dvc repro` serves the row again"
)


@dataclass(frozen=True)
class ServedVariant(Row):
    """A variant that is served: the rate that it should hold, and what it did in the closed loop."""

    expected_per_s: float
    closed_loop_per_s: float
    largest_batch: int = 1
    settings: ServingSettings | None = None
    """Where they are not those of params.yaml."""
    worker: str = ""
    """The row whose processes it shares."""


class ServedRows(Resident[ServedVariant]):
    """Workers that answer loads; what the passes call a bench."""

    module = "bench.serving.worker"

    def __init__(
        self, rows: Sequence[ServedVariant], params: Params, task: Task, scratch: Path, is_cut: Callable[[], bool]
    ) -> None:
        noop = rows[0].variant.model_copy(update={"runtime": NOOP, "padding": "fixed", "options": {}})
        no_op = ServedVariant(NOOP, NOOP, noop, 0.0, 0.0, is_reported=False)
        super().__init__([*rows, no_op], params, task, scratch, is_cut)
        self.default = default_settings(params, noop.device)
        self.results: dict[str, list[ServingResult]] = {}
        self.gpu_mib: dict[str, float] = {}

    def job(self, row: ServedVariant, process: int, engine: Path | None) -> Job:
        """Return the job of a row's process."""
        job, device = make_job(row.key, row.variant, self.params, engine), row.variant.device
        settings, most = self.settings(row.name), self._most(row)
        serving, threads = self.params.serving.model_copy(update={"instances": settings.instances}), 1
        if row.name == NOOP:
            serving = serving.model_copy(update={"instances": 1, "input": "tokens"})
        if serving.input == "text":
            threads = tokenizer_threads(self.params, device)
        more = {"process": process, "in_flight": most.in_flight, "tokenizer_threads": threads}
        more["cpu_threads"] = settings.cpu_threads or job.cpu_threads
        return ServeJob(
            **{**vars(job), "task": self.task, **more},
            serving=serving,
            budget_ms=serving.p99_ms[device],
            max_batch=most.max_batch,
        )

    def settings(self, name: str) -> ServingSettings:
        """Return what a row is served with."""
        return self.by_name[name].settings or self.default

    def _most(self, row: ServedVariant) -> ServingSettings:
        """Return the most batches in flight and the largest batch that a row's processes prepare."""
        if not self.params.serving.search:
            return self.default
        in_flight, batch = max(self.default.in_flight, *IN_FLIGHT), max(self.default.max_batch, row.largest_batch)
        return self.default.model_copy(update={"in_flight": in_flight, "max_batch": batch})

    def space(self, name: str) -> tuple[ServingSettings, Space]:
        """Return the settings of a row, and those that it may have."""
        row = self.by_name[name]
        least, most = min(self.params.sizes(row.variant.device)), self._most(row).max_batch
        powers = [2**power for power in range(most.bit_length()) if 2**power >= least]
        return self.default, Space(powers, self.default.cpu_threads)

    def served_with(self, name: str, settings: ServingSettings, seconds: float) -> tuple[str, str]:
        """Return the name of a row with other settings, and else why no process of it runs.

        Another number of sessions needs a process of its own, which is not started where that took longer than
        `seconds` for the row itself.
        """
        is_shared = settings.instances == self.default.instances
        other = f"{name}/{'searched' if is_shared else settings.instances}"
        worker = name if is_shared else other
        self.by_name[other] = replace(self.by_name[name], name=other, settings=settings, worker=worker)
        if worker not in self.workers and worker not in self.faults:
            if (needed := self.start_seconds.get(name, math.inf)) > seconds:
                return "", f"a process of its own takes {needed:.0f} s to start, {max(0.0, seconds):.0f} s were left"
            if self.start([other]):
                return "", "no memory for a process of its own"
        fault = self.faults.get(worker)
        return ("", fault.reason) if fault else (other, "")

    def keep(self, name: str, best: str, seconds: float) -> None:
        """End what was started for a row, but for what has the name `best`: that gets a second process if it fits."""
        for other in [other for other in self.workers if other.startswith(f"{name}/") and other != best]:
            self.end_workers(other)
        if best in self.workers and self.start_seconds[best] <= seconds:
            self.add_processes([best])

    def ends(self, name: str, per_s: float, seed: int) -> Figures | None:
        """Send both ends of a row's curve to its first process."""
        limit, of_load = self.params.timing.worker_limit_seconds, self.settings(name).model_dump(include=OF_A_LOAD)
        return self.ask(name, 0, limit, "ends", per_s=per_s, seed=seed, **of_load)

    def _worker(self, name: str) -> str:
        return self.by_name[name].worker or name

    def processes(self, name: str) -> int:
        """Return how many processes of a row are ready."""
        return len(self.workers.get(self._worker(name), ()))

    def rate(self, name: str, process: int, per_s: float, seed: int) -> Figures | None:
        """Let a process of a row try a rate."""
        if process >= self.processes(name):
            return None
        worker = self._worker(name)
        job = self.workers[worker][process].job
        assert isinstance(job, ServeJob)
        planned = job.queries(per_s) / per_s
        limit = min(self.params.timing.worker_limit_seconds, TRIAL_LIMIT_SECONDS + LONGER_THAN_PLANNED * planned)
        of_load = self.settings(name).model_dump(include=OF_A_LOAD)
        return self.ask(worker, process, limit, "rate", per_s=per_s, seed=seed, **of_load)

    def run_noop(self, rates: Sequence[float], seed: int) -> NoopProcess:
        """Return what the no-op backend does at the rates that rows hold, and above all that they ever did."""
        rows = self.by_name.values()
        top = place_of(ABOVE_ALL * STEP * max(*rates, *(row.closed_loop_per_s for row in rows)))
        clock, held = ClockCheck(), sorted({place_of(rate) for rate in rates})
        send = partial(self.rate, NOOP, 0, seed=seed)
        given = tried(Search(top, highest=top), send, held, self.is_cut)
        if fault := self.faults.get(NOOP):
            return NoopProcess(status=fault.status, reason=fault.reason)
        if clock.was_set() or not given:
            return NoopProcess(status="skipped", reason=CLOCK_SET if given else "not run")
        return NoopProcess(status="measured", points=[RatePoint.model_validate(each) for each in given])

    def end_workers(self, name: str) -> None:
        """End a row's workers, and note what GPU memory that frees for each."""
        count = len(self.workers.get(name, ()))
        before = self.gpu.memory_mib("used") if self.gpu else None
        super().end_workers(name)
        after = self.gpu.memory_mib("used") if self.gpu else None
        if count and before is not None and after is not None:
            self.gpu_mib[name] = max(0.0, before - after) / count

    def hand_over(self, tried: Mapping[str, Tried]) -> None:
        """End every process, and put what it says of itself beside its trials, the row's ends beside the first's."""
        for name, answers in self.finish().items():
            if name == NOOP:
                continue
            own = tried[name]
            said = [
                {**answer, "process": process, "points": own.trials[process], "gpu_mib": self.gpu_mib.get(name)}
                for process, answer in enumerate(answers)
                if process in own.trials
            ]
            self.results[name] = [
                ServingResult.model_validate(each | (own.ends if number == 0 else {}))
                for number, each in enumerate(said)
            ]
