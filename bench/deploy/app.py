"""The HTTP server of a folder: POST /classify, the Open Inference Protocol, and /metrics.

Starlette and pydantic, which FastAPI is made of: two addresses need no more.
"""

import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from bench.core.errors import BenchError, DataError, WorkerError
from bench.core.progress import log
from bench.deploy.exchange import Address, Content
from bench.deploy.fits import check_machine
from bench.deploy.service import Asked, Refused, Service
from bench.deploy.settings import Settings
from bench.inputs.texts import Text

VERSION = "1"
DRAIN_SECONDS = 1.0
"""After SIGTERM: clients that keep connections open are told to close them with the next answer."""
KEEP_ALIVE_SECONDS = 75
ABOVE = 0.5
"""The probability from which on one of several labels is given."""
JSON = "application/json"


class Part(BaseModel):
    """A part of a request's JSON."""

    model_config = ConfigDict(strict=True)


class InferInput(Part):
    """A tensor of the Open Inference Protocol, texts alone."""

    name: Literal["text"]
    shape: list[int]
    datatype: Literal["BYTES"]
    data: list[Any]


class InferOutput(Part):
    """An output that is asked for."""

    name: Literal["label", "scores"]


class Infer(Part):
    """A request of the Open Inference Protocol."""

    id: str | None = None
    inputs: Annotated[list[InferInput], Field(min_length=1, max_length=1)]
    outputs: list[InferOutput] = [InferOutput(name="label"), InferOutput(name="scores")]


class Api:
    """What each address answers."""

    def __init__(self, service: Service) -> None:
        self.service, self.settings = service, service.settings
        self.model = f"/v2/models/{self.settings.row}"
        limits = self.settings.limits
        text: Any = Annotated[str, Field(max_length=limits.characters)]
        text = tuple[text, text] if self.settings.takes_pairs else text
        texts = Annotated[list[text], Field(min_length=1, max_length=limits.texts)]
        self._classify = create_model(
            "Classify", __config__=ConfigDict(strict=True, extra="forbid"), texts=(texts, ...)
        )
        self._texts: TypeAdapter[Any] = TypeAdapter(texts)
        self._infer = TypeAdapter(Infer)

    def routes(self) -> list[Route]:
        """Return all addresses."""
        metadata = {"name": self.settings.row, "versions": [VERSION], "platform": self.settings.runtime}
        tensors = {"inputs": self._inputs(), "outputs": self._outputs()}
        return [
            Route("/classify", Address(self.service, self.classify), methods=["POST"]),
            Route(f"{self.model}/infer", Address(self.service, self.infer), methods=["POST"]),
            Route("/v2", _fixed({"name": "bench.deploy", "version": VERSION, "extensions": []})),
            Route("/v2/health/live", _fixed({"live": True})),
            Route("/v2/health/ready", self.ready),
            Route(self.model, _fixed(metadata | tensors)),
            Route(f"{self.model}/ready", self.ready),
            Route("/v2/models/{name:path}", _no_such_model, methods=["GET", "POST"]),
            Route("/metrics", self.metrics),
        ]

    def _inputs(self) -> list[dict[str, Any]]:
        return [{"name": "text", "datatype": "BYTES", "shape": [-1, 2] if self.settings.takes_pairs else [-1]}]

    def _outputs(self) -> list[dict[str, Any]]:
        scores = {"name": "scores", "datatype": "FP32", "shape": [-1, len(self.settings.labels)]}
        return [scores] if self._has_no_label() else [{"name": "label", "datatype": "BYTES", "shape": [-1]}, scores]

    def _has_no_label(self) -> bool:
        return self.settings.task != "single_label"

    async def ready(self, _request: Request) -> Response:
        """Tell whether every shape has run and requests are answered."""
        is_ready = self.service.is_ready()
        return _json({"ready": is_ready, "state": self.service.state}, 200 if is_ready else 503)

    async def metrics(self, _request: Request) -> Response:
        """Return what Prometheus reads."""
        return Response(generate_latest(self.service.measures.registry), media_type=CONTENT_TYPE_LATEST)

    def classify(self, body: bytearray) -> tuple[Sequence[Text], Content]:
        """Return the texts of `{"texts": [...]}`, and what makes labels and scores of them."""
        request: Any = self._classify.model_validate_json(body)
        return request.texts, self._classified

    def _classified(self, asked: Asked) -> bytes:
        found = list(map(self._named, asked.scores))
        for place in asked.cut:
            found[place]["cut"] = True
        return to_json({"results": found, **self._warning()})

    def _named(self, scores: list[float]) -> dict[str, Any]:
        """Return a text's scores by label, and the label or labels that it is given."""
        named = dict(zip(self.settings.labels, scores, strict=True))
        if self.settings.task == "regression":
            return {"values": named}
        if self.settings.task == "multi_label":
            return {"labels": [label for label, score in named.items() if score > ABOVE], "scores": named}
        best = max(scores)
        return {"label": self.settings.labels[scores.index(best)], "score": best, "scores": named}

    def _warning(self) -> dict[str, str]:
        return {"warning": self.settings.warning} if self.settings.warning else {}

    def infer(self, body: bytearray) -> tuple[Sequence[Text], Content]:
        """Return the texts of a request of the Open Inference Protocol, and what makes its answer of them."""
        request = self._infer.validate_json(body)
        return self._texts_of(request.inputs[0]), partial(self._inferred, request)

    def _inferred(self, request: Infer, asked: Asked) -> bytes:
        wanted = [each.name for each in request.outputs]
        outputs = [self._output(tensor, asked) for tensor in self._outputs() if tensor["name"] in wanted]
        name = {"model_name": self.settings.row, "model_version": VERSION}
        own = {"id": request.id} if request.id is not None else {}
        cut = {"cut": " ".join(map(str, sorted(asked.cut)))} if asked.cut else {}
        return to_json({**name, **own, "parameters": cut | self._warning(), "outputs": outputs})

    def _texts_of(self, given: InferInput) -> Sequence[Text]:
        each = 2 if self.settings.takes_pairs else 1
        if math.prod(given.shape) != len(given.data) or len(given.data) % each:
            raise Refused(400, f"inputs.0: {len(given.data)} texts, shape {given.shape}")
        pairs = [tuple(given.data[place : place + 2]) for place in range(0, len(given.data), 2)] if each == 2 else None
        found: Sequence[Text] = self._texts.validate_python(pairs or given.data, strict=True)
        return found

    def _output(self, tensor: dict[str, Any], asked: Asked) -> dict[str, Any]:
        if tensor["name"] == "label":
            data: list[Any] = [self._named(own)["label"] for own in asked.scores]
        else:
            data = [score for own in asked.scores for score in own]
        return {**tensor, "shape": [len(asked.scores), *tensor["shape"][1:]], "data": data}


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(to_json(content), status, media_type=JSON)


