"""The server that computes nothing, the control of a measurement over HTTP:  python -m bench.deploy.control --port PORT

It reads a request through uvicorn and Starlette, and answers at once: what it sustains, client and HTTP do.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.core.progress import log


async def classify(request: Request) -> Response:
    """Read all of it."""
    await request.body()
    return Response(b'{"results":[]}', media_type="application/json")


async def ready(_request: Request) -> Response:
    """Tell that it answers."""
    return Response(b"{}", media_type="application/json")


def main() -> None:
    app = Starlette(routes=[Route("/classify", classify, methods=["POST"]), Route("/v2/health/ready", ready)])
    config = uvicorn.Config(app, port=int(sys.argv[-1]), log_level="warning", access_log=False)
    listening = config.bind_socket()
    log(f"control on http://127.0.0.1:{listening.getsockname()[1]}: loading")
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main()
