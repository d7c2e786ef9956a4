"""The HTTP client of a measurement: processes that send the requests of LoadGen in turns, over connections kept open.

Processes, since Python runs one thread at a time: the load generator's has its own.
"""

import asyncio
import multiprocessing
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from bench.core.errors import WorkerError
from bench.machine.cores import physical_cores
from bench.serving.load import answer

CORES_A_PROCESS = 4
"""So many cores of the machine give the client a process."""
CONNECTIONS = 512
"""Of all processes: one server process has no more requests open within a budget, and systems limit open files."""
BROKEN = 0
"""The status of a request whose connection broke off."""
ENDED = "a process of the client ended"
OVERLOADED = (503, 504)
"""What a server answers on purpose to more than it can do."""


class Request(NamedTuple):
    """A request of LoadGen, and the number of its body."""

    id: int
    body: int


class Answered(NamedTuple):
    """What came of a request: the HTTP status, and what an error said."""

    request: Request
    status: int
    error: str = ""


class Client:
    """Processes that send requests to one address."""

    def __init__(self, address: str, bodies: Sequence[bytes], silence_seconds: float) -> None:
        """`silence_seconds`: after so long without a word of the server a request is given up."""
        self.failed: Counter[int] = Counter()
        self.last_error = ""
        count = max(1, physical_cores() // CORES_A_PROCESS)
        given = (f"{address}/classify", bodies, CONNECTIONS // count, silence_seconds)
        self._all = [_Process(self._take, given) for _ in range(count)]
        self.pids = [process.pid for process in self._all]
        self._turns = cycle(self._all)

    def issue(self, requests: Sequence[Any]) -> None:
        """Send requests, each with an `id` and the `index` of its body."""
        count = len(self._all)
        for first in range(min(count, len(requests))):
            next(self._turns).send([Request(request.id, request.index) for request in requests[first::count]])

    def _take(self, answered: Sequence[Answered]) -> None:
        for each in answered:
            if each.status != 200:
                self.failed[each.status] += 1
                self.last_error = each.error
        answer([each.request for each in answered])

    def check(self) -> None:
        """Raise WorkerError if one of the processes ended by itself."""
        if not all(process.is_running() for process in self._all):
            raise WorkerError(f"{ENDED}: measure again")

    def close(self) -> None:
        """End the processes."""
        for process in self._all:
            process.close()


class _Process:
    """A process of a client, and the thread that takes its answers."""

    def __init__(self, take: Callable[[Sequence[Answered]], None], given: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_send_all, args=(other, *given), daemon=True)
        self._process.start()
        self.pid = int(self._process.pid or 0)
        other.close()
        self._take_answers, self._open = take, dict[int, Request]()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def send(self, requests: list[Request]) -> None:
        self._open.update((request.id, request) for request in requests)
        try:
            self._pipe.send(requests)
        except OSError:
            self._give_up()

    def _take(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                answered: list[Answered] = self._pipe.recv()
                for each in answered:
                    del self._open[each.request.id]
                self._take_answers(answered)
        self._give_up()

    def _give_up(self) -> None:
        """Answer what a process left that ended by itself, so that the load ends."""
        with suppress(KeyError):
            while True:
                self._take_answers([Answered(self._open.popitem()[1], BROKEN, ENDED)])

    def is_running(self) -> bool:
        return bool(self._process.is_alive())

    def close(self) -> None:
        with suppress(OSError):
            self._pipe.send([])
        self._process.join()
        self._thread.join()
        self._pipe.close()


def _send_all(pipe: Connection, address: str, bodies: Sequence[bytes], connections: int, silence: float) -> None:
    """Send what comes through a pipe until nothing does: the process's own work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the passes
    asyncio.run(_Sender(pipe, address, bodies).run(connections, silence))


class _Sender:
    """What a process of a client does."""

    def __init__(self, pipe: Connection, address: str, bodies: Sequence[bytes]) -> None:
        self._pipe, self._address, self._bodies = pipe, address, bodies
        self._tasks: set[asyncio.Task[None]] = set()
        self._answered: list[Answered] = []

    async def run(self, connections: int, silence: float) -> None:
        import aiohttp

        self._loop, ended = asyncio.get_running_loop(), asyncio.Event()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
        connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            threading.Thread(target=self._read, args=(ended,), daemon=True).start()
            await ended.wait()

    def _read(self, ended: asyncio.Event) -> None:
        with suppress(EOFError, OSError):
            while requests := self._pipe.recv():
                self._loop.call_soon_threadsafe(self._start, requests)
        self._loop.call_soon_threadsafe(ended.set)

    def _start(self, requests: Sequence[Request]) -> None:
        for request in requests:
            task = self._loop.create_task(self._send(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, request: Request) -> None:
        try:
            async with self._session.post(self._address, data=self._bodies[request.body]) as response:
                content = await response.read()
                error = "" if response.status == 200 else content.decode(errors="replace")
                answered = Answered(request, response.status, error)
        except Exception as problem:  # whatever ends a connection
            answered = Answered(request, BROKEN, f"{type(problem).__name__}: {problem}")
        if not self._answered:
            self._loop.call_soon(self._tell)
        self._answered.append(answered)

    def _tell(self) -> None:
        answered, self._answered = self._answered, []
        self._pipe.send(answered)
