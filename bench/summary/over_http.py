"""What a deployed row sustained over HTTP (artifacts/served_http/KEY.json), as `deploy --measure` keeps it.

No stage lists it: the reports show it where it is of the row as it was measured last.
"""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from bench.core.files import file_sha256, read_model
from bench.core.paths import ARTIFACTS, SERVED
from bench.core.reports import Labels, RatePoint, Stored
from bench.core.schemas import Amount, Count, Latency

SERVED_HTTP = ARTIFACTS / "served_http"
CLIENT_BOUND = 0.8
"""Of what the control sustains: above it the client may be what limits the server."""


class Used(Stored):
    """What a trial took: of the time in which sessions ran, a share; of the CPU, cores."""

    busy_share: Amount
    mean_batch: Amount
    server_cores: Amount
    client_cores: Amount


class HttpLoad(Stored):
    """Requests with so many texts each: what server and control sustain, and what the server's trials were.

    `reason`: why it sustains none.  `used`: in the trial closest to what it sustains.  `errors`: requests that got
    another answer than they should, or none; a full queue's are none.
    """

    texts: Annotated[int, Field(ge=1)]
    requests_per_s: Latency | None = None
    reason: str = ""
    control_per_s: Latency | None = None
    single_stream_p50_ms: Latency | None = None
    used: Used | None = None
    errors: Count = 0
    points: list[RatePoint]

    @property
    def is_client_bound(self) -> bool:
        """Tell whether the client may be the limit."""
        rate, control = self.requests_per_s, self.control_per_s
        return rate is not None and control is not None and rate / control > CLIENT_BOUND


class ServedHttp(Stored):
    """artifacts/served_http/KEY.json; `digest`: the SHA-256 of the row's report that the folder was made of.

    `tokens_per_s`, `text_per_s`: what the row sustained in the measuring process.
    """

    variant: str
    digest: str
    budget_ms: Latency
    tokens_per_s: Latency | None = None
    text_per_s: Latency | None = None
    client_processes: Annotated[int, Field(ge=1)] = 1
    loads: list[HttpLoad]
    accuracy: Labels | None = None


def read_over_http(keys: Iterable[str]) -> dict[str, ServedHttp]:
    """Return what rows did over HTTP, but for those that were not measured so, or served anew since then."""
    mend = "`python run.py deploy FOLDER --measure` measures it again"
    found = {key: read_model(path, mend, ServedHttp) for key in keys if (path := SERVED_HTTP / f"{key}.json").is_file()}
    return {key: each for key, each in found.items() if each.digest == file_sha256(SERVED / f"{key}.json")}
