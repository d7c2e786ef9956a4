"""Read and check params.yaml as a whole, before any work.

Checking never touches a device or imports a runtime; what a runtime supports is
checked by `bench.runtimes.base.registry.check_variant`, which imports that runtime's file alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bench.core.errors import ParameterError
from bench.core.files import read_yaml, shortened
from bench.core.model_inputs import Padding
from bench.core.paths import PARAMS

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]
Device = Literal["cpu", "cuda"]
RUNTIME_FILES = Path(__file__).parents[1] / "runtimes"
VARIANT_KEY = re.compile(r"[a-z0-9_]+")
CONVERTED = ("fp16", "fp16_fused", "int8_dynamic", "int8_static", "int8_qdq")
"""The graphs that are made of the exported one: `convert_onnx` in dvc.yaml has an entry for each."""

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
"""A count that some machine can meet: a larger number is a slip of the finger."""
Processes = Annotated[int, Field(ge=1, le=1_000)]
DAY_SECONDS = 86_400
Seconds = Annotated[float, Field(ge=0, le=DAY_SECONDS, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=DAY_SECONDS, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A section of params.yaml: no unknown keys, no silent conversions, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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
    def heads_divide_dim(self) -> Synthetic:
        if self.dim % self.heads:
            raise ValueError(f"heads: got {self.heads}, allowed: a divisor of dim ({self.dim})")
        return self


class FromHubOrPath(Section):
    """What is taken from the model hub, from the user's own files, or made here."""

    id: str
    revision: str
    source: str
    path: str | None = None

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


class Dataset(FromHubOrPath):
    """The sentences that are classified."""

    split: Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=100)]
    source: Literal["auto", "hub", "local", "builtin"]
    text_column: Annotated[str, Field(min_length=1)] = "sentence"
    text_pair_column: Annotated[str, Field(min_length=1)] | None = None
    label_column: Annotated[str, Field(min_length=1)] | None = "label"
    calibration_path: str | None = None
    calibration_share: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def calibration_fits_the_path(self) -> Dataset:
        if self.calibration_path is not None and self.path is None:
            raise ValueError("calibration_path: got a path without dataset.path, allowed: null, or both")
        return self

    def without_labels(self) -> Dataset:
        """Return the same with labels left unread: they are none that the model could be judged by."""
        return self.model_copy(update={"label_column": None})


class Timing(Section):
    """How long and how often each cell (variant and batch size) is timed."""

    processes: Processes
    max_processes: Processes
    target_interval: Annotated[float, Field(gt=0, lt=1)]
    more_rounds_seconds: Seconds
    warmup_runs: Positive
    min_runs: Positive
    min_seconds: Seconds
    max_seconds: PositiveSeconds
    worker_limit_seconds: PositiveSeconds
    cpu_threads: Literal["physical"] | Annotated[int, Field(ge=1, le=4096)]
    gpu_index: Annotated[int, Field(ge=0, le=255)]

    @model_validator(mode="after")
    def max_is_not_below_min(self) -> Timing:
        if self.max_processes < self.processes:
            raise ValueError(f"max_processes: got {self.max_processes}, allowed: at least processes ({self.processes})")
        if self.max_seconds < self.min_seconds:
            raise ValueError(f"max_seconds: got {self.max_seconds}, allowed: at least min_seconds ({self.min_seconds})")
        return self


class Serving(Section):
    """How rows are tried under load: requests that come one by one, at random times."""

    variants: list[str]
    p99_ms: dict[Device, Annotated[float, Field(gt=0, le=DAY_SECONDS * 1000, allow_inf_nan=False)]]
    max_batch: dict[Device, Annotated[int, Field(ge=1, le=65536)]]
    max_delay_ms: Annotated[float, Field(ge=0, le=60_000, allow_inf_nan=False)]
    instances: Annotated[int, Field(ge=1, le=64)]
    processes: Processes
    points: Annotated[int, Field(ge=2, le=1000)]
    seconds: PositiveSeconds
    max_seconds: PositiveSeconds
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]

    @field_validator("variants")
    @classmethod
    def each_variant_once(cls, variants: list[str]) -> list[str]:
        if len(set(variants)) != len(variants):
            raise ValueError("allowed: each variant once")
        return variants

    @field_validator("p99_ms", "max_batch")
    @classmethod
    def every_device_is_there(cls, section: dict[str, Any]) -> dict[str, Any]:
        return _complete(section, get_args(Device))


