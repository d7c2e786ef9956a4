"""What a row costs and how far it is from what the machine could do: limits, energy, and when an export pays."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from typing import Literal, Self

from bench.classifier.workload import Workload, limit_ms, loads
from bench.core.files import read_json
from bench.core.params import Variant
from bench.core.paths import CONVERSIONS, EXPORT, PEAKS
from bench.core.reports import GpuReading, Report, TimedCell, Work
from bench.core.schemas import Export, Peaks, Seconds, read_machine_id
from bench.summary.table_file import Row

Kind = Literal["computed", "given"]
KINDS: tuple[Kind, ...] = ("computed", "given")
COUNTER_STEP_SECONDS = 0.1
"""How far apart the steps of the GPU's energy counter are, at most (seen on an H100: some tens of milliseconds)."""
GPU_BOUND = 0.5
"""From this share of a call on, the GPU's work is the larger part of it."""


@dataclass(frozen=True)
class Recorded:
    """What the stages before wrote, beside the reports of variants: durations and peaks."""

    export: Row
    conversions: dict[str, Row]
    peaks: Row
    machine: str

    @classmethod
    def read(cls) -> Self:
        """Read metrics/export.json, convert/ and peaks.json; DataError if one is missing.

        Seconds that another machine took (the graphs came with git or `dvc pull`) are not this one's: left out.
        """
        mend, here = "`dvc repro` writes it anew", read_machine_id()
        files = sorted(CONVERSIONS.glob("*.json"))
        conversions = {file.stem: of_this_machine(read_json(file, mend, Seconds), here) for file in files}
        export = of_this_machine(read_json(EXPORT, mend, Export), here)
        return cls(export, conversions, read_json(PEAKS, mend, Peaks), here)

    def workload(self) -> Workload | None:
        """Return the sizes of the model that was exported; None where its operations are not known."""
        sizes = self.export["workload"]
        return Workload(**sizes) if sizes else None


def of_this_machine(found: Row, here: str) -> Row:
    """Return a record without the seconds of another machine."""
    is_own = found.get("machine", here) == here
    return {name: value for name, value in found.items() if is_own or "seconds" not in name}


def limits(workload: Workload | None, variant: Variant, batch_size: int, cell: TimedCell, peaks: Row) -> Row:
    """Return operations and bytes of a call, the time that the measured peaks allow, and its share of p50.

    `without_padding`: for the given tokens alone.  Empty for a model whose operations are not known.
    """
    if workload is None:
        return {}
    device = peaks.get(variant.device) or {}
    rates = device.get("operations_per_s", {}).get(variant.precision), device.get("bytes_per_s")
    computed, given = (amounts(workload, variant, batch_size, cell.work, kind) for kind in KINDS)
    found, least = (limit_ms(each["operations"], each["bytes_moved"], *rates) for each in (computed, given))
    if not found:
        return computed
    return {
        **computed,
        **found,
        "limit_share": found["limit_ms"] / cell.p50_ms,
        "limit_without_padding_ms": least["limit_ms"],
        "limit_without_padding_share": least["limit_ms"] / cell.p50_ms,
    }


def amounts(workload: Workload, variant: Variant, batch_size: int, work: Work, kind: Kind = "computed") -> Row:
    """Return operations and bytes of a call: the medians over a pass, as p50 is one."""
    each = loads(batch_size, work, kind)
    return {
        "operations": median(workload.flops(load) for load in each),
        "bytes_moved": median(workload.bytes_moved(load, variant.precision) for load in each),
    }


def tokens(batch_size: int, work: Work) -> Row:
    """Return the batches of a pass, and the mean tokens of a sentence: of it, with padding, and of the whole data."""
    sentences = len(work.given_tokens) * batch_size
    each = {"tokens_given": sum(work.given_tokens), "tokens_computed": sum(work.computed_tokens)}
    means = {name: total / sentences for name, total in each.items()}
    return {**means, "tokens_of_data": work.data_tokens}


def bound(p50_ms: float, gpu_busy_ms: float) -> Row:
    """Return the label `gpu-bound` or `host-bound` and the part of p50 in which the GPU does nothing."""
    label = "gpu-bound" if gpu_busy_ms >= GPU_BOUND * p50_ms else "host-bound"
    return {"bound": label, "host_ms": max(0.0, p50_ms - gpu_busy_ms)}


def energy(reading: GpuReading | None, samples: int) -> Row:
    """Return mJ a sample (`samples`: sentences meanwhile) from the GPU's own counter while a row ran alone.

    Its uncertainty is a step of the counter over the window.  Empty without a reading.
    """
    if reading is None or not reading.energy_j or not reading.window_seconds or not samples:
        return {}
    gross = reading.energy_j * 1000 / samples
    off = math.log1p(COUNTER_STEP_SECONDS / reading.window_seconds)
    limits = {"gross_energy_low": gross * math.exp(-off), "gross_energy_high": gross * math.exp(off)}
    return {"gross_energy_mj_per_sample": gross, **limits}


def one_off_seconds(
    variant: Variant, batch_size: int, export: Row, conversions: dict[str, Row], built: Row
) -> float | None:
    """Return the seconds of export, conversion and engine build (that of the batch size, where each has its own).

    None where a part of it was done on another machine.
    """
    if variant.graph == "model":
        return 0.0
    recipe = variant.graph.removeprefix("onnx/").removesuffix(".onnx")
    parts = [export.get("seconds"), *([conversions[recipe].get("seconds")] if recipe in conversions else [])]
    if built:
        parts.append(built.get("seconds_by_batch_size", {}).get(str(batch_size), built.get("build_seconds")))
    return None if None in parts else float(sum(filter(None, parts)))


def raised_peaks(recorded: Recorded, variants: Mapping[str, Variant], reports: Mapping[str, Report]) -> Row:
    """Return the peaks, each at least what the best row of its device and precision reached."""
    workload, raised = recorded.workload(), deepcopy(recorded.peaks)
    if workload is None:
        return raised
    for key, report in reports.items():
        variant = variants[key]
        device = raised[variant.device] or {}
        rates = device.get("operations_per_s", {})
        for size, cell in report.measured().items():
            reached, seconds = amounts(workload, variant, int(size), cell.work), cell.p50_ms / 1000
            if variant.precision in rates:
                rates[variant.precision] = max(rates[variant.precision], reached["operations"] / seconds)
            if "bytes_per_s" in device:
                device["bytes_per_s"] = max(device["bytes_per_s"], reached["bytes_moved"] / seconds)
    return raised
