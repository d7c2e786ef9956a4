"""Fetch the model and the sentences from the model hub, at a pinned revision.

Only data formats are fetched: safetensors, JSON, tokenizer files and parquet; no pickled weights and no code.  The
hub's address, cache, token and offline switch come from HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE, as usual.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.errors import DownloadError, HubUnreachable
from bench.core.files import first_line, shortened
from bench.sources.model_files import CONFIG, check_kind, first_files, read_config, weight_files

TEMPORARY = (0, 408, 425, 429)
"""HTTP statuses that another hour may change, beside all from 500 on; 0: none was received."""


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
        return f"{self.repo_id}@{self.revision[:7]}"


def download_model(source: HubSource, folder: Path) -> HubSource:
    """Fetch config, tokenizer and safetensors into `folder`, the config first; return the source at its commit.

    Raises HubUnreachable if the hub does not answer, DownloadError for what it answers, ModelError for an unfit model.
    """
    source, names = list_files(source)
    for name in first_files(names, str(source)):
        fetch_file(source, name, folder)
        if name == CONFIG:
            check_kind(read_config(folder / CONFIG))
    for name in weight_files(folder, names, str(source)):
        fetch_file(source, name, folder)
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

    silent = f"the hub was silent for {source.timeout_seconds:g} s"
    try:
        yield
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{source.repo_id}: has no revision {source.revision!r}; check `revision`") from None
    except errors.GatedRepoError:
        raise DownloadError(
            f"{source.repo_id}: gated: accept its terms on its page of the hub, and set HF_TOKEN to a token of that "
            f"account"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"{source.repo_id}: no such repository on the hub, or a private one: check the id, and set HF_TOKEN to a "
            "token that may read it"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as problem:
        reason = silent if _is_timeout(problem) else "the hub cannot be reached"
        raise HubUnreachable(f"{source}: {what}: {reason}") from None
    except errors.EntryNotFoundError:
        raise DownloadError(f"{source}: {what} is missing on the hub") from None
    except httpx.TimeoutException:
        raise HubUnreachable(f"{source}: {what}: {silent}") from None
    except errors.HfHubHTTPError as problem:
        status = problem.response.status_code if problem.response is not None else 0
        kind = HubUnreachable if status in TEMPORARY or status >= 500 else DownloadError
        raise kind(f"{source}: {what} could not be fetched: {shortened(first_line(problem))}") from None
    except (httpx.HTTPError, ConnectionError) as problem:
        raise HubUnreachable(f"{source}: {what}: the hub cannot be reached: {shortened(first_line(problem))}") from None
    except errors.HFValidationError as problem:
        raise DownloadError(f"{source.repo_id!r} is no repository's name: {shortened(first_line(problem))}") from None


def _is_timeout(problem: BaseException | None) -> bool:
    while problem is not None:
        if "timed out" in str(problem).lower() or type(problem).__name__.endswith("Timeout"):
            return True
        problem = problem.__cause__ or problem.__context__
    return False