def _complete(section: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return a section that has an entry for each name; ValueError names the first that it lacks."""
    missing = [name for name in names if name not in section]
    if missing:
        raise ValueError(f"{missing[0]}: missing, allowed: an entry for each of {', '.join(names)}")
    return section


class Lengths(Section):
    """How sentences of different lengths are put into a batch."""

    multiple_of: Annotated[int, Field(ge=1, le=1024)]


class Export(Section):
    """How the ONNX graph is made."""

    opset: Literal["auto"] | Annotated[int, Field(ge=17, le=20)]
    max_abs_diff: Tolerance


class Int8(Section):
    """How INT8 graphs are calibrated."""

    calibration_sentences: Positive


class TensorRT(Section):
    """How TensorRT engines are built."""

    profiles: Literal["range", "per_batch"]
    optimization_level: Annotated[int, Field(ge=0, le=5)]
    workspace_mib: Positive


class ReportSettings(Section):
    """How figures are judged; changes write the report anew and time nothing."""

    margin: Annotated[float, Field(ge=0, lt=1)]
    slo_p95_ms: Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
    max_memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    price_per_hour: dict[Device, Annotated[float, Field(gt=0, allow_inf_nan=False)] | None] = {}

    @field_validator("slo_p95_ms")
    @classmethod
    def budgets_rise(cls, budgets: list[float]) -> list[float]:
        if sorted(set(budgets)) != budgets:
            raise ValueError("allowed: each latency budget once, the smallest first")
        return budgets


class Tolerances(Section):
    """How far a row's logits may be from the reference; see `bench.timing.quality` for the two figures."""

    max_relative_error: Tolerance
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
    graph: str
    padding: Padding = "fixed"
    options: dict[str, str | bool | int] = {}

    @field_validator("graph")
    @classmethod
    def graph_is_an_artifact(cls, graph: str) -> str:
        if graph != "model" and not re.fullmatch(r"onnx/[a-z0-9_]+\.onnx", graph):
            raise ValueError("allowed: model, or onnx/NAME.onnx as written by export_onnx or convert_onnx")
        return graph


BatchSizes = Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=1)]
BatchSizesOfDevices = Annotated[
    Annotated[BatchSizes, Tag("literal[list]")] | Annotated[dict[Device, BatchSizes], Tag("literal[dict]")],
    Discriminator(lambda given: "literal[dict]" if isinstance(given, dict) else "literal[list]"),
]
"""One list for all devices, or a list a device; the tags only choose which of the two a fault is told of."""


class Params(Section):
    """All of params.yaml."""

    model: Model
    dataset: Dataset
    sequence_length: Annotated[int, Field(ge=4, le=65_536)]
    lengths: Lengths
    batch_sizes: BatchSizesOfDevices
    precisions: dict[Precision, bool]
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

    @field_validator("batch_sizes")
    @classmethod
    def each_batch_size_once(cls, sizes: list[int] | dict[str, list[int]]) -> list[int] | dict[str, list[int]]:
        if not isinstance(sizes, dict):
            if len(set(sizes)) != len(sizes):
                raise ValueError("allowed: each batch size once")
            return sizes
        for device in get_args(Device):
            if device not in sizes:
                raise ValueError(f"{device}: missing, allowed: a list of batch sizes for each device, or one for both")
            if len(set(sizes[device])) != len(sizes[device]):
                raise ValueError(f"{device}: got {shortened(str(sizes[device]))}, allowed: each batch size once")
        return sizes

    @field_validator("precisions", "quality")
    @classmethod
    def every_precision_is_there(cls, section: dict[str, Any]) -> dict[str, Any]:
        return _complete(section, get_args(Precision))

    @model_validator(mode="after")
    def variants_fit_together(self) -> Params:
        _check_runtimes("variants", self.variants, [name for name in runtime_names() if name != "tensorrt"])
        _check_runtimes("tensorrt_variants", self.tensorrt_variants, ["tensorrt"])
        twice = sorted(set(self.variants) & set(self.tensorrt_variants))
        if twice:
            raise ValueError(
                f"tensorrt_variants.{twice[0]}: got a key that variants has too, allowed: a name of its own"
            )
        _check_baselines(self)
        _check_serving(self)
        return self

    def all_variants(self) -> dict[str, Variant]:
        """Return the variants of both sections in the order of the table."""
        return {**self.variants, **self.tensorrt_variants}

    def variant(self, key: str) -> Variant:
        """Return the variant of this name from variants; ParameterError if there is none."""
        return _named(key, self.variants, "")

    def tensorrt_variant(self, key: str) -> Variant:
        """Return the variant of this name from tensorrt_variants; ParameterError if there is none."""
        return _named(key, self.tensorrt_variants, " in tensorrt_variants")

    def sizes(self, device: str) -> list[int]:
        """Return the batch sizes of a device."""
        return self.batch_sizes[device] if isinstance(self.batch_sizes, dict) else self.batch_sizes  # type: ignore[index]

    def is_on(self, variant: Variant) -> bool:
        """Tell whether the variant's precision is switched on."""
        return self.precisions[variant.precision]


