"""A deployed folder under load: mixed load for a while, and what it sustains over HTTP beside a control."""

import asyncio
import dataclasses
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import test_deploy
from conftest import Project
from test_deploy import LIMIT_SECONDS, TEXTS, Server, replace_code, serving, set_limits

from bench.core.errors import WorkerError
from bench.core.paths import EVALUATION
from bench.core.paths import TEXTS as EVALUATION_TEXTS
from bench.deploy.settings import Settings
from bench.machine.lock import FOLDER_VARIABLE

deployed, folder = test_deploy.deployed, test_deploy.folder
pytestmark = pytest.mark.slow
SOAK_SECONDS = (10, 30)
"""Before memory is looked at, and until it is again."""
MOST_PER_S = 20.0
"""Requests of the mixed load, of 8.5 texts: a machine on which others begin to work keeps up, too."""
LEAST_PER_S = 110.0
"""Requests that are tried: a few more than six trials in `serving.minutes` need."""
LOOSE = 20
"""So many times the budget a test machine may take, which others use as well."""


class MixedLoad:
    """Clients at random times: 1 to 16 texts a request, some hang up, ask for too much, or come in crowds."""

    def __init__(self, server: Server, texts: list[str], per_s: float) -> None:
        self.server, self.texts, self.per_s = server, texts, per_s
        self.wanted = {text: server.results(text)[0] for text in texts}
        self.random = random.Random(0)
        self.seen: Counter[str] = Counter()
        self.seconds: list[float] = []

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        limits = httpx.Limits(max_connections=100)
        async with (
            httpx.AsyncClient(
                base_url=self.server.client.base_url, timeout=LIMIT_SECONDS, limits=limits
            ) as self.client,
            asyncio.timeout(seconds + LIMIT_SECONDS),
            asyncio.TaskGroup() as tasks,
        ):
            while time.monotonic() < end:
                tasks.create_task(self._one(self.random.randrange(100)))
                await asyncio.sleep(self.random.expovariate(self.per_s))

    async def _one(self, kind: int) -> None:
        if kind < 10:
            await self._hang_up(is_whole=kind < 5)
        elif kind < 12:
            await self._ask_too_much(["a"] * 17, 400)
        elif kind < 14:
            await self._ask_too_much(["a" * 2**17], 413)
        elif kind < 15:
            await asyncio.gather(*(self._ask(16) for _ in range(32)))
        else:
            await self._ask(self.random.randint(1, 16))

    async def _ask(self, count: int) -> None:
        """Ask again when told to, until there is an answer, and check it."""
        texts = self.random.choices(self.texts, k=count)
        began = time.monotonic()
        while (response := await self.client.post("/classify", json={"texts": texts})).status_code == 503:
            self.seen["refused"] += 1
            await asyncio.sleep(int(response.headers["retry-after"]))
            began = time.monotonic()
        self.seconds.append(time.monotonic() - began)
        found = response.json()["results"] if response.status_code == 200 else []
        self.seen["right" if self._are_right(texts, found) else f"wrong: {response.text[:200]}"] += 1

    def _are_right(self, texts: list[str], found: list[dict[str, Any]]) -> bool:
        wanted = [self.wanted[text] for text in texts]
        return len(found) == len(wanted) and all(
            own["label"] == its["label"] and abs(own["score"] - its["score"]) < 1e-5
            for own, its in zip(found, wanted, strict=True)
        )

    async def _ask_too_much(self, texts: list[str], status: int) -> None:
        response = await self.client.post("/classify", json={"texts": texts})
        self.seen[str(status) if response.status_code == status else f"wrong: {response.status_code}"] += 1

    async def _hang_up(self, is_whole: bool) -> None:
        body = json.dumps({"texts": self.texts[:16]}).encode()
        head = f"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(head + (body if is_whole else body[:20]))
        await writer.drain()
        writer.transport.abort()
        self.seen["hung up"] += 1


