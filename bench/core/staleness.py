"""What `probe` writes for stages to depend on, beside the environment: a change makes stale what it touches alone.

artifacts/retry_tokens/KEY  how often a build that failed was tried: DVC keeps the result of a stage for its inputs, and
                            would give a failed build back for ever
artifacts/batches/KEY       the batch sizes and the padding of a variant's batches, how many sentences calibrate FP8,
                            and whether the precision is off
artifacts/clone             an id of the timings that lie here
artifacts/required/NAME     whether a row uses a converted graph: one that none uses is not made

What rows that are no longer configured left behind is removed: it would be committed as a part of another run.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.core.files import remove, write_if_other, write_text
from bench.core.params import Params, Variant
from bench.core.paths import BATCHES, CLONE, ENGINES, REQUIRED, RETRY_TOKENS, ROUNDS, SAMPLES, SERVED, SERVED_PARTS

NOT_MADE = b"not made: "
"""How the file begins that lies in the place of a graph that was not made."""
UNUSED = "no row that can run on this machine uses it"
NO_CELLS = '{"cells":{},"processes":[]}\n'
"""A report (`bench.core.reports`) without cells, typed: `probe` runs every time and imports no reports."""


def ensure_retry_tokens(keys: Iterable[str]) -> None:
    """Write a token for each variant that has none."""
    RETRY_TOKENS.mkdir(parents=True, exist_ok=True)
    for key in keys:
        if not (RETRY_TOKENS / key).is_file():
            write_text(RETRY_TOKENS / key, "0\n")


def identify_clone(params: Params) -> None:
    """Write the id of this folder's timings, another where none are left: rows that are not timed here are stale."""
    if not CLONE.is_file() or not any((SAMPLES / f"{key}.json").is_file() for key in params.all_variants()):
        write_text(CLONE, f"{uuid.uuid4().hex[:12]}\n")


def renew_retry_token(key: str) -> None:
    """Make the stages that depend on a variant's token stale."""
    path = RETRY_TOKENS / key
    tried = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    write_text(path, f"{int(tried) + 1 if tried.isdecimal() else 1}\n")


def batches_of(variant: Variant, params: Params) -> dict[str, Any]:
    """Return the batch sizes and the padding of a variant's batches, and for FP8 how it is calibrated."""
    rounded = {"multiple_of": params.lengths.multiple_of} if variant.padding == "longest" else {}
    calibrated = params.int8.model_dump() if variant.precision == "fp8" else {}
    return {"batch_sizes": params.sizes(variant.device), "padding": variant.padding, **rounded, **calibrated}


def write_batches(params: Params) -> None:
    """Write artifacts/batches/KEY for each variant; files of variants that are gone are removed."""
    BATCHES.mkdir(parents=True, exist_ok=True)
    variants = params.all_variants()
    for path in BATCHES.iterdir():
        if path.name not in variants:
            remove(path)
    for key, variant in variants.items():
        switch = {} if params.is_on(variant.precision) else {"is_on": False}
        write_if_other(BATCHES / key, json.dumps(batches_of(variant, params) | switch) + "\n")


def write_required(names: Iterable[str], required: Iterable[str]) -> None:
    """Write for each graph whether a row uses it, as `onnx/NAME.onnx`; conversions depend on these files."""
    for name in names:
        write_if_other(REQUIRED / name, "yes\n" if f"onnx/{name}.onnx" in required else "no\n")


def is_required(name: str) -> bool:
    path = REQUIRED / name
    return not path.is_file() or path.read_text(encoding="utf-8").strip() == "yes"


def write_not_made(path: Path, reason: str) -> None:
    """Write the reason in the graph's place."""
    write_text(path, NOT_MADE.decode() + " ".join(reason.split()) + "\n")


def reason_not_made(path: Path, what: str = "its graph cannot be made: ") -> str:
    """Return for a row, behind `what`, why a file was not made; empty if it was."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        if stream.read(len(NOT_MADE)) != NOT_MADE:
            return ""
        return what + stream.read().decode("utf-8", errors="replace").strip()


def remove_leftovers(params: Params) -> list[str]:
    """Remove samples, parts and engines of rows that are not configured; return what was removed."""
    timed, served = {*params.all_variants()}, {*params.serving.variants, *params.not_served}
    found = [path for path in _of_rows() if path.stem not in timed and path not in _places(params)]
    found += [path for folder in (SERVED, SERVED_PARTS) for path in folder.glob("*.json") if path.stem not in served]
    for path in found:
        remove(path)
    return [path.as_posix() for path in found]


def fill_places(params: Params) -> None:
    """Write a report without cells for default entries of serving.variants that are not there: DVC looks for one."""
    for path in _places(params):
        write_if_other(path, NO_CELLS)


def _places(params: Params) -> list[Path]:
    return [SAMPLES / f"{key}.json" for key in params.not_served]


def _of_rows() -> Iterator[Path]:
    """Yield the files and folders that this project writes for a row, and no other."""
    found = (*SAMPLES.glob("*"), *ROUNDS.glob("*/*"))
    yield from (path for path in found if path.suffix in (".csv", ".json") and path.parent != SERVED_PARTS)
    yield from (path for path in ENGINES.glob("*/") if (path / "build.json").is_file())