def _fixed(content: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        return _json(content)

    return endpoint


async def _no_such_model(request: Request) -> Response:
    return _json({"error": f"no model {request.path_params['name']!r}"}, 404)


def make_app(service: Service) -> Router:
    """Return the ASGI application, which starts the service and ends it."""

    @asynccontextmanager
    async def lifespan(_app: Router) -> AsyncIterator[None]:
        service.start()
        yield
        service.end()

    return Router(Api(service).routes(), lifespan=lifespan)


def protocol(app: Router) -> Any:
    """Return what uvicorn speaks HTTP with: on Windows, without httptools, h11 and ASGI alone."""
    try:
        from bench.deploy.direct import Direct
    except ImportError:
        return "auto"
    return partial(Direct, {route.path.encode(): route.app for route in app.routes if isinstance(route.app, Address)})


class Server(uvicorn.Server):  # type: ignore[misc]  # Any to mypy
    """Uvicorn, which after the first SIGTERM answers on while clients close their connections, and then ends."""

    service: Service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain first; the second signal ends it at once."""
        if not self.service.is_ready():
            super().handle_exit(sig, frame)
            return
        self.service.state = "draining"
        self.service.later(DRAIN_SECONDS, self.stop)

    def stop(self) -> None:
        """Close what listens, answer what was accepted, end."""
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens to no other's port; DataError if it is taken, or no address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as problem:
        raise DataError(
            f"{host}:{port} cannot be listened on ({problem}): take another with --host or --port"
        ) from None


def checked(folder: Path) -> Settings:
    """Return a folder's settings; DataError where files changed or the machine is not one for it."""
    settings = Settings.read(folder)
    settings.check_files(folder)
    check_machine(settings)
    return settings


def run(folder: Path, host: str, port: int) -> None:
    """Serve the folder until SIGTERM or Ctrl-C; WorkerError if the session ended by itself."""
    settings = checked(folder)
    listening = bind(host, port)
    log(f"{settings.row} on http://{host}:{listening.getsockname()[1]}: loading")
    service = Service(folder, settings, lambda: server.stop())  # noqa: PLW0108  (made below)
    drain_seconds, app = math.ceil(settings.limits.seconds), make_app(service)
    server = Server(
        uvicorn.Config(
            app,
            http=protocol(app),
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=drain_seconds,
        )
    )
    server.service = service
    server.run([listening])
    if isinstance(service.failure, BenchError):
        raise service.failure
    if service.failure:
        raise WorkerError(f"the session ended: {service.failure!r}") from service.failure
