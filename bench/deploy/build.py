"""Write a folder that serves a row over HTTP as it was measured:  python run.py deploy FOLDER [--row ROW] [--stand-in]

FOLDER/README.md says how it is started and called.  `python run.py deploy FOLDER --measure` finds what it sustains.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.core import paths
from bench.core.errors import DataError, ModelError, ParameterError, run_stage
from bench.core.files import file_sha256, read_json, replacing_folder, write_json, write_text
from bench.core.params import load_params
from bench.core.progress import log
from bench.core.reports import rate_text
from bench.core.schemas import read_environment, read_provenance
from bench.deploy import triton
from bench.deploy.code import ROOT, closure, of_ray, requirements
from bench.deploy.row import Row, chosen
from bench.deploy.settings import SETTINGS, Figures, Limits, Machine, Settings, Tokens, is_kept
from bench.inputs.encoded import RENEW, Encoded, load_encoded, load_reference
from bench.inputs.texts import Text, Texts, why_not_fast
from bench.machine.cores import tokenizer_threads
from bench.runs.record import check_unchanged
from bench.runtimes.base.registry import import_runtime
from bench.workers.engines import read_record
from bench.workers.launcher import worker_environment
from bench.workers.protocol import make_job

HERE = Path(__file__).resolve().parent
CALIBRATION = "model/calibration.npz"
SERVER = "bench/deploy/server.py"
SCRIPTS = ("server.py", "on_ray.py")
"""What is started, in the folder itself."""
OF_PLACE = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Variables of the machine and of the run, not of the row."""
CHECKED = ("*.py", "model/**/*", "engine/**/*", "tokenizer.json")
"""What must not change: code, model, tokenizer."""
BACKLOG_BUDGETS, LEAST_WAITING = 10, 64
"""As many texts wait as come in so many budgets, at least one request's."""
LEAST_CHARACTERS, CHARACTERS_OF_A_TOKEN = 8192, 64
MOST_BYTES, MOST_TEXTS = 2**23, 1024
REQUEST_BUDGETS, LEAST_SECONDS = 20, 10.0
STOP_SECONDS = 10
"""What a supervisor gives the server after SIGTERM, beyond a request's time limit."""
EXAMPLES = 128


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="run.py deploy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a new folder, or an empty one")
    parser.add_argument("--row", default="", help="which row (default: the one that sustains most requests)")
    parser.add_argument("--stand-in", action="store_true", help="take a model with random weights, too")
    parser.add_argument("--measure", action="store_true", help="measure a folder that was written, over HTTP")
    given = parser.parse_args()
    if given.measure:
        _measure(given.folder)
    else:
        deploy(given.folder, given.row, given.stand_in)


def _measure(folder: Path) -> None:
    """Measure a folder; whatever stops it, its server ends too."""
    from bench.deploy.measure import measure  # what the load generator needs, no folder does

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        measure(folder)
    except (KeyboardInterrupt, SystemExit) as stopped:
        print(str(stopped) or "stopped by the user", file=sys.stderr, flush=True)
        os._exit(1)  # a thread of LoadGen may be in the middle of a load, which Python's own end aborts


