"""Read and check params.yaml as a whole, before any work, without a device or a runtime.

What a runtime supports is checked by `bench.runtimes.base.registry.check_variant`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml.error import YAMLError

from bench.core.errors import ParameterError
from bench.core.files import read_yaml, shortened
from bench.core.model_inputs import Padding
from bench.core.params_faults import describe_faults, describe_yaml_fault, only
from bench.core.paths import PARAMS

Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8"]
Device = Literal["cpu", "cuda"]
CONVERTED = ("fp16", "fp16_fused", "int8_dynamic", "int8_static", "int8_qdq")
"""The graphs that are made of the exported one: `convert_onnx` in dvc.yaml has an entry for each."""

MADE_WITH = {"download": {"model", "dataset"}, "export_onnx": {"export", "sequence_length"}, "convert_onnx": {"int8"}}
"""By stage: the sections of params.yaml that dvc.yaml lists for it."""

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
"""A count that some machine can meet: a larger number is a slip of the finger."""
BatchSize = Annotated[int, Field(ge=1, le=65536)]
DAY_SECONDS = 86_400
Milliseconds = Annotated[float, Field(gt=0, le=DAY_SECONDS * 1000, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=DAY_SECONDS, allow_inf_nan=False)]
SPLIT = re.compile(r"[\w.-]+")
GRAPH = re.compile(r"model|onnx/[a-z0-9_]+\.onnx")
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]

DEFAULT_SERVED = (
    *("torch_cuda_fp32", "torch_compile_cuda_fp16", "ort_cuda_fp16_graph", "ort_cuda_fp16_graph_longest"),
    *("torch_varlen_compile_cuda_fp16", "torch_varlen_compile_cuda_fp8", "ort_tensorrt_fp16_graph"),
    *("torch_cpu_fp32", "ort_cpu_int8_longest", "openvino_cpu_int8_longest", "openvino_cpu_int8_bf16_longest"),
)
DEFAULT_BASELINES = {"cpu": "torch_cpu_fp32", "cuda": "torch_cuda_fp32"}
DEFAULT_HEADS = 12
"""What params.yaml says unless the user wrote something else; it follows what the user wrote."""


def _is_each_once(values: list[Any]) -> bool:
    return len(set(values)) == len(values)


class Section(BaseModel):
    """A section of params.yaml: no unknown keys, no silent conversions, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


UserPath = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path on this machine, `~` being the user's home."""


class Synthetic(Section):
    """The stand-in model for machines that cannot reach the hub."""

    architecture: Literal["distilbert", "bert", "roberta"]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    layers: Annotated[int, Field(ge=1, le=1_000)]
    dim: Annotated[int, Field(ge=1, le=65_536)]
    heads: Annotated[int, Field(ge=1, le=1_024)]
    hidden_dim: Annotated[int, Field(ge=1, le=262_144)]
    vocab_size: Annotated[int, Field(ge=100, le=10_000_000)]

    @model_validator(mode="after")
    def heads_divide_dim(self) -> Self:
        if self.dim % self.heads and self.heads != DEFAULT_HEADS:
            raise ValueError(f"heads: got {self.heads}, allowed: a divisor of dim ({self.dim})")
        return self

    @property
    def fitting_heads(self) -> int:
        """The attention heads: where the default does not divide `dim`, the most below it that do."""
        return next(heads for heads in range(self.heads, 0, -1) if self.dim % heads == 0)


class FromHubOrPath(Section):
    """What is taken from the model hub, from the user's own files, or made here."""

    id: Annotated[str, Field(min_length=1)]
    revision: Annotated[str, Field(min_length=1)]
    source: str
    path: UserPath | None = None

    @model_validator(mode="after")
    def path_fits_the_source(self) -> Self:
        """Refuse a path that would not be looked at, and none where one is wanted."""
        if self.source == "local" and self.path is None:
            raise ValueError("path: got null, allowed with source local: where the files lie")
        if self.source not in ("auto", "local") and self.path is not None:
            got = shortened(repr(self.path))
            raise ValueError(f"path: got {got}, allowed with source {self.source}: null (or source: local)")
        return self

    @property
    def chosen_source(self) -> str:
        """What `auto` means: the user's own files if there is a path, else the hub."""
        return "local" if self.source == "auto" and self.path is not None else self.source


class Model(FromHubOrPath):
    """Which encoder with a classification head is measured."""

    source: Literal["auto", "hub", "local", "synthetic"]
    hub_timeout_seconds: Annotated[float, Field(gt=0, le=600)]
    synthetic: Synthetic


