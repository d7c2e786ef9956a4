"""Fetch the model and the sentences from the model hub, at a pinned revision.

Only data formats are fetched: safetensors, JSON, tokenizer files and parquet; no pickled weights and no code.  The
hub's address, cache, token and offline switch come from HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE, as usual.
"""

import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.errors import DownloadError, HubUnreachable
from bench.core.files import first_line, shortened
from bench.sources.model_files import take_model

COMMIT_DIGITS = 40
TEMPORARY = (408, 425)
"""HTTP statuses of a hub that does not answer, beside all from 500 on."""
ANSWERS: dict[str | int, str] = {
    "RevisionNotFoundError": "it has no such revision: check `revision`",
    "GatedRepoError": "gated: accept its terms on its page, and set HF_TOKEN to a token of that account",
    "RepositoryNotFoundError": "no such repository, or a private one: check the id, or set HF_TOKEN for it",
    401: "set HF_TOKEN to a token that is valid, or take it away: a public repository needs none",
    403: "set HF_TOKEN to a token that may read this repository, and accept its terms on its page",
    404: "it is missing on the hub",
    429: "too many requests: wait some minutes, or set HF_TOKEN, with which more are allowed",
    451: "it is not given out where you are, for legal reasons: name another, or a copy at `path`",
}
"""What to do about a refusal, by the client's error or else by the status."""
TRUST = "set SSL_CERT_FILE to a file of the certificates to trust, that of your company's proxy among them"
CLOCK, HOST = "correct this machine's clock", "check HF_ENDPOINT"
CERTIFICATES = {9: CLOCK, 10: CLOCK, 62: HOST, 64: HOST}
"""What to do by OpenSSL's code, where it is not `TRUST`: not valid yet, not any more, of another host."""
NO_HUB = "what answers is no hub: check HF_ENDPOINT, and whether a proxy or a login page is in between"


@dataclass(frozen=True)
class HubSource:
    """A repository of the hub at one revision."""

    repo_id: str
    revision: str
    repo_type: str
    timeout_seconds: float

    @property
    def version(self) -> dict[str, str]:
        """Kind and revision, as the hub client's functions take them."""
        return {"revision": self.revision, "repo_type": self.repo_type}

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision[:7] if len(self.revision) == COMMIT_DIGITS else self.revision}"


def download_model(source: HubSource, folder: Path) -> HubSource:
    """Fetch config, tokenizer and safetensors into `folder`, the config first; return the source at its commit.

    Raises HubUnreachable if the hub does not answer, DownloadError for what it answers, ModelError for an unfit model.
    """
    source, names = list_files(source)
    take_model(names, folder, str(source), lambda name: fetch_file(source, name, folder))
    return source


def list_files(source: HubSource) -> tuple[HubSource, set[str]]:
    """Return the source at the commit that its revision stands for now, and the names of its files."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        with _hub_errors(source, "its files in the cache (HF_HUB_OFFLINE is set)"):
            folder = Path(snapshot_download(source.repo_id, **source.version, local_files_only=True))
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        return replace(source, revision=folder.name), names
    with _hub_errors(source, "its list of files"):
        info: Any = HfApi().repo_info(source.repo_id, **source.version, timeout=source.timeout_seconds)
    return replace(source, revision=info.sha), {sibling.rfilename for sibling in info.siblings or []}


def fetch_file(source: HubSource, name: str, folder: Path) -> Path:
    """Copy a file from the hub's cache if it lies there at this revision, else download it."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(source.repo_id, name, **source.version)
    if isinstance(cached, str):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached, target)
        return target
    constants.HF_HUB_DOWNLOAD_TIMEOUT = max(1, round(source.timeout_seconds))
    constants.HF_HUB_DISABLE_XET = True
    with _hub_errors(source, name):
        return Path(
            hf_hub_download(
                source.repo_id, name, **source.version, local_dir=folder, etag_timeout=source.timeout_seconds
            )
        )


@contextmanager
def _hub_errors(source: HubSource, what: str) -> Iterator[None]:
    """Raise HubUnreachable where another hour may give another answer, DownloadError for an answer that stays."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as problem:
        raise DownloadError(
            f"{source.repo_id!r} is no repository's name: {shortened(first_line(problem))}; what lies on this machine "
            f"belongs into {source.repo_type}.path"
        ) from None
    except (httpx.HTTPError, ConnectionError, errors.EntryNotFoundError) as problem:
        raise _explained(source, what, problem) from None
    except (ValueError, TypeError, KeyError) as problem:
        raise DownloadError(f"{source}: {what}: {NO_HUB} ({shortened(first_line(problem))})") from None


def _explained(source: HubSource, what: str, problem: Exception) -> DownloadError:
    """Return the error for a call that failed: by the status of the answer if there was one, else by its cause."""
    import httpx
    from huggingface_hub import errors

    for cause in _causes(problem):
        reason = shortened(first_line(cause))
        if isinstance(cause, errors.HfHubHTTPError):
            status = cause.response.status_code
            advice = ANSWERS.get(type(cause).__name__) or ANSWERS.get(status, reason)
            kind = HubUnreachable if status in TEMPORARY or status >= 500 else DownloadError
            return kind(f"{source}: {what} could not be fetched: the hub answers {status}: {advice}")
        if isinstance(cause, ssl.SSLCertVerificationError):
            advice = CERTIFICATES.get(cause.verify_code, TRUST)
            return DownloadError(
                f"{source}: {what}: the hub's certificate is not taken ({cause.verify_message}): {advice}"
            )
        if isinstance(cause, httpx.ProxyError):
            return DownloadError(f"{source}: {what}: the proxy refuses ({reason}): correct HTTPS_PROXY")
        if isinstance(cause, errors.FileMetadataError):
            return DownloadError(f"{source}: {what}: {NO_HUB} ({reason})")
    silent = f"the hub was silent for {source.timeout_seconds:g} s"
    reason = f"the hub cannot be reached: {shortened(first_line(problem))}"
    return HubUnreachable(f"{source}: {what}: {silent if any(map(_is_timeout, _causes(problem))) else reason}")


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


def _is_timeout(problem: BaseException) -> bool:
    return "timed out" in str(problem).lower() or type(problem).__name__.endswith("Timeout")
