"""What the measurements were made on and with, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.files import read_json
from bench.core.params import ReportSettings, load_params
from bench.core.paths import EXPORT, LENGTHS, REQUIREMENTS
from bench.core.schemas import Export, Lengths, read_environment, read_provenance

BUILT_IN = "built-in"
"""How the name of the sentences that come with this project begins."""


@dataclass(frozen=True)
class Context:
    """The probe's findings, the model's provenance and how figures are judged."""

    environment: dict[str, Any]
    provenance: dict[str, Any]
    export: dict[str, Any]
    settings: ReportSettings
    lengths: dict[str, Any] = field(default_factory=dict)
    """metrics/lengths.json; empty for a run that an older version kept."""
    pins: dict[str, str] = field(default_factory=dict)
    sequence_length: int = 0

    @property
    def is_real(self) -> bool:
        """Whether the weights are the real model's."""
        return bool(self.provenance["model_is_real"])

    def stand_in(self) -> str:
        """Say in a heading that a stand-in was measured, and for which model; empty for a real one."""
        if self.is_real:
            return ""
        wanted = self.provenance.get("stands_for")
        return f" of a stand-in ({self.provenance['model']}{f', for {wanted}' if wanted else ''})"

    def what_holds(self) -> str:
        """Say for what the latencies of a stand-in hold."""
        wanted = self.provenance.get("stands_for")
        return f"latencies hold for {wanted or 'the real model'} if it has this architecture and these sizes"

    def warning(self) -> str:
        """Say behind the model's name that its weights are random; empty for a real one."""
        return "" if self.is_real else f". THE WEIGHTS ARE RANDOM: {self.what_holds()}; predictions mean nothing"

    def model(self) -> str:
        """Say which model and sentences were measured."""
        return f"{self.provenance['model']}; {self.provenance['sentences']}"

    def length_text(self) -> str:
        """Say how long the sentences are and how much of a batch of fixed length is padding; empty if not known."""
        if not self.lengths:
            return ""
        found = self.lengths
        cut = f"; {found['at_limit']} of them fill the limit and may have been cut" if found["at_limit"] else ""
        spread = f"95% up to {found['p95_tokens']:.0f}, longest {found['longest_tokens']}"
        return (
            f"{found['sentences']} sentences of {found['mean_tokens']:.1f} tokens on average (median "
            f"{found['median_tokens']:g}, {spread}){cut}; padded to the sequence length, "
            f"{found['padding_share']:.0%} of a batch is padding"
        )

    def length_warning(self) -> str:
        """Say that the lengths are not the user's: of the built-in sentences, or counted by a stand-in's tokenizer."""
        if not self.lengths:
            return ""
        if not self.provenance["sentences"].startswith(BUILT_IN):
            counted = "The lengths are counted by the stand-in's tokenizer, which has a token for each word"
            return "" if self.is_real else counted
        return (
            "THE LENGTHS ARE THOSE OF BUILT-IN SENTENCES, not of your data: rows that pad less than to the sequence "
            "length are as fast as this only for lengths like these (set dataset.path)"
        )

    def cpu(self) -> str:
        """Say which CPU."""
        cpu = self.environment["cpu"]
        quota = f", a quota of {cpu['quota_cpus']:g} CPUs" if "quota_cpus" in cpu else ""
        governor = f", governor {cpu['governor']}" if "governor" in cpu else ""
        return f"{cpu['model']}, {cpu['cores']} cores{quota}{governor}"

    def gpu(self) -> str:
        """Say which GPU, with driver, CUDA and cuDNN."""
        gpu = self.environment["cuda"]
        if not gpu:
            return "none"
        memory = f"{gpu['memory_mib']} MiB" if gpu["memory_mib"] else "memory not told"
        limits = [f"power limit {gpu['power_limit_w']} W"] if "power_limit_w" in gpu else []
        parts = [memory, *(["a MIG part"] if gpu.get("mig") else []), *limits, f"1 of {gpu['count']}"]
        software = f"driver {gpu['driver']}, CUDA {gpu['cuda']}, cuDNN {gpu['cudnn']}"
        return f"{gpu['gpu']} ({', '.join(parts)}), {software}"

    def device(self, name: str) -> str:
        """Say which hardware `cpu` or `cuda` stands for."""
        return self.cpu() if name == "cpu" else self.gpu()

    def variables(self) -> str:
        """List the recorded environment variables that change speed."""
        return ", ".join(f"{name}={value}" for name, value in self.environment.get("variables", {}).items())

    def libraries(self) -> str:
        """List the library versions that are installed."""
        versions = self.environment["versions"]
        found = [f"{name} {version}" for name, version in versions.items() if version]
        return ", ".join([f"Python {self.environment['python']}", *found])

    def unlike_the_pins(self) -> list[str]:
        """List the libraries whose installed version is not the one that requirements.txt pins."""
        versions = self.environment["versions"]
        return [
            f"{name} {versions[name]} (pinned: {pin})"
            for name, pin in self.pins.items()
            if versions.get(name) and versions[name].split("+")[0] != pin
        ]

    def hardware_lines(self) -> list[str]:
        """Return `name: value` lines for the head of a report."""
        unlike = self.unlike_the_pins()
        return [
            *([f"Lengths: {self.length_text()}"] if self.lengths else []),
            *([self.length_warning()] if self.length_warning() else []),
            f"GPU: {self.gpu()}",
            f"CPU: {self.cpu()}",
            f"System: {self.environment['os']}",
            f"Libraries: {self.libraries()}",
            *([f"Variables in force: {self.variables()}"] if self.variables() else []),
            *([f"Not the pinned versions: {', '.join(unlike)}"] if unlike else []),
        ]


def read_context() -> Context:
    """Read what `probe`, `download` and `export_onnx` wrote; DataError if one is missing or damaged."""
    export = read_json(EXPORT, "`dvc repro export_onnx` writes it anew", Export)
    lengths = read_json(LENGTHS, "`dvc repro prepare_inputs` writes it anew", Lengths)
    params = load_params()
    length = params.sequence_length
    return Context(read_environment(), read_provenance(), export, params.report, lengths, read_pins(), length)


def read_pins(path: Path = REQUIREMENTS) -> dict[str, str]:
    """Return the pinned version of each library, by the name under which it is imported; empty without the file."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    pins = [match for line in lines if (match := re.match(r"([\w.-]+)==([\w.]+)", line))]
    return {match[1].removesuffix("-gpu").replace("-", "_"): match[2] for match in pins}
