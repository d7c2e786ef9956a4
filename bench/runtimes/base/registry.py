"""Find a runtime by its name: one file each in bench/runtimes.

A runtime file defines
    LIBRARIES   the libraries whose version makes its timings stale
    SUPPORTED   the (device, precision) pairs that it can run
    PADDINGS    how the sentences of a batch may be padded for it
    OPTIONS     its options and, for each, the values allowed
    import_libraries()   imports them; nothing is loaded onto a device yet
    open_session(spec) -> Session
and imports its library inside functions only, so that a machine without one runtime measures the others.
"""

from __future__ import annotations

import importlib
from typing import Protocol

from bench.core.errors import ParameterError
from bench.core.model_inputs import Padding
from bench.core.params import Variant
from bench.runtimes.base.session import Session, SessionSpec


class RuntimeModule(Protocol):
    """What every file in this folder offers."""

    LIBRARIES: tuple[str, ...]
    SUPPORTED: frozenset[tuple[str, str]]
    PADDINGS: tuple[Padding, ...]
    OPTIONS: dict[str, tuple[str | bool | int, ...]]

    def import_libraries(self) -> None: ...

    def open_session(self, spec: SessionSpec) -> Session: ...


def import_runtime(name: str) -> RuntimeModule:
    """Return the module of a runtime; its library is not imported yet."""
    module: RuntimeModule = importlib.import_module(f"bench.runtimes.{name}")
    return module


def check_variant(key: str, variant: Variant) -> None:
    """Raise ParameterError if the variant's runtime does not offer what it asks for."""
    runtime = import_runtime(variant.runtime)
    if (variant.device, variant.precision) not in runtime.SUPPORTED:
        pairs = ", ".join(f"{precision} on {device}" for device, precision in sorted(runtime.SUPPORTED))
        raise ParameterError(
            f"params.yaml: {key}.precision: got {variant.precision!r} on {variant.device} "
            f"for {variant.runtime}, allowed: {pairs}"
        )
    if variant.padding not in runtime.PADDINGS:
        got, allowed = f"got {variant.padding!r} for {variant.runtime}", ", ".join(runtime.PADDINGS)
        raise ParameterError(f"params.yaml: {key}.padding: {got}, allowed: {allowed}")
    for option, value in variant.options.items():
        if option not in runtime.OPTIONS:
            allowed = ", ".join(runtime.OPTIONS) or "none"
            raise ParameterError(f"params.yaml: {key}.options.{option}: unknown option, allowed: {allowed}")
        if value not in runtime.OPTIONS[option]:
            allowed = ", ".join(map(str, runtime.OPTIONS[option]))
            raise ParameterError(f"params.yaml: {key}.options.{option}: got {value!r}, allowed: {allowed}")
