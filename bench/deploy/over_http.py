"""What a deployed row sustained over HTTP (artifacts/served_http/KEY.json), as `deploy --measure` keeps it."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from bench.core.files import read_model
from bench.core.paths import ARTIFACTS
from bench.core.reports import Labels, RatePoint, Stored
from bench.core.schemas import Count, Latency

SERVED_HTTP = ARTIFACTS / "served_http"
CLIENT_BOUND = 0.8
"""Of what the control sustains: above it the client may be what limits the server."""


class HttpLoad(Stored):
    """Requests with so many texts each: what server and control sustain, the trials, and requests without an answer."""

    texts: Annotated[int, Field(ge=1)]
    requests_per_s: Latency | None
    control_per_s: Latency | None = None
    single_stream_p50_ms: Latency | None = None
    errors: Count = 0
    points: list[RatePoint]

    @property
    def is_client_bound(self) -> bool:
        """Tell whether the client may be the limit."""
        rate, control = self.requests_per_s, self.control_per_s
        return rate is not None and control is not None and rate / control > CLIENT_BOUND


class ServedHttp(Stored):
    """artifacts/served_http/KEY.json; `digest`: of the row's report that the folder was made of."""

    variant: str
    digest: str
    budget_ms: Latency
    loads: list[HttpLoad]
    accuracy: Labels | None = None


def read_served_http(key: str, digest: str, folder: Path = SERVED_HTTP) -> ServedHttp | None:
    """Return what a row did over HTTP; None where it was not measured so, or since then anew."""
    path = folder / f"{key}.json"
    if not path.is_file():
        return None
    found = read_model(path, "`python run.py deploy FOLDER --measure` measures it again", ServedHttp)
    return found if found.digest == digest else None