def _named(key: str, variants: dict[str, Variant], where: str) -> Variant:
    if key not in variants:
        raise ParameterError(f"params.yaml: no variant {key!r}{where}, allowed: {', '.join(variants)}")
    return variants[key]


def runtime_names() -> list[str]:
    """Return the runtimes that there is a file for in bench/runtimes."""
    return sorted(file.stem for file in RUNTIME_FILES.glob("*.py") if file.stem != "__init__")


def _check_runtimes(section: str, variants: dict[str, Variant], allowed: list[str]) -> None:
    for key, variant in variants.items():
        if not VARIANT_KEY.fullmatch(key):
            raise ValueError(f"{section}.{key}: got a key with other characters, allowed: a-z, 0-9 and _")
        if variant.runtime not in allowed:
            raise ValueError(f"{section}.{key}.runtime: got {variant.runtime!r}, allowed: {', '.join(allowed)}")


def _check_baselines(params: Params) -> None:
    variants = params.all_variants()
    for device, name in params.baselines.items():
        allowed = [key for key, row in variants.items() if _can_be_baseline(row, device)]
        if name not in allowed:
            choice = ", ".join(allowed) or f"none: no fp32 variant with fixed padding on {device} is configured"
            raise ValueError(f"baselines.{device}: got {name!r}, allowed: {choice}")


def _check_serving(params: Params) -> None:
    variants, serving = params.all_variants(), params.serving
    for key in serving.variants:
        if key not in variants:
            raise ValueError(f"serving.variants: got {key!r}, allowed: {', '.join(variants)}")
    for device, size in serving.max_batch.items():
        largest = max(params.sizes(device))
        if size > largest:
            raise ValueError(
                f"serving.max_batch.{device}: got {size}, allowed: at most the largest of batch_sizes there ({largest})"
            )


def _can_be_baseline(variant: Variant, device: str) -> bool:
    return (variant.device, variant.precision, variant.padding) == (device, "fp32", "fixed")


def load_params(path: Path = PARAMS) -> Params:
    """Read params.yaml; ParameterError with one message a fault, each with key, value and what is allowed."""
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise ParameterError(f"{path} is missing: run this in the project's folder, or `git checkout {path}`") from None
    except (YAMLError, UnicodeDecodeError, RecursionError) as problem:
        raise ParameterError(f"{path} is not valid YAML: {_yaml_fault(problem)}") from None
    if not isinstance(content, dict):
        raise ParameterError(f"{path} is empty or not a mapping: `git checkout {path}` restores it")
    try:
        return Params.model_validate(content)
    except ValidationError as problem:
        faults = dict.fromkeys(_describe(dict(fault)) for fault in problem.errors())
        raise ParameterError("\n       ".join(f"{path}: {fault}" for fault in faults)) from None


def _describe(fault: dict[str, Any]) -> str:
    """Turn one of pydantic's faults into `key: got value, allowed: …`."""
    location = [part for part in fault["loc"] if not (isinstance(part, str) and _is_union_tag(part))]
    key = _dotted(location)
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key, allowed: {', '.join(_allowed_keys(location[:-1]))}"
    if fault["type"] == "missing":
        return f"{key}: missing, allowed: a value as in the comments of params.yaml"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return f"{key}.{message}" if key else message
    allowed = message.removeprefix("allowed: ").removeprefix("Input should be ")
    return f"{key}: got {shortened(repr(fault['input']))}, allowed: {shortened(allowed)}"


def _yaml_fault(problem: Exception) -> str:
    """Return what is wrong and where, without the parser's advice about itself."""
    if isinstance(problem, MarkedYAMLError) and problem.problem_mark:
        mark = problem.problem_mark
        return shortened(f"line {mark.line + 1}, column {mark.column + 1}: {problem.problem}")
    return shortened(str(problem))


def _is_union_tag(part: str) -> bool:
    return part.startswith(("literal[", "constrained-int", "int", "function-")) and part not in ("int8",)


def _dotted(location: list[str | int]) -> str:
    text = ""
    for part in location:
        if part == "[key]":
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _allowed_keys(location: list[str | int]) -> list[str]:
    """Return the keys of the section at this place of params.yaml."""
    section: Any = Params
    for part in location:
        if get_origin(section) in (dict, Union):
            section = get_args(section)[-1]
        else:
            section = section.model_fields[str(part)].annotation
    if get_origin(section) is dict:
        section = get_args(section)[-1]
    return list(section.model_fields)
