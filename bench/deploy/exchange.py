"""A request for an answer, however it came: within the limits, and with what was wrong with it otherwise.

Callbacks instead of tasks, and one timer for the time limit of all requests: the event loop's thread is the server's
limit on a GPU.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from functools import cache, partial

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from bench.deploy.service import Asked, Refused, Service
from bench.inputs.texts import Text

LOOKS = 20
"""So often within the time limit of a request is looked for what exceeded it."""
IS_JSON = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")
Headers = list[tuple[bytes, bytes]]
Content = Callable[[Asked], bytes]
"""Makes the content of an answer."""
Work = Callable[[bytearray], tuple[Sequence[Text], Content]]
"""Makes texts of a request's body, and says what makes the answer."""


class Address:
    """An address where requests are answered, and those that are open."""

    def __init__(self, service: Service, work: Work) -> None:
        self.service, self.limits, self.work = service, service.settings.limits, work
        self._count = cache(service.measures.requests.labels)
        self._open: dict[Exchange, None] = {}
        self._is_watched = False

    def opened(self, exchange: "Exchange") -> None:
        self._open[exchange] = None
        if not self._is_watched:
            self._end_late()

    def closed(self, exchange: "Exchange", status: int) -> None:
        del self._open[exchange]
        self._count(status).inc()
        if status == 200:
            self.service.measures.seconds.observe(time.perf_counter() - exchange.began)

    def _end_late(self) -> None:
        """End what takes longer than the time limit, now and again while anything is open."""
        last, self._is_watched = time.perf_counter() - self.limits.seconds, bool(self._open)
        for exchange in list(itertools.takewhile(lambda exchange: exchange.began < last, self._open)):
            exchange.refuse(Refused(504, f"no answer within {self.limits.seconds:g} s"))
        if self._is_watched:
            asyncio.get_running_loop().call_later(self.limits.seconds / LOOKS, self._end_late)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that comes by ASGI."""
        exchange = AsgiExchange(self, int(dict(scope["headers"]).get(b"content-length", 0)))
        reading = asyncio.ensure_future(exchange.read(receive))
        status, headers, content = await exchange.answered
        reading.cancel()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class Exchange:
    """A request, from its headers to its answer, which `reply` is called with once."""

    def __init__(self, address: Address, length: int) -> None:
        """`length`: of the body, as far as headers say it."""
        self._address, self._body = address, bytearray()
        self.began, self.is_asked, self.is_over = time.perf_counter(), False, False
        address.opened(self)
        self._check(length)

    def reply(self, status: int, headers: Headers, content: bytes) -> None:
        """Send the answer."""
        raise NotImplementedError

    def take(self, part: bytes) -> None:
        """Take a part of the body."""
        if not self.is_over:
            self._body += part
            self._check(len(self._body))

    def _check(self, length: int) -> None:
        most = self._address.limits.bytes
        if length > most:
            self.refuse(Refused(413, f"the request has more than {most} bytes"))

    def ask(self) -> None:
        """Ask for the answer, now that the body is whole."""
        if self.is_over:
            return
        self.is_asked = True
        try:
            texts, content = self._address.work(self._body)
            self._address.service.ask(texts, partial(self._answer, content))
        except Refused as problem:
            self.refuse(problem)
        except ValidationError as problem:
            self.refuse(Refused(400, described(problem)))

    def _answer(self, content: Content, asked: Asked) -> None:
        """Reply with what was asked for; whatever this raises is this request's alone."""
        try:
            if asked.problem:
                self.refuse(asked.problem)
            else:
                self._end(200, content(asked))
        except Exception:
            logging.getLogger("uvicorn.error").exception("no answer could be made")
            self.refuse(Refused(500, "no answer could be made"))

    def disconnect(self) -> None:
        """The client is gone: nobody reads an answer."""
        if not self.is_asked:
            self._end(499, b"")

    def refuse(self, problem: Refused) -> None:
        """Reply with what was wrong."""
        again = [] if problem.seconds is None else [(b"retry-after", b"%d" % problem.seconds)]
        self._end(problem.status, to_json({"error": str(problem)}), again)

    def _end(self, status: int, content: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        if self.is_over:
            return
        self.is_over, self._body = True, bytearray()  # a connection that stays open keeps no body
        self._address.closed(self, status)
        closing = [CLOSE] if self._address.service.state == "draining" else []
        self.reply(status, [*headers, *closing, IS_JSON, (b"content-length", b"%d" % len(content))], content)


class AsgiExchange(Exchange):
    """A request that comes by ASGI."""

    def __init__(self, address: Address, length: int) -> None:
        self.answered: asyncio.Future[tuple[int, Headers, bytes]] = asyncio.get_running_loop().create_future()
        super().__init__(address, length)

    def reply(self, status: int, headers: Headers, content: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result((status, headers, content))

    async def read(self, receive: Receive) -> None:
        """Read the body and ask, unless it was answered before."""
        has_more = True
        while has_more and not self.is_over:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnect()
                return
            self.take(message.get("body", b""))
            has_more = message.get("more_body", False)
        self.ask()


def described(problem: ValidationError) -> str:
    """Return what is wrong with a request, where, without what it holds."""
    fault = problem.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])
