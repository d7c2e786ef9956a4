"""What a deployed folder sustains over HTTP, from text: the generator, the search and the passes of rows under load.

The server runs in an environment of the folder's requirements alone.  What the client itself takes, a server that
computes nothing shows.  One request has one text, or 16; connections stay open.
"""

import json
import math
import os
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.core.errors import DataError
from bench.core.files import read_json, write_json, write_text
from bench.core.interrupt import ended_by_ctrl_c
from bench.core.params import Params, load_params
from bench.core.paths import EVALUATION, TEXTS
from bench.core.progress import log
from bench.core.reports import Labels, rate_text
from bench.core.schemas import read_environment
from bench.deploy.client import OVERLOADED, Client
from bench.deploy.running import SHOWN, Server, environment, running
from bench.deploy.settings import Settings
from bench.findings.served import over_http as summed
from bench.inputs.encoded import RENEW, load_encoded, load_reference
from bench.inputs.texts import Text, Texts
from bench.machine.cores import cpu_seconds
from bench.machine.lock import timing_lock
from bench.report.document import plain
from bench.report.words import over_http
from bench.runs.record import dvc
from bench.serving.coordinator import LOADGEN, NO_LOADGEN, why_too_slow
from bench.serving.jobs import LEAST_QUERIES, queries
from bench.serving.load import Load, point, send
from bench.serving.passes import LoadPasses, LoadPlan, Tried
from bench.serving.search import Figures, Search, expected_rate, place_of, tried
from bench.statistics.rate_curve import sustained_per_s
from bench.summary.over_http import SERVED_HTTP, HttpLoad, ServedHttp, Used, read_over_http
from bench.timing.monitors import ClockCheck
from bench.timing.quality import compare_labels

REPORTS = ("summarize", "render", "check_rows")
"""The stages that are run again: they read what no stage lists, so that it makes none stale."""
HEADING = "\n## Measured over HTTP\n\n"
TEXTS_A_REQUEST = (1, 16)
CONTROL_FASTER = 4.0
"""The control is first tried at so many times the server's rate."""
CONTROL_SILENCE_SECONDS = 10.0
MOST_OF_CONTROL = 2**14
OFFLINE_SECONDS = 2.0
SILENT_LIMITS = 2.0
"""A server that does not even say in so many of its own time limits that it has no answer hangs."""


