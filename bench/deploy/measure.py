"""What a deployed folder sustains over HTTP, from text: the generator, the search and the passes of rows under load.

The server runs in an environment of the folder's requirements alone.  What the client itself takes, a server that
computes nothing shows.  One request has one text, or 16; connections stay open.
"""

import asyncio
import json
import math
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import DataError, WorkerError
from bench.core.files import file_sha256, read_json, write_json, write_text
from bench.core.interrupt import ended_by_ctrl_c
from bench.core.params import Params, load_params
from bench.core.paths import ARTIFACTS, EVALUATION, TEXTS
from bench.core.progress import log
from bench.core.reports import Labels, rate_text
from bench.core.schemas import read_environment
from bench.deploy.over_http import SERVED_HTTP, HttpLoad, ServedHttp
from bench.deploy.settings import Settings
from bench.inputs.encoded import load_encoded, load_reference
from bench.inputs.texts import RENEW, Text, Texts
from bench.machine.lock import timing_lock
from bench.serving.coordinator import LOADGEN, NO_LOADGEN
from bench.serving.jobs import BUDGETS_LONG, LEAST_QUERIES
from bench.serving.load import Load, answer, send
from bench.serving.passes import LoadPasses, LoadPlan
from bench.serving.search import Figures, Search, place_of, rate_at
from bench.statistics.rate_curve import sustained_per_s
from bench.timing.monitors import ClockCheck
from bench.timing.quality import compare_labels

ENVIRONMENTS = ARTIFACTS / "deployed"
HEADING = "\n## Measured over HTTP\n\n"
TEXTS_A_REQUEST = (1, 16)
CONTROL_FASTER = 4.0
"""The control is first tried at so many times the server's rate."""
CONTROL_TRIALS = 12
MOST_OF_CONTROL = 2**14
OFFLINE_SECONDS = 2.0
SHOWN = ("batch_texts_sum", "batch_texts_count", "session_seconds_total")
EXCHANGED = re.compile(rf"^classifier_({'|'.join(SHOWN)}) (\S+)$", re.MULTILINE)