LabelReading = Literal["ids", "names", "metadata"]
LabelMeanings = dict[str | int | bool, str | int | None]


class Dataset(FromHubOrPath):
    """The sentences that are classified."""

    config: Annotated[str, Field(min_length=1)] | None = None
    split: Annotated[str, Field(max_length=100), only(SPLIT.fullmatch, "the name of one split: no slices, no sums")]
    source: Literal["auto", "hub", "local", "builtin"]
    text_column: Annotated[str, Field(min_length=1)] = "sentence"
    text_pair_column: Annotated[str, Field(min_length=1)] | None = None
    label_column: Annotated[str, Field(min_length=1)] | None = "label"
    labels: LabelReading | LabelMeanings | None = None
    calibration_path: UserPath | None = None
    calibration_share: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @field_validator("labels", mode="before")
    @classmethod
    def labels_have_a_meaning(cls, labels: object) -> object:
        """Refuse what is neither the name of a reading nor says of each label which of the model's it means."""
        if not isinstance(labels, dict):
            if labels is not None and labels not in get_args(LabelReading):
                raise ValueError(f"allowed: null, {', '.join(get_args(LabelReading))}, or what each label means")
            return labels
        for key, value in labels.items():
            is_known = isinstance(key, str | int) and isinstance(value, str | int | None)
            if not is_known or isinstance(value, bool):
                got = shortened(repr(value))
                raise ValueError(f"{key}: got {got}, allowed: the name or the number of a label of the model, or null")
        bare = [str(key).lower() for key in labels if not isinstance(key, str)]
        if 0 < len(bare) < len(labels):  # DVC sorts them
            raise ValueError(f"{bare[0]}: got a key without quotes beside texts, allowed: '{bare[0]}' in quotes")
        return labels

    @model_validator(mode="after")
    def calibration_fits_the_path(self) -> Self:
        if self.calibration_path is not None and self.path is None:
            raise ValueError("calibration_path: got a path without dataset.path, allowed: null, or both")
        return self

    def without_labels(self) -> Self:
        """Return the same with labels left unread: they are none that the model could be judged by."""
        return self.model_copy(update={"label_column": None})


class Timing(Section):
    """How long the rows of a device are timed, and with what."""

    minutes: Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
    target_interval: Annotated[float, Field(gt=0, lt=1)]
    warmup_runs: Positive
    worker_limit_seconds: PositiveSeconds
    accuracy_sentences: Positive = 5000
    accuracy_seconds: PositiveSeconds = 600.0
    cpu_threads: Literal["physical"] | Annotated[int, Field(ge=1, le=4096)]
    gpu_index: Annotated[int, Field(ge=0, le=255)]


class Serving(Section):
    """How rows are tried under load: requests that come one by one, at random times."""

    variants: Annotated[list[str], only(_is_each_once, "each variant once")]
    p99_ms: dict[Device, Milliseconds]
    max_batch: dict[Device, BatchSize]
    max_delay_ms: Annotated[float, Field(ge=0, le=60_000, allow_inf_nan=False)]
    instances: Annotated[int, Field(ge=1, le=64)]
    in_flight: dict[Device, Annotated[int, Field(ge=1, le=8)]]
    minutes: Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
    seconds: PositiveSeconds
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    search: bool = True
    input: Literal["tokens", "text"] = "tokens"
    tokenizer_threads: Annotated[int, Field(ge=0, le=4096)] = 0


class Lengths(Section):
    multiple_of: Annotated[int, Field(ge=1, le=1024)]


class Export(Section):
    opset: Literal["auto"] | Annotated[int, Field(ge=17, le=20)]
    max_abs_diff: PositiveNumber


class Int8(Section):
    """How INT8 graphs, and FP8's scales, are calibrated."""

    calibration_sentences: Positive


class TensorRT(Section):
    profiles: Literal["range", "per_batch"]
    optimization_level: Annotated[int, Field(ge=0, le=5)]
    workspace_mib: Positive


RISING = only(lambda budgets: budgets == sorted(set(budgets)), "each latency budget once, the smallest first")


class ReportSettings(Section):
    """How figures are judged; changes write the report anew and time nothing."""

    margin: Annotated[float, Field(ge=0, lt=1)]
    slo_p95_ms: Annotated[list[PositiveNumber], Field(min_length=1), RISING]
    max_memory_gib: PositiveNumber | None
    price_per_hour: dict[Device, PositiveNumber | None] = {}


