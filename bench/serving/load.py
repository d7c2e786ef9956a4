"""Send load with MLPerf LoadGen: open loop, arrivals fixed by a seed, latency from the scheduled arrival.

Facts about LoadGen 6.0 (mlcommons/inference, loadgen/): all arrivals are made before the run, so every row is sent the
same ones; a file `audit.config` in the working folder would override every setting, unless another name is given; above
capacity a run would last until its backlog is answered, which `server_max_async_queries` bounds; results stand in
mlperf_log_detail.txt alone, one JSON a line behind a prefix.
"""

import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.core.errors import WorkerError

Scenario = Literal["Server", "SingleStream", "Offline"]
Issue = Callable[[Sequence[Any]], None]
"""Takes requests as they arrive: each has an `id` and the `index` of its sentence."""
DETAIL = "mlperf_log_detail.txt"
NO_AUDIT = "there is no audit.config"
QUANTILES = {"p50_ms": "50.00", "p95_ms": "95.00", "p99_ms": "99.00"}


@dataclass(frozen=True)
class Load:
    """What is sent: requests at random times, `rate` a second (Server), one by one (SingleStream), all at once."""

    scenario: Scenario
    queries: int
    seed: int
    rate: float = 1.0
    budget_ms: float = 1.0
    most_waiting: int = 0
    """Requests without an answer at which the load ends: the row is overloaded; 0: it never is."""


def answer(requests: Sequence[Any]) -> None:
    """Tell LoadGen that requests are answered."""
    import mlperf_loadgen

    mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(request.id, 0, 0) for request in requests])


def send(
    load: Load, sentences: int, issue: Issue, ended: Callable[[], None], serve: Callable[[], object]
) -> dict[str, Any]:
    """Send a load while `serve` answers it, and return what LoadGen recorded; see `_figures`.

    `sentences`: how many there are to ask about; `ended` is called when all is answered.  The load runs in a thread of
    its own, so that the session stays in the one that it was opened in: some compiled code runs in no other.
    """
    import mlperf_loadgen

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        sut = mlperf_loadgen.ConstructSUT(issue, lambda: None)
        qsl = mlperf_loadgen.ConstructQSL(sentences, sentences, lambda _indices: None, lambda _indices: None)
        failure: list[BaseException] = []

        def run() -> None:
            try:
                mlperf_loadgen.StartTestWithLogSettings(sut, qsl, *_settings(load, folder), NO_AUDIT)
            except BaseException as problem:
                failure.append(problem)
            finally:
                ended()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        serve()
        thread.join()
        mlperf_loadgen.DestroyQSL(qsl)
        mlperf_loadgen.DestroySUT(sut)
        if failure:
            raise WorkerError(f"LoadGen failed: {failure[0]}")
        return _figures(load, read_log(Path(folder) / DETAIL))


def point(load: Load, figures: dict[str, Any], is_refused: bool = False) -> dict[str, Any]:
    """Return what came of a rate, and whether it keeps the budget: none does whose requests were refused."""
    keeps = not figures["is_overloaded"] and not is_refused and figures["p99_ms"] <= load.budget_ms
    return {"rate": load.rate, "keeps": keeps, **figures}


def _settings(load: Load, folder: str) -> tuple[Any, Any]:
    """Return LoadGen's settings of a test, and of the log that it writes into `folder`."""
    import mlperf_loadgen

    settings = mlperf_loadgen.TestSettings()
    settings.scenario = getattr(mlperf_loadgen.TestScenario, load.scenario)
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = load.queries
    settings.min_duration_ms = 0
    settings.server_target_qps = settings.offline_expected_qps = load.rate
    settings.server_target_latency_ns = int(load.budget_ms * 1e6)
    settings.server_coalesce_queries = True
    settings.server_max_async_queries = load.most_waiting
    settings.single_stream_expected_latency_ns = 1_000_000
    settings.schedule_rng_seed = settings.sample_index_rng_seed = settings.qsl_rng_seed = load.seed
    logged = mlperf_loadgen.LogSettings()
    logged.log_output = mlperf_loadgen.LogOutputSettings()
    logged.log_output.outdir = folder
    logged.log_output.copy_summary_to_stdout = False
    logged.enable_trace = False
    return settings, logged


def read_log(path: Path) -> dict[str, Any]:
    """Return the values that LoadGen logged, by key; WorkerError if the file is not what this version reads."""
    found: dict[str, Any] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "{" in line:
                entry = json.loads(line[line.index("{") :])
                found[entry["key"]] = entry["value"]
    except (OSError, ValueError, KeyError) as problem:
        raise WorkerError(f"LoadGen wrote no log that can be read: {problem}") from None
    return found


def _figures(load: Load, log: dict[str, Any]) -> dict[str, Any]:
    """Return what came of a load: how many requests, how many of them late, percentiles, and the rate of answers.

    `is_overloaded`: it was ended with too many requests waiting; its percentiles are then of no steady state.
    """
    try:
        if load.scenario == "Offline":
            return {"queries": load.queries, "per_s": float(log["result_samples_per_second"])}
        queries = int(log["result_query_count"])
        figures: dict[str, Any] = {"queries": queries, "is_overloaded": queries < load.queries}
        for name, percentile in QUANTILES.items():
            figures[name] = log[f"result_{percentile}_percentile_latency_ns"] / 1e6
        if load.scenario == "Server":
            figures["late"] = int(log["result_overlatency_query_count"])
            figures["sent_per_s"] = float(log["result_scheduled_samples_per_sec"])
            figures["answered_per_s"] = float(log["result_completed_samples_per_sec"])
        return figures
    except KeyError as problem:
        raise WorkerError(f"LoadGen's log has no {problem}: take the version in requirements.txt") from None
