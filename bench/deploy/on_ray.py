"""Serve the row of this folder on a Ray cluster:  serve run on_ray:app [least=1 most=4]

A replica is the folder's server without a port of its own: Ray takes requests, and starts anew what fails.
"""

import asyncio
import json
from typing import Any

from pydantic import BaseModel
from ray import serve
from server import FOLDER, set_variables  # type: ignore[import-not-found]  # both lie in the folder


class Replicas(BaseModel):
    """How many there are: `least` always, up to `most` as requests come in."""

    least: int = 1
    most: int = 1


@serve.deployment
@serve.ingress()
class Replica:
    """The row in a process of its own, ready once every shape has run."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Ray waits for it
        set_variables()
        from bench.deploy.app import checked
        from bench.deploy.service import Service

        self.service = Service(FOLDER, checked(FOLDER), lambda: None)
        self.service.start()
        while self.service.state == "loading":
            await asyncio.sleep(0.1)
        self.check_health()

    def __serve_build_asgi_app__(self) -> Any:
        from starlette.routing import Router

        from bench.deploy.app import Api

        return Router(Api(self.service).routes())

    def check_health(self) -> None:
        if self.service.failure:
            raise self.service.failure


def app(replicas: Replicas) -> Any:
    """Return what `serve run` starts: of a CPU row a replica has the threads that it was measured with."""
    settings = json.loads((FOLDER / "settings.json").read_text(encoding="utf-8"))
    sessions, has_gpu = settings["instances"], settings["device"] == "cuda"
    replica = {"num_cpus": 1 if has_gpu else settings["cpu_threads"] * sessions, "num_gpus": int(has_gpu)}
    scale = {"min_replicas": replicas.least, "max_replicas": max(replicas.least, replicas.most)}
    scale["target_ongoing_requests"] = settings["max_batch"] * settings["in_flight"] * sessions
    return Replica.options(  # type: ignore[attr-defined]  # a class to mypy, whatever decorates it
        autoscaling_config=scale,
        health_check_period_s=1,
        max_ongoing_requests=settings["limits"]["waiting_texts"],
        ray_actor_options=replica,
    ).bind()