class Client:
    """Sends requests of LoadGen over HTTP, in a thread of its own."""

    def __init__(self, address: str, bodies: Sequence[bytes], most_open: int) -> None:
        self._address, self._bodies, self._most_open = f"{address}/classify", bodies, most_open
        self.errors: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._open())

    def _call(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    async def _open(self) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=self._most_open, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(connector=connector)
        self._tasks: set[asyncio.Task[None]] = set()

    def issue(self, requests: Sequence[Any]) -> None:
        """Send requests, each with an `id` and the `index` of its body."""
        self._loop.call_soon_threadsafe(self._start, requests)

    def _start(self, requests: Sequence[Any]) -> None:
        for request in requests:
            task = self._loop.create_task(self._send(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, request: Any) -> None:
        try:
            async with self._session.post(self._address, data=self._bodies[request.index]) as response:
                content = await response.read()
                if response.status != 200:
                    self.errors.append(f"{response.status}: {content.decode(errors='replace')}")
        except Exception as problem:  # whatever ends a connection
            self.errors.append(repr(problem))
        answer([request])

    def close(self) -> None:
        """Close the connections."""
        self._call(self._session.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class HttpBench:
    """What the passes call a bench: a server, asked with one text a request or more."""

    def __init__(
        self, address: str, settings: Settings, params: Params, texts: Sequence[Text], most_texts: int
    ) -> None:
        """`most_texts`: that may wait, at which a load ends."""
        self.address, self.settings, self.params = address, settings, params
        self.budget_ms = params.serving.p99_ms[settings.device]
        self.most_waiting = {str(each): most_texts // each for each in TEXTS_A_REQUEST}
        self.clients = {
            str(each): Client(address, bodies(texts, each), self.most_waiting[str(each)]) for each in TEXTS_A_REQUEST
        }

    def begin_pass(self) -> None:
        self._clock = ClockCheck()

    def processes(self, _name: str) -> int:
        return 1

    def is_whole(self, _number: int) -> bool:
        return not self._clock.was_set()

    def ends(self, name: str, per_s: float, seed: int) -> Figures:
        """Send requests one after another, and all at once."""
        few, many = LEAST_QUERIES // 5, math.ceil(OFFLINE_SECONDS * per_s)
        single = self._load(name, Load("SingleStream", few, seed))
        return {"single_stream": single, "offline": self._load(name, Load("Offline", max(many, few), seed))}

    def rate(self, name: str, _process: int, per_s: float, seed: int) -> Figures:
        """Send requests at random times; one that gets no answer keeps no budget."""
        seconds = max(self.params.serving.seconds, BUDGETS_LONG * self.budget_ms / 1000)
        queries = max(LEAST_QUERIES, math.ceil(per_s * seconds))
        load = Load("Server", queries, seed, per_s, self.budget_ms, self.most_waiting[name])
        before = len(self.clients[name].errors)
        figures = self._load(name, load)
        is_refused = len(self.clients[name].errors) > before
        keeps = not figures["is_overloaded"] and not is_refused and figures["p99_ms"] <= self.budget_ms
        return {"rate": per_s, "keeps": keeps, **figures}

    def _load(self, name: str, load: Load) -> Figures:
        client, ended = self.clients[name], threading.Event()
        before, began = self._exchanged(), time.perf_counter()
        figures = send(load, len(client._bodies), client.issue, ended.set, partial(_wait, ended))
        seconds, after = time.perf_counter() - began, self._exchanged()
        texts, batches, busy = (after.get(key, 0.0) - before.get(key, 0.0) for key in SHOWN)
        share = busy / seconds / self.settings.instances
        return figures | {"mean_batch": texts / batches if batches else 0.0, "busy_share": share}

    def _exchanged(self) -> dict[str, float]:
        """Return what the server shows of its batches; nothing where it is the control."""
        try:
            with urllib.request.urlopen(f"{self.address}/metrics") as response:
                return {name: float(value) for name, value in EXCHANGED.findall(response.read().decode())}
        except urllib.error.HTTPError:
            return {}

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


def _wait(ended: threading.Event) -> None:
    ended.wait()


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
    python = str(environment(folder))
    with timing_lock(), serving([python, "server.py"], folder, params) as address:
        bench = HttpBench(address, settings, params, texts, settings.limits.waiting_texts)
        loads = _measured(bench)
        accuracy = _accuracy(bench, settings, texts)
        bench.close()
        with serving([python, "-m", "bench.deploy.control"], Path(), params) as control:
            bench = HttpBench(control, settings, params, texts, MOST_OF_CONTROL)
            loads = [_beside_control(load, bench) for load in loads]
            bench.close()
    budget_ms = params.serving.p99_ms[settings.device]
    report = ServedHttp(
        variant=settings.row, digest=settings.digest, budget_ms=budget_ms, loads=loads, accuracy=accuracy
    )
    write_json(SERVED_HTTP / f"{settings.row}.json", report.as_dict())
    lines = list(said(report, settings))
    readme = (folder / "README.md").read_text(encoding="utf-8").partition(HEADING)[0]
    write_text(folder / "README.md", readme + HEADING + "".join(f"- {line}\n" for line in lines))
    log("\n".join(lines))


def _measured(bench: HttpBench) -> list[HttpLoad]:
    figures, params = bench.settings.figures, bench.params
    per_s = figures.text_per_s or figures.tokens_per_s or 1000 / next(iter(figures.mean_ms.values()))
    plan = LoadPlan(
        expected_per_s={str(each): per_s / each for each in TEXTS_A_REQUEST},
        budget_ms=bench.budget_ms,
        seconds=60 * params.serving.minutes,
        margin=params.report.margin,
        target=params.timing.target_interval,
        seed=params.serving.seed,
    )
    with ended_by_ctrl_c() as interrupt:
        passes = LoadPasses(plan, bench, is_cut=interrupt.is_cut, on_pass=lambda number, _left: log(f"  pass {number}"))
        passes.run()
    return [
        HttpLoad(
            texts=int(name),
            requests_per_s=sustained_per_s(row.trials, bench.budget_ms),
            single_stream_p50_ms=row.ends["single_stream"]["p50_ms"] if row.ends else None,
            errors=len(bench.clients[name].errors),
            points=row.points,
        )
        for name, row in passes.rows.items()
    ]


def _beside_control(load: HttpLoad, bench: HttpBench) -> HttpLoad:
    """Return a load with what the control sustains in its place; without, where the server sustained nothing."""
    if load.requests_per_s is None:
        return load
    search, most = Search(place_of(CONTROL_FASTER * load.requests_per_s)), 0.0
    for _ in range(CONTROL_TRIALS):
        if search.is_bracketed or search.is_over:
            break
        rate = rate_at(search.place)
        keeps = bench.rate(str(load.texts), 0, rate, bench.params.serving.seed)["keeps"]
        most = max(most, rate) if keeps else most
        search.tell(keeps)
    return load.model_copy(update={"control_per_s": most or None})


def _accuracy(bench: HttpBench, settings: Settings, texts: Sequence[Text]) -> Labels | None:
    """Return how many labels are right over HTTP, of all texts; None for other tasks and without labels."""
    known = load_encoded(EVALUATION).labels
    if settings.task != "single_label" or not (known >= 0).any():
        return None
    each = max(TEXTS_A_REQUEST)
    found: list[int] = []
    for body in bodies(texts, each)[::each]:
        request = urllib.request.Request(f"{bench.address}/classify", body)
        with urllib.request.urlopen(request) as response:
            results = json.load(response)["results"]
        found += [settings.labels.index(result["label"]) for result in results]
    predicted = np.array(found[: len(texts)], dtype=np.int64)
    return compare_labels(predicted, load_reference(EVALUATION).argmax(axis=1), known)


def said(report: ServedHttp, settings: Settings) -> Iterator[str]:
    """Yield what was found, in sentences."""
    figures = settings.figures
    for name, per_s in (("tokens", figures.tokens_per_s), ("text", figures.text_per_s)):
        if per_s:
            yield f"{settings.row} in process, from {name}: {rate_text(per_s)} requests/s"
    for load in report.loads:
        what = f"over HTTP, {load.texts} text{'s' * (load.texts > 1)} a request"
        if load.requests_per_s is None:
            yield f"{what}: no rate met the budget of {report.budget_ms:g} ms"
            continue
        bound = "; client-bound: the client may be the limit" if load.is_client_bound else ""
        control = f", the control {rate_text(load.control_per_s)}" if load.control_per_s else ""
        texts = f" ({rate_text(load.texts * load.requests_per_s)} texts/s)" if load.texts > 1 else ""
        yield f"{what}: {rate_text(load.requests_per_s)} requests/s{texts}{control}{bound}"
    if report.accuracy:
        counts = report.accuracy
        yield f"right over HTTP: {counts.right} of {counts.labelled}; fp32 reference {counts.reference_right}"


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


@contextmanager
def serving(command: list[str], folder: Path, params: Params) -> Iterator[str]:
    """Run a server, and give its address once it is ready; WorkerError if it never is."""
    process = subprocess.Popen([*command, "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + params.timing.worker_limit_seconds
    try:
        assert process.stdout
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        while not found or not _is_ready(found[0]):
            if not found or process.poll() is not None or time.monotonic() > end:
                raise WorkerError(f"the server of {folder} did not start: its last words stand above")
            time.sleep(0.2)
        yield found[0]
    finally:
        process.terminate()
        process.communicate()


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/v2/health/ready"):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False
