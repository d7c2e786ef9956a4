"""Fetch the model and the sentences from the model hub, at a pinned revision.

Only data formats are fetched: safetensors, JSON, tokenizer files and parquet; no
pickled weights and no code.  The hub's address comes from HF_ENDPOINT, as usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import DownloadError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


@dataclass(frozen=True)
class HubSource:
    """A repository of the hub at one revision."""

    repo_id: str
    revision: str
    repo_type: str
    timeout_seconds: float

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision[:7]}"


def download_model(source: HubSource, folder: Path) -> None:
    """Fetch config, safetensors and tokenizer into `folder`; DownloadError says what went wrong."""
    names = _list_files(source)
    if CONFIG not in names:
        raise DownloadError(f"{source}: has no {CONFIG}; set model.id to a model that transformers can load")
    if WEIGHTS not in names:
        raise DownloadError(
            f"{source}: has no {WEIGHTS}, and pickled weights are not loaded; "
            "set model.id or model.revision to one with safetensors"
        )
    tokenizer = [name for name in TOKENIZER_FILES if name in names]
    if not {"tokenizer.json", "vocab.txt", "vocab.json"} & set(tokenizer):
        raise DownloadError(f"{source}: has no tokenizer (tokenizer.json, vocab.txt or vocab.json)")
    for name in (CONFIG, *tokenizer, WEIGHTS):
        _download_file(source, name, folder)


def download_sentences(source: HubSource, split: str, folder: Path) -> Path:
    """Fetch the parquet file of one split and return its path; DownloadError says what went wrong."""
    names = sorted(name for name in _list_files(source) if name.endswith(".parquet") and f"/{split}-" in f"/{name}")
    if not names:
        raise DownloadError(f"{source}: has no parquet file of the split {split!r}")
    return _download_file(source, names[0], folder)


def _list_files(source: HubSource) -> set[str]:
    from huggingface_hub import HfApi

    with _hub_errors(source, "its list of files"):
        info: Any = HfApi().repo_info(
            source.repo_id, revision=source.revision, repo_type=source.repo_type, timeout=source.timeout_seconds
        )
    return {sibling.rfilename for sibling in info.siblings or []}


def _download_file(source: HubSource, name: str, folder: Path) -> Path:
    from huggingface_hub import constants, hf_hub_download

    constants.HF_HUB_DOWNLOAD_TIMEOUT = max(1, round(source.timeout_seconds))
    constants.HF_HUB_DISABLE_XET = True
    with _hub_errors(source, name):
        path = hf_hub_download(
            source.repo_id,
            name,
            revision=source.revision,
            repo_type=source.repo_type,
            local_dir=folder,
            etag_timeout=source.timeout_seconds,
        )
    return Path(path)


@contextmanager
def _hub_errors(source: HubSource, what: str) -> Iterator[None]:
    """Turn the hub client's many errors into one DownloadError that says what to do."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{source.repo_id}: has no revision {source.revision!r}; check `revision`") from None
    except errors.EntryNotFoundError:
        raise DownloadError(f"{source}: {what} is missing on the hub or the hub cannot be reached") from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(f"{source.repo_id}: no such repository on the hub, or it needs a login") from None
    except httpx.TimeoutException:
        raise DownloadError(f"{source}: {what}: the hub was silent for {source.timeout_seconds:g} s") from None
    except (errors.HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as problem:
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise DownloadError(f"{source}: {what} could not be fetched: {reason}") from None
