"""Fetch files from the model hub at a pinned revision; HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE as usual."""

import os
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
"""HTTP statuses that another hour may change, beside all from 500 on."""
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
INSTEAD = {"model": "model.source to synthetic", "dataset": "dataset.source to builtin"}
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
IN_CACHE = " in the cache (HF_HUB_OFFLINE is set)"


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
    """Fetch config, tokenizer and safetensors into `folder`; HubUnreachable, DownloadError or ModelError if it fails.

    Returns the source at its commit.
    """
    from huggingface_hub import constants

    source, names = list_files(source)
    where = f"{source}{IN_CACHE if constants.HF_HUB_OFFLINE else ''}"
    take_model(names, folder, where, lambda name: fetch_file(source, name, folder))
    return source


def list_files(source: HubSource) -> tuple[HubSource, set[str]]:
    """Return the source at the commit that its revision stands for now, and the names of its files."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        with _hub_errors(source, f"its files{IN_CACHE}"):
            folder = Path(snapshot_download(source.repo_id, **source.version, local_files_only=True))
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        return replace(source, revision=folder.name), names
    with _hub_errors(source, "its list of files"):
        info: Any = HfApi().repo_info(source.repo_id, **source.version, timeout=source.timeout_seconds)
        return replace(source, revision=str(info.sha)), {sibling.rfilename for sibling in info.siblings}


def fetch_file(source: HubSource, name: str, folder: Path) -> Path:
    """Copy a file from the hub's cache if it lies there at this revision, else download it."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(source.repo_id, name, **source.version)
    if isinstance(cached, str):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(cached, folder / name))
    constants.HF_HUB_DOWNLOAD_TIMEOUT = max(1, round(source.timeout_seconds))
    constants.HF_HUB_DISABLE_XET = True
    with _hub_errors(source, name, has_answered=True):
        options = source.version | {"local_dir": folder, "etag_timeout": source.timeout_seconds}
        return Path(hf_hub_download(source.repo_id, name, **options))


@contextmanager
def _hub_errors(source: HubSource, what: str, *, has_answered: bool = False) -> Iterator[None]:
    """Raise HubUnreachable where the hub has given no answer at all, DownloadError for whatever else goes wrong."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as problem:
        raise DownloadError(
            f"params.yaml: {source.repo_type}.id: got {source.repo_id!r}, allowed: OWNER/NAME, as the hub's page of it "
            f"says; what lies on this machine belongs into {source.repo_type}.path ({shortened(first_line(problem))})"
        ) from None
    except UnicodeEncodeError:
        raise DownloadError("HF_TOKEN holds letters that no token has: copy it anew, or take it away") from None
    except (ssl.SSLError, FileNotFoundError) as problem:
        if isinstance(problem, errors.EntryNotFoundError) or "SSL_CERT_FILE" not in os.environ:
            raise _explained(source, what, problem, has_answered) from None
        got = f"{os.environ['SSL_CERT_FILE']!r} ({problem.strerror or problem})"
        raise DownloadError(f"SSL_CERT_FILE: got {got}, allowed: a file of certificates (PEM)") from None
    except (httpx.HTTPError, httpx.InvalidURL, ConnectionError, errors.EntryNotFoundError, ImportError) as problem:
        raise _explained(source, what, problem, has_answered) from None
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise DownloadError(f"{source}: {what}: {NO_HUB} ({shortened(first_line(problem))})") from None


def _explained(source: HubSource, what: str, problem: Exception, has_answered: bool) -> DownloadError:
    """Return the error for a call that failed: by what was answered, else by whether anything was."""
    import httpx
    from huggingface_hub import errors

    causes = list(_causes(problem))
    if answer := next(filter(None, (_answer(source, cause) for cause in causes)), ""):
        return DownloadError(f"{source}: {what}: {answer}")
    reason = shortened(first_line(problem))
    if any("timed out" in str(cause).lower() or type(cause).__name__.endswith("Timeout") for cause in causes):
        reason = f"the hub was silent for {source.timeout_seconds:g} s"
    if has_answered:
        hint = "run it again, or with a longer model.hub_timeout_seconds"
        return DownloadError(f"{source}: {what}: the download broke off ({reason}): {hint}")
    silence = (httpx.TimeoutException, httpx.NetworkError, ConnectionError, errors.EntryNotFoundError)
    if not any(isinstance(cause, silence) for cause in causes):
        return DownloadError(f"{source}: {what}: {NO_HUB} ({reason})")
    proxies = "".join(f"; {name} is set" for name in PROXIES if name in os.environ or name.lower() in os.environ)
    return HubUnreachable(f"{source}: {what}: the hub cannot be reached: {reason}{proxies}")


def _answer(source: HubSource, cause: BaseException) -> str:
    """Return what one cause says about the hub, or about the way to it, with what to do; empty for silence."""
    import httpx
    from huggingface_hub import constants, errors

    reason = shortened(first_line(cause))
    if isinstance(cause, errors.HfHubHTTPError):
        status = cause.response.status_code
        advice = ANSWERS.get(type(cause).__name__) or ANSWERS.get(status, reason)
        if status in TEMPORARY or status >= 500:
            advice = f"a fault of its own: run it again later, or set {INSTEAD[source.repo_type]}"
        return f"the hub answers {status}: {advice}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        advice = CERTIFICATES.get(cause.verify_code, TRUST)
        return f"the hub's certificate is not taken ({cause.verify_message}): {advice}"
    if isinstance(cause, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return f"HF_ENDPOINT: got {constants.ENDPOINT!r} ({reason}), allowed: an address as https://huggingface.co"
    if isinstance(cause, httpx.ProxyError | ImportError):
        return f"the proxy cannot be used ({reason}): correct HTTPS_PROXY"
    return f"{NO_HUB} ({reason})" if isinstance(cause, ssl.SSLError | errors.FileMetadataError) else ""


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__