def test_mixed_load_gets_right_answers_alone_and_leaves_nothing_behind(deployed: Project, folder: Path) -> None:
    """The hour of docs/deploy.md, in the test suite a minute."""
    set_limits(folder, texts=16, waiting_texts=64, bytes=2**16)
    settings = Settings.read(folder)
    figures, texts = settings.figures, [*TEXTS, *json.loads(deployed.read(EVALUATION_TEXTS.as_posix()))["texts"][:50]]
    assert figures.text_per_s
    assert figures.budget_ms
    with serving(folder) as running:
        load = MixedLoad(running, texts, per_s=min(MOST_PER_S, figures.text_per_s / 2 / 8.5))
        process, used = psutil.Process(running.process.pid), []
        for seconds in SOAK_SECONDS:
            asyncio.run(load.run(seconds))
            used.append((process.memory_info().rss, process.num_threads()))
        while running.metric("classifier_waiting_texts"):
            time.sleep(0.05)
        assert running.classify("fine").status_code == 200
    assert set(load.seen) == {"right", "refused", "400", "413", "hung up"}
    (memory, threads), (memory_later, threads_later) = used
    assert memory_later < 1.1 * memory
    assert threads_later == threads
    assert sorted(load.seconds)[len(load.seconds) * 99 // 100] < LOOSE * figures.budget_ms / 1000


def test_a_client_that_lost_a_process_or_the_server_ends_its_load_and_says_so() -> None:
    pytest.importorskip("mlperf_loadgen", reason="no load generator for this Python")
    from bench.deploy.client import BROKEN, Client
    from bench.serving.load import Load, send

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", [b"{}"], LIMIT_SECONDS)

    def queries() -> int:
        ended = threading.Event()
        return int(send(Load("SingleStream", 3, 0), 1, client.issue, ended.set, ended.wait)["queries"])

    count = queries()
    assert client.failed == {BROKEN: count}
    assert "Cannot connect" in client.last_error
    client.check()
    for process in psutil.Process().children():
        if "multiprocessing.spawn" in " ".join(process.cmdline()):
            process.kill()
    assert queries() == client.failed[BROKEN] - count
    with pytest.raises(WorkerError, match="a process of the client ended"):
        client.check()
    client.close()


def at_each_request(code: str) -> tuple[str, str, str]:
    """Return a change of the deployed server: what is replaced, by what, and where."""
    line = "        request: Any = self._classify.model_validate_json(body)\n"
    return line, f"        self.calls = getattr(self, 'calls', 0) + 1\n        {code}\n{line}", "bench/deploy/app.py"


def set_up_measuring(deployed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in a project, with the packages that are here."""
    from bench.deploy import measure

    monkeypatch.chdir(deployed.folder)
    monkeypatch.setenv(FOLDER_VARIABLE, deployed.environment[FOLDER_VARIABLE])
    monkeypatch.setattr(measure, "environment", lambda _folder: Path(sys.executable))
    expected = measure._expected_per_s  # too little to be tried, where the row was timed beside others
    monkeypatch.setattr(measure, "_expected_per_s", lambda *given: max(LEAST_PER_S, expected(*given)))


@pytest.mark.parametrize(
    "fault", ["self.calls > 90 and __import__('os')._exit(3)", "self.calls > 90 and __import__('time').sleep(10**6)"]
)
def test_a_server_that_dies_or_hangs_ends_the_measurement_with_one_error(
    deployed: Project, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    pytest.importorskip("mlperf_loadgen", reason="no load generator for this Python")
    from bench.deploy import measure

    replace_code(folder, *at_each_request(fault))
    set_limits(folder, seconds=2.0)
    set_up_measuring(deployed, monkeypatch)
    with pytest.raises(WorkerError, match=r"the server answers no more \(.+\); its last words, in artifacts/deployed"):
        measure.measure(folder)


def test_what_a_folder_sustains_over_http_is_measured_beside_a_control(
    deployed: Project, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlperf_loadgen", reason="no load generator for this Python")
    from bench.deploy import measure
    from bench.inputs.encoded import load_encoded, load_reference
    from bench.summary.over_http import SERVED_HTTP, read_over_http

    replace_code(folder, *at_each_request("print('a line' * 99, flush=True)"))
    set_up_measuring(deployed, monkeypatch)
    labels = load_reference(EVALUATION).argmax(axis=1)
    labelled = dataclasses.replace(load_encoded(EVALUATION), labels=labels)
    monkeypatch.setattr(measure, "load_encoded", lambda _path: labelled)
    measure.measure(folder)
    said = capfd.readouterr().out
    found = read_over_http(["ort_cpu_fp32"])["ort_cpu_fp32"]
    assert [load.texts for load in found.loads] == [1, 16]
    for load in found.loads:
        assert load.errors == 0
        assert load.requests_per_s or load.reason.startswith("no rate from "), load.reason
        assert load.control_per_s or not load.requests_per_s
        assert load.points
        assert max(point.mean_batch for point in load.points) <= 2
        assert f"Over HTTP, {load.texts} text" in said
    assert found.accuracy
    assert found.accuracy.right == found.accuracy.reference_right == len(labels)
    assert "## Measured over HTTP" in (folder / "README.md").read_text(encoding="utf-8")
    for report in ("results/summary_table.md", "notes/engineering_observations.md", "results/report.html"):
        assert "Over HTTP, 16 texts a request" in deployed.read(report)
    status = deployed.dvc("status", "--json")
    assert set(json.loads(status.stdout)) == {"probe"}
    path = SERVED_HTTP / "ort_cpu_fp32.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "digest": "another"}), encoding="utf-8")
    assert read_over_http(["ort_cpu_fp32"]) == {}
