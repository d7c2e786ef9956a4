"""Requests for answers straight from uvicorn's HTTP/1.1 protocol: ASGI's tasks, events and messages took half of the
event loop's time.
"""

from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bench.deploy.exchange import CLOSE, Address, Exchange, Headers


class Direct(HttpToolsProtocol):  # type: ignore[misc]  # Any to mypy
    """Uvicorn's protocol, where plain requests for answers pass ASGI by."""

    cycle: Any

    def __init__(self, addresses: Mapping[bytes, Address], **given: Any) -> None:
        super().__init__(**given)
        self._addresses = addresses

    def on_headers_complete(self) -> None:
        address = self._addresses.get(self.url)
        if address and self._is_plain():
            self.cycle = DirectExchange(address, self)
        else:
            super().on_headers_complete()

    def _is_plain(self) -> bool:
        """Tell whether nothing else is under way, and nothing asked for that uvicorn does for ASGI alone."""
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not (self.expect_100_continue or self.parser.should_upgrade() or self.flow.write_paused)
            and (self.cycle is None or self.cycle.response_complete)
        )

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, DirectExchange):
            self.cycle.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if isinstance(self.cycle, DirectExchange):
            self.cycle.ask()
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(self.cycle, DirectExchange):
            self.cycle.disconnect()
            self.cycle = None
        super().connection_lost(exc)


class DirectExchange(Exchange):
    """A request of a connection, in the place of uvicorn's `RequestResponseCycle`."""

    def __init__(self, address: Address, protocol: Direct) -> None:
        self._protocol, self.keep_alive = protocol, protocol.parser.should_keep_alive()
        super().__init__(address, int(dict(protocol.headers).get(b"content-length", 0)))

    @property
    def response_complete(self) -> bool:
        """What uvicorn asks for."""
        return self.is_over

    def reply(self, status: int, headers: Headers, content: bytes) -> None:
        transport, default = self._protocol.transport, self._protocol.server_state.default_headers
        if transport.is_closing():
            return
        if not self.keep_alive and CLOSE not in headers:
            headers.append(CLOSE)
        lines = b"".join([b"%b: %b\r\n" % each for each in (*default, *headers)])
        transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], lines, content))
        if CLOSE in headers:
            transport.close()
        self._protocol.on_response_complete()