class Tolerances(Section):
    """How far a row's logits may be from the reference; see `bench.timing.quality` for the two figures."""

    max_relative_error: PositiveNumber
    min_agreement: Annotated[float, Field(ge=0, le=1)]


class Gate(Tolerances):
    """The quality gate of one precision; `synthetic`: what holds for random weights instead."""

    max_accuracy_loss: Annotated[float, Field(ge=0, le=1)] | None = None
    synthetic: Tolerances | None = None


class Variant(Section):
    """One row group of the table: a runtime on a device with a precision, fed one graph."""

    runtime: str
    device: Device
    precision: Precision
    graph: Annotated[str, only(GRAPH.fullmatch, "model, or onnx/NAME.onnx as written by export_onnx or convert_onnx")]
    padding: Padding = "fixed"
    options: dict[str, str | bool | int] = {}


BatchSizes = Annotated[list[BatchSize], Field(min_length=1), only(_is_each_once, "each batch size once")]
BatchSizesOfDevices = Annotated[
    Annotated[BatchSizes, Tag("literal[list]")] | Annotated[dict[Device, BatchSizes], Tag("literal[dict]")],
    Discriminator(lambda given: "literal[dict]" if isinstance(given, dict) else "literal[list]"),
]
"""One list for all devices, or a list a device; the tags only choose which of the two a fault is told of."""


class Params(Section):
    model: Model
    dataset: Dataset
    sequence_length: Annotated[int, Field(ge=4, le=65_536)]
    lengths: Lengths
    batch_sizes: BatchSizesOfDevices
    precisions: dict[Precision, bool] = {}
    """Those that are not named are on: `is_on` tells."""
    timing: Timing
    serving: Serving
    export: Export
    int8: Int8
    tensorrt: TensorRT
    quality: dict[Precision, Gate]
    baselines: dict[Device, str]
    report: ReportSettings
    variants: Annotated[dict[str, Variant], Field(min_length=1)]
    tensorrt_variants: dict[str, Variant]
    _not_served: tuple[str, ...] = ()
    _remarks: tuple[str, ...] = ()

    @property
    def not_served(self) -> tuple[str, ...]:
        """Default entries of serving.variants that no variant is configured for."""
        return self._not_served

    @property
    def remarks(self) -> tuple[str, ...]:
        """What of the defaults was left out or cut, to be said in every report."""
        return self._remarks

    @model_validator(mode="after")
    def variants_fit_together(self) -> "Params":
        _check_runtimes("variants", self.variants, [name for name in runtime_names() if name != "tensorrt"])
        _check_runtimes("tensorrt_variants", self.tensorrt_variants, ["tensorrt"])
        if twice := sorted(set(self.variants) & set(self.tensorrt_variants)):
            what = "got a key that variants has too, allowed: a name of its own"
            raise ValueError(f"tensorrt_variants.{twice[0]}: {what}")
        of_devices = {f"serving.{name}": getattr(self.serving, name) for name in ("p99_ms", "max_batch", "in_flight")}
        of_devices["batch_sizes"] = self.batch_sizes
        for precision, device in ((row.precision, row.device) for row in self.all_variants().values()):
            if precision not in self.quality:
                raise ValueError(f"quality.{precision}: missing, allowed: an entry for each precision of the variants")
            for key, section in of_devices.items():
                if isinstance(section, dict) and device not in section:
                    raise ValueError(f"{key}.{device}: missing, allowed: an entry for each device of the variants")
        return _without_what_is_not_there(self)

    def all_variants(self) -> dict[str, Variant]:
        """Return the variants of both sections in the order of the table."""
        return {**self.variants, **self.tensorrt_variants}

    def variant(self, key: str, runtime: str = "") -> Variant:
        """Return the variant of this name, of a runtime if one is given; ParameterError if there is none."""
        variants = {name: row for name, row in self.all_variants().items() if runtime in ("", row.runtime)}
        if key not in variants:
            of_runtime = f" of {runtime}" if runtime else ""
            raise ParameterError(f"params.yaml: no variant {key!r}{of_runtime}, allowed: {', '.join(variants)}")
        return variants[key]

    def made_with(self, stage: str) -> dict[str, Any]:
        """Return what a stage before the timing was given, which it writes down: `dvc commit` changes that not."""
        return self.model_dump(mode="json", include=MADE_WITH[stage])

    def sizes(self, device: str) -> list[int]:
        return self.batch_sizes[device] if isinstance(self.batch_sizes, dict) else self.batch_sizes  # type: ignore[index]

    def max_batch(self, device: Device) -> int:
        """Return the most requests of a batch under load: serving.max_batch, within the batch sizes."""
        return min(max(self.serving.max_batch[device], min(self.sizes(device))), max(self.sizes(device)))

    def is_on(self, precision: Precision) -> bool:
        """Tell whether the rows of a precision are timed."""
        return self.precisions.get(precision, True)


