"""Build TensorRT engines once, and make sure that a timed session uses them as built.

The provider names its cache files by graph and flags, not by weights, TensorRT
version or GPU: the folder's name holds a hash of all of these, so that an engine
of other weights or another GPU is never found, let alone used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.core.errors import EngineError
from bench.core.files import file_sha256, read_model
from bench.core.reports import EngineRecord

RECORD = "build.json"
ENGINE_SUFFIXES = (".engine",)
TIMING_CACHES = "*.timing"


def engine_folder_name(graph: Path, options: dict[str, Any], tensorrt: str, gpu: dict[str, Any]) -> str:
    """Return the name of the folder for an engine of this graph, these options, TensorRT version and GPU."""
    digest = hashlib.sha256(file_sha256(graph).encode())
    for part in (options, tensorrt, {"gpu": gpu["gpu"], "compute_capability": gpu["compute_capability"]}):
        digest.update(json.dumps(part, sort_keys=True).encode())
    return f"engine-{digest.hexdigest()[:16]}"


def read_record(variant_folder: Path) -> EngineRecord:
    """Read what `build_engine` wrote about a variant: status, reason, folder, build seconds, bytes."""
    return read_model(variant_folder / RECORD, "`dvc repro -f build_engine` writes it anew", EngineRecord)


def folder_state(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an engine folder; the timing cache, which may grow, left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".timing")
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def copy_engine(source: Path, copy: Path) -> dict[str, str]:
    """Copy an engine folder to where a session may work on it; return the copy's state."""
    shutil.copytree(source, copy)
    return folder_state(copy)


def check_unchanged(key: str, copy: Path, before: dict[str, str]) -> None:
    """Raise EngineError if a session added or changed an engine: the cache missed, and a build was timed."""
    after = folder_state(copy)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        raise EngineError(
            f"{key}: the run built an engine instead of using the built one ({', '.join(changed)}); "
            f"its figures are thrown away: `dvc repro -f build_engine@{key}` builds it for this machine"
        )


def check_fits(key: str, record: EngineRecord, environment: dict[str, Any]) -> None:
    """Raise EngineError if an engine was built by another TensorRT or for another GPU than this machine's.

    DVC builds a stale engine anew; this is for one that came from a cache or by hand.
    """
    here = {
        "tensorrt": (record.tensorrt, environment["versions"]["tensorrt"]),
        "gpu": (record.gpu, (environment["cuda"] or {}).get("gpu")),
    }
    for what, (built_for, value) in here.items():
        if built_for != value:
            raise EngineError(
                f"{key}: its engine was built for {what} {built_for}, this machine has {value or 'none'}: "
                f"`dvc repro build_engine@{key}` builds it for this one"
            )


@contextmanager
def with_timing_cache(folder: Path, shared: Path) -> Iterator[None]:
    """Give `folder` the layer timings of earlier builds, and keep those of this one: later builds are faster.

    Builds on other GPUs may do the same at the same time: each finds a whole file, and the last one's stays.
    """
    shared.mkdir(parents=True, exist_ok=True)
    for cache in shared.glob(TIMING_CACHES):
        shutil.copyfile(cache, folder / cache.name)
    yield
    for cache in sorted(folder.rglob(TIMING_CACHES)):
        new = shared / f"{cache.name}.{folder.name}"
        shutil.copyfile(cache, new)
        with suppress(PermissionError):  # on Windows, while another build reads it
            new.replace(shared / cache.name)
        new.unlink(missing_ok=True)


def engine_bytes(folder: Path) -> int:
    """Return the size of all engines of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in ENGINE_SUFFIXES)