class HttpBench:
    """What the passes call a bench: a server, asked with one text a request or more."""

    def __init__(self, server: Server, settings: Settings, params: Params, texts: Sequence[Text], waiting: int) -> None:
        """`waiting`: so many texts may wait, at more a load ends."""
        self.server, self.settings, self.params = server, settings, params
        self.budget_ms = params.serving.p99_ms[settings.device]
        self.most_waiting = {str(each): max(1, waiting // each) for each in TEXTS_A_REQUEST}
        self.sentences = len(texts)
        self.trials: dict[str, list[Figures]] = {str(each): [] for each in TEXTS_A_REQUEST}
        self.clients = {
            str(each): Client(server.address, bodies(texts, each), server.silence_seconds) for each in TEXTS_A_REQUEST
        }

    def begin_pass(self) -> None:
        self._clock = ClockCheck()

    def processes(self, _name: str) -> int:
        return 1

    def is_whole(self, _number: int) -> bool:
        return not self._clock.was_set()

    def ends(self, name: str, per_s: float, seed: int) -> Figures:
        """Send requests one after another, and all at once as many as may wait."""
        few, many = LEAST_QUERIES // 5, math.ceil(OFFLINE_SECONDS * per_s)
        single = self._load(name, Load("SingleStream", few, seed))
        count = min(max(many, few), self.most_waiting[name])
        return {"single_stream": single, "offline": self._load(name, Load("Offline", count, seed))}

    def rate(self, name: str, _process: int, per_s: float, seed: int) -> Figures | None:
        """Send requests at random times; None at a rate whose trial alone takes longer than all of them may."""
        if LEAST_QUERIES / per_s > 60 * self.params.serving.minutes:
            return None
        count = queries(per_s, self.params.serving.seconds, self.budget_ms)
        load = Load("Server", count, seed, per_s, self.budget_ms, self.most_waiting[name])
        before = self.clients[name].failed.total()
        figures = self._load(name, load)
        found = point(load, figures, is_refused=self.clients[name].failed.total() > before)
        self.trials[name].append(found)
        return found

    def _load(self, name: str, load: Load) -> Figures:
        """Send a load; WorkerError if the server is gone."""
        client, ended = self.clients[name], threading.Event()
        failed, before = client.failed.copy(), self._counted(client)
        figures = send(load, self.sentences, client.issue, ended.set, ended.wait)
        if set(client.failed - failed) - set(OVERLOADED):
            client.check()
            self.server.check(client.last_error)
        now = self._counted(client)
        seconds, server, own, texts, batches, busy = (new - old for old, new in zip(before, now, strict=True))
        return figures | {
            "server_cores": server / seconds,
            "client_cores": own / seconds,
            "mean_batch": texts / batches if batches else 0.0,
            "busy_share": busy / seconds / self.settings.instances,
        }

    def _counted(self, client: Client) -> list[float]:
        """Return what counts up: the time, that of the CPU for server and client, and what the server shows."""
        shown, clients = self.server.exchanged(), sum(map(cpu_seconds, [os.getpid(), *client.pids]))
        cpu = cpu_seconds(self.server.pid), clients
        return [time.perf_counter(), *cpu, *(shown.get(name, 0.0) for name in SHOWN)]

    def close(self) -> None:
        """End the clients."""
        for client in self.clients.values():
            client.close()


def bodies(texts: Sequence[Text], each: int) -> list[bytes]:
    """Return a request that begins with each text in turn."""
    taken = ([texts[(first + place) % len(texts)] for place in range(each)] for first in range(len(texts)))
    return [json.dumps({"texts": own}, ensure_ascii=False).encode() for own in taken]


def measure(folder: Path) -> None:
    """Measure a folder, keep what came of it, and say it; DataError for no folder of `deploy`."""
    settings, params = Settings.read(folder), load_params()
    settings.check_files(folder)
    if read_environment()["versions"].get(LOADGEN) is None:
        raise DataError(NO_LOADGEN)
    texts = read_json(TEXTS, RENEW, Texts)["texts"]
    python, limit = str(environment(folder)), params.timing.worker_limit_seconds
    silence, waiting = SILENT_LIMITS * settings.limits.seconds, settings.limits.waiting_texts
    with timing_lock():
        with (
            running([python, "server.py"], folder, limit, silence) as server,
            closing(HttpBench(server, settings, params, texts, waiting)) as bench,
        ):
            loads = list(_measured(bench))
            accuracy = _accuracy(server, settings, texts)
            processes = len(bench.clients["1"].pids)
        log("  the control, a server that computes nothing")
        with (
            running([python, "-m", "bench.deploy.control"], Path(), limit, CONTROL_SILENCE_SECONDS) as server,
            closing(HttpBench(server, settings, params, texts, MOST_OF_CONTROL)) as bench,
        ):
            loads = [_beside_control(load, bench) for load in loads]
    figures = settings.figures
    report = ServedHttp(
        variant=settings.row,
        digest=settings.digest,
        budget_ms=bench.budget_ms,
        tokens_per_s=figures.tokens_per_s,
        text_per_s=figures.text_per_s,
        client_processes=processes,
        loads=loads,
        accuracy=accuracy,
    )
    write_json(SERVED_HTTP / f"{settings.row}.json", report.as_dict())
    lines = list(over_http(summed(report)))
    readme = (folder / "README.md").read_text(encoding="utf-8").partition(HEADING)[0]
    write_text(folder / "README.md", readme + HEADING + "".join(f"- {line}\n" for line in lines))
    log("\n".join(map(plain, lines)))
    if read_over_http([settings.row]):
        dvc("repro", "--quiet", "--force", "--single-item", *REPORTS)


def _measured(bench: HttpBench) -> Iterator[HttpLoad]:
    """Yield what came of each load; of one that is too slow to be tried, the reason alone."""
    serving = bench.params.serving
    expected = {str(each): _expected_per_s(bench.settings, each, bench.budget_ms) for each in TEXTS_A_REQUEST}
    none = f"a request alone takes more than {bench.budget_ms:g} ms"
    reasons = {name: why_too_slow(per_s, serving.minutes) if per_s else none for name, per_s in expected.items()}
    within = {name: per_s for name, per_s in expected.items() if not reasons[name]}
    plan = replace(LoadPlan.of(within, bench.params, bench.settings.device, 60 * serving.minutes), patience=1)
    with ended_by_ctrl_c() as interrupt:
        passes = LoadPasses(plan, bench, is_cut=interrupt.is_cut, on_pass=lambda number, _left: log(f"  pass {number}"))
        passes.run()
    for name, reason in reasons.items():
        row = passes.rows.get(name)
        yield _load_of(name, row, bench) if row else HttpLoad(texts=int(name), reason=reason, points=[])


def _load_of(name: str, row: Tried, bench: HttpBench) -> HttpLoad:
    per_s = sustained_per_s(row.trials, bench.budget_ms) if row.trials else None
    lowest = min((trial.rate for trial in row.points), default=None)
    reason = f"no rate from {rate_text(lowest)} requests/s on met the budget" if lowest else "not tried to its end"
    at = min(bench.trials[name], key=lambda trial: abs(trial["rate"] - (per_s or 0.0)), default=None)
    return HttpLoad(
        texts=int(name),
        requests_per_s=per_s,
        reason="" if per_s else reason,
        single_stream_p50_ms=row.ends["single_stream"]["p50_ms"] if row.ends else None,
        used=Used.model_validate(at) if at and per_s else None,
        errors=sum(count for status, count in bench.clients[name].failed.items() if status not in OVERLOADED),
        points=row.points,
    )


def _expected_per_s(settings: Settings, each: int, budget_ms: float) -> float:
    """Return the requests of so many texts a second that a folder should sustain; 0.0 if it should none."""
    figures = settings.figures
    if each == 1 and (known := figures.text_per_s or figures.tokens_per_s):
        return known
    most = max(1, settings.max_batch // each)
    mean_ms = {requests: _mean_ms(settings, requests * each) for requests in range(1, most + 1)}
    return expected_rate(mean_ms, most, budget_ms)


def _mean_ms(settings: Settings, texts: int) -> float:
    """Return how long sessions take for texts, in batches as large as they may be."""
    mean_ms = settings.figures.mean_ms
    sizes = sorted(mean_ms, key=int)
    batch = min(texts, settings.max_batch)
    ms = np.interp(batch, [int(size) for size in sizes], [mean_ms[size] for size in sizes])
    return math.ceil(texts / batch) * float(ms)


def _beside_control(load: HttpLoad, bench: HttpBench) -> HttpLoad:
    """Return a load with what the control sustains in its place; without, where the server sustained nothing."""
    if load.requests_per_s is None:
        return load
    least = LEAST_QUERIES / bench.params.serving.seconds
    send_at = partial(bench.rate, str(load.texts), 0, seed=bench.params.serving.seed)
    own, faster = place_of(load.requests_per_s), place_of(max(least, CONTROL_FASTER * load.requests_per_s))
    found = tried(Search(faster), send_at, [own])
    return load.model_copy(update={"control_per_s": max((at["rate"] for at in found if at["keeps"]), default=None)})


def _accuracy(server: Server, settings: Settings, texts: Sequence[Text]) -> Labels | None:
    """Return how many labels are right over HTTP, of all texts; None for other tasks and without labels."""
    known = load_encoded(EVALUATION).labels
    if settings.task != "single_label" or not (known >= 0).any():
        return None
    each = max(TEXTS_A_REQUEST)
    found: list[int] = []
    for body in bodies(texts, each)[::each]:
        request = urllib.request.Request(f"{server.address}/classify", body)
        with urllib.request.urlopen(request, timeout=server.silence_seconds) as response:
            results = json.load(response)["results"]
        found += [settings.labels.index(result["label"]) for result in results]
    predicted = np.array(found[: len(texts)], dtype=np.int64)
    return compare_labels(predicted, load_reference(EVALUATION).argmax(axis=1), known)