def runtime_names() -> list[str]:
    """Return the runtimes that there is a file for in bench/runtimes."""
    folder = Path(__file__).parents[1] / "runtimes"
    return sorted(file.stem for file in folder.glob("*.py") if file.stem != "__init__")


def _check_runtimes(section: str, variants: dict[str, Variant], allowed: list[str]) -> None:
    for key, variant in variants.items():
        if not re.fullmatch("[a-z0-9_]+", key):
            raise ValueError(f"{section}.{key}: got a key with other characters, allowed: a-z, 0-9 and _")
        if variant.runtime not in allowed:
            raise ValueError(f"{section}.{key}.runtime: got {variant.runtime!r}, allowed: {', '.join(allowed)}")


def _without_what_is_not_there(params: Params) -> Params:
    """Return the parameters without default entries that are not there; ValueError for what the user wrote."""
    variants, serving = params.all_variants(), params.serving
    not_served = tuple(key for key in serving.variants if key not in variants)
    if wrong := [key for key in not_served if key not in DEFAULT_SERVED]:
        raise ValueError(f"serving.variants: got {wrong[0]!r}, allowed: {', '.join(variants)}")
    baselines = {device: name for device, name in params.baselines.items() if _is_baseline(device, name, variants)}
    served = [key for key in serving.variants if key in variants]
    kept = {"baselines": baselines, "serving": serving.model_copy(update={"variants": served})}
    found = params.model_copy(update=kept)
    found._not_served = not_served
    found._remarks = tuple(_remarks(params, found))
    return found


def _is_baseline(device: Device, name: str, variants: dict[str, Variant]) -> bool:
    """Tell whether a baseline is there; ValueError for one that is not and that the user wrote, or that is none."""
    of_device = {key: row for key, row in variants.items() if row.device == device}
    if not of_device or (name not in variants and name == DEFAULT_BASELINES[device]):
        return False
    allowed = [key for key, row in of_device.items() if (row.precision, row.padding) == ("fp32", "fixed")]
    if name not in allowed:
        choice = ", ".join(allowed) or f"none: no fp32 variant with fixed padding on {device} is configured"
        raise ValueError(f"baselines.{device}: got {name!r}, allowed: {choice}")
    return True


def _remarks(written: Params, kept: Params) -> Iterator[str]:
    if kept.not_served:
        yield f"serving.variants: without {', '.join(kept.not_served)} (no such variant)"
    for device in sorted({row.device for row in kept.all_variants().values()} & set(written.baselines)):
        if device not in kept.baselines:
            name = written.baselines[device]
            yield f"baselines.{device}: without {name} (no such variant), so no speed-up on {device}"
    for device in sorted({kept.all_variants()[key].device for key in kept.serving.variants}):
        size, taken = kept.serving.max_batch[device], kept.max_batch(device)
        if size != taken:
            end = "largest" if size > taken else "smallest"
            yield f"serving.max_batch.{device}: {taken} in place of {size}, the {end} of batch_sizes there"
    synthetic = kept.model.synthetic
    if synthetic.fitting_heads != synthetic.heads:
        heads = f"{synthetic.fitting_heads} in place of {synthetic.heads}"
        yield f"model.synthetic.heads: {heads}, which does not divide dim ({synthetic.dim})"


def load_params(path: Path = PARAMS) -> Params:
    """Read params.yaml; ParameterError with one message a fault, each with key, value and what is allowed."""
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise ParameterError(f"{path} is missing: run this in the project's folder, or `git checkout {path}`") from None
    except (YAMLError, UnicodeDecodeError, RecursionError) as problem:
        raise ParameterError(f"{path} is not valid YAML: {describe_yaml_fault(problem)}") from None
    if not isinstance(content, dict):
        raise ParameterError(f"{path} is empty or not a mapping: `git checkout {path}` restores it")
    try:
        return Params.model_validate(content)
    except ValidationError as problem:
        faults = describe_faults([dict(fault) for fault in problem.errors()], Params)
        raise ParameterError("\n       ".join(f"{path}: {fault}" for fault in faults)) from None