def deploy(folder: Path, asked: str = "", is_stand_in: bool = False) -> None:
    """Write the folder; ParameterError or DataError where the run or the folder is not fit for it."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ParameterError(f"deploy: {folder} is there already and not an empty folder: name another")
    params = load_params()
    if asked:
        params.variant(asked)
    if not read_provenance()["model_is_real"] and not is_stand_in:
        raise DataError(
            "the model is a stand-in with random weights, whose answers mean nothing: give --stand-in to serve it all "
            "the same, or set model.path in params.yaml to a trained model"
        )
    if reason := why_not_fast(paths.FAST_TOKENIZER):
        raise ModelError(f"{reason}, and the server makes tokens with that alone")
    check_unchanged()
    row = chosen(params, asked)
    with replacing_folder(folder) as temporary:
        Folder(temporary, row).write()
    log(f"{row.key} is in {folder}: {folder / 'README.md'} says how it is started and called")


class Folder:
    """What is written for a row."""

    def __init__(self, folder: Path, row: Row) -> None:
        self.folder, self.row = folder, row
        self.texts: list[Text] = read_json(paths.TEXTS, RENEW, Texts)["texts"]
        self.encoded = load_encoded(paths.EVALUATION)

    def write(self) -> None:
        """Write all of it."""
        self._copy_model()
        shutil.copyfile(paths.FAST_TOKENIZER, self.folder / "tokenizer.json")
        code = closure(SERVER, f"bench/runtimes/{self.row.variant.runtime}.py") - {SERVER}
        for file in code:
            _copy(ROOT / file, self.folder / file)
        for script in SCRIPTS:
            _copy(HERE / script, self.folder / script)
        libraries = import_runtime(self.row.variant.runtime).LIBRARIES
        pins, has_hashes = requirements(code, libraries)
        write_text(self.folder / "requirements.txt", pins)
        write_text(self.folder / "requirements-ray.txt", of_ray(pins, has_hashes))
        settings = self._settings()
        self._render(settings, has_hashes)
        if settings.runtime in triton.RUNTIMES:
            self._write_repository(settings)
        checked = {
            path for pattern in CHECKED for path in self.folder.rglob(pattern) if path.is_file() and is_kept(path)
        }
        files = {path.relative_to(self.folder).as_posix(): file_sha256(path) for path in sorted(checked)}
        write_json(self.folder / SETTINGS, settings.model_copy(update={"files": files}).model_dump())

    def _copy_model(self) -> None:
        source = paths.ARTIFACTS / self.row.variant.graph
        if source.is_dir():
            shutil.copytree(source, self.folder / "model")
        else:
            _copy(source, self.folder / "model" / source.name)
        if self.row.variant.precision == "fp8":
            _copy(paths.CALIBRATION, self.folder / CALIBRATION)
        if self.row.variant.runtime == "tensorrt":
            built = paths.ENGINES / self.row.key
            shutil.copytree(built / read_record(built).folder, self.folder / "engine")

    def _settings(self) -> Settings:
        row, params = self.row, self.row.params
        variant, provenance = row.variant, read_provenance()
        threads = tokenizer_threads(params, variant.device)
        job = replace(make_job(row.key, variant, params), tokenizer_threads=threads)
        variables = worker_environment(job, {}, Path())
        is_folder = (paths.ARTIFACTS / variant.graph).is_dir()
        figures = row.figures()
        return Settings(
            **variant.model_dump(exclude={"graph"}),
            row=row.key,
            graph="model" if is_folder else f"model/{Path(variant.graph).name}",
            engine="engine" if variant.runtime == "tensorrt" else "",
            engine_options=job.engine_options,
            calibration=CALIBRATION if variant.precision == "fp8" else "",
            calibration_sentences=job.calibration_sentences,
            batch_sizes=job.batch_sizes,
            sequence_length=job.sequence_length,
            multiple_of=job.multiple_of,
            cpu_threads=job.cpu_threads,
            tokenizer_threads=threads,
            in_flight=params.serving.in_flight[variant.device],
            instances=params.serving.instances,
            max_batch=row.max_batch,
            max_delay_ms=params.serving.max_delay_ms,
            variables={name: value for name, value in variables.items() if name not in OF_PLACE},
            model=provenance["model"],
            warning="" if provenance["model_is_real"] else "The weights are random: labels and scores mean nothing.",
            task=provenance.get("task", "single_label"),
            labels=_labels(),
            takes_pairs=not all(isinstance(text, str) for text in self.texts),
            tokens=_tokens(self.encoded),
            limits=_limits(figures, params.serving.p99_ms[variant.device], row.max_batch, job.sequence_length),
            figures=figures,
            machine=_machine(variant.device, import_runtime(variant.runtime).LIBRARIES),
            commit=_commit(),
            digest=row.digest,
            files={},
        )

    def _render(self, settings: Settings, has_hashes: bool) -> None:
        text, label = self._example(settings)
        body = json.dumps({"texts": [text]}, ensure_ascii=False).replace("'", "\\u0027")
        version = ".".join(map(str, sys.version_info[:2]))
        given = {"s": settings, "body": body, "label": label, "python": version, "rate": rate_text}
        given |= {"has_hashes": has_hashes, "needs_compiler": "compile" in settings.options}
        given |= {"has_triton": settings.runtime in triton.RUNTIMES}
        given |= {"stop_seconds": math.ceil(settings.limits.seconds) + STOP_SECONDS}
        for name in ("README.md", "Dockerfile"):
            write_text(self.folder / name, rendered(name, given))

    def _write_repository(self, settings: Settings) -> None:
        """Write Triton's model repository; its graph is the folder's own, under a second name."""
        place = self.folder / "triton" / settings.row
        model = place / "1" / "model.onnx"
        model.parent.mkdir(parents=True)
        try:
            model.hardlink_to(self.folder / settings.graph)
        except OSError:  # a filesystem without links
            shutil.copyfile(self.folder / settings.graph, model)
        given = triton.described(settings, settings.spec(self.folder))
        write_text(place / "config.pbtxt", rendered("config.pbtxt", {"s": settings, **given}))

    def _example(self, settings: Settings) -> tuple[Text, str]:
        """Return the sentence whose label is the surest of the reference, and that label; empty for other tasks."""
        if settings.task != "single_label":
            return self.texts[0], ""
        logits = load_reference(paths.EVALUATION)[:EXAMPLES]
        ordered = logits.copy()
        ordered.sort(axis=1)
        surest = int((ordered[:, -1] - ordered[:, -2]).argmax()) if logits.shape[1] > 1 else 0
        return self.texts[surest], settings.labels[int(logits[surest].argmax())]


def rendered(name: str, given: dict[str, Any]) -> str:
    """Return a file of the folder, made from the template of that name."""
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.j2").render(given).strip() + "\n"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _labels() -> list[str]:
    """Return the names of the labels by their numbers, as transformers has them."""
    config = read_json(paths.MODEL / "config.json", "`dvc repro -f download` renews it")
    count = load_reference(paths.EVALUATION).shape[1]
    names = config.get("id2label") or {}
    return [str(names.get(str(number), f"LABEL_{number}")) for number in range(count)]


def _tokens(encoded: Encoded) -> Tokens:
    """Return what texts are laid out with; where no sentence is padded, nothing can be told and 0 is taken."""
    shortest, is_left = int(encoded.lengths.argmin()), encoded.is_left_padded
    is_padded = int(encoded.lengths[shortest]) < encoded.sequence_length
    padding, first = (0, -1) if is_left else (-1, 0)
    types = encoded.token_type_ids
    return Tokens(
        pad_id=int(encoded.input_ids[shortest, padding]) if is_padded else 0,
        pad_type=int(types[shortest, padding]) if types is not None and is_padded else 0,
        filler_id=int(encoded.input_ids[shortest, first]),
        is_left_padded=is_left,
        has_types=types is not None,
    )


def _limits(figures: Figures, budget_ms: float, max_batch: int, sequence_length: int) -> Limits:
    per_s = figures.tokens_per_s or figures.text_per_s or 0.0
    waiting = max(math.ceil(BACKLOG_BUDGETS * per_s * budget_ms / 1000), 4 * max_batch, LEAST_WAITING)
    texts = min(waiting, MOST_TEXTS)
    characters = max(LEAST_CHARACTERS, CHARACTERS_OF_A_TOKEN * sequence_length)
    return Limits(
        texts=texts,
        characters=characters,
        bytes=min(MOST_BYTES, 4 * characters * texts),
        waiting_texts=waiting,
        seconds=max(LEAST_SECONDS, REQUEST_BUDGETS * budget_ms / 1000),
    )


def _machine(device: str, libraries: tuple[str, ...]) -> Machine:
    environment = read_environment()
    versions = environment["versions"]
    return Machine(
        os=environment["os"],
        python=environment["python"],
        cpu=environment["cpu"]["model"],
        instructions=environment["cpu"].get("instructions", ""),
        gpu=environment["cuda"]["gpu"] if device == "cuda" else "",
        versions={name: str(versions.get(name)) for name in (*libraries, "tokenizers", "numpy")},
    )


def _commit() -> str:
    ended = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return ended.stdout.strip() or "unknown"


if __name__ == "__main__":
    run_stage(main)
