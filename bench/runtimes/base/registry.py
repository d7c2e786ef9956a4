"""Find a runtime by its name: one file each in bench/runtimes."""

import importlib
from collections.abc import Iterable
from typing import Protocol

from bench.core.errors import ParameterError
from bench.core.model_inputs import Padding
from bench.core.params import Variant
from bench.core.params_faults import successor
from bench.runtimes.base.session import Session, SessionSpec


class RuntimeModule(Protocol):
    """What a runtime's file defines; it imports its library inside functions only: a machine may be without it."""

    LIBRARIES: tuple[str, ...]  # whose versions make its timings stale
    SUPPORTED: frozenset[tuple[str, str]]  # the pairs of device and precision that it can run
    PADDINGS: tuple[Padding, ...]  # how the sentences of a batch may be padded for it
    OPTIONS: dict[str, tuple[str | bool | int, ...]]  # its options and, for each, the values allowed

    def import_libraries(self) -> None: ...  # nothing is loaded onto a device yet

    def open_session(self, spec: SessionSpec) -> Session: ...


def import_runtime(name: str) -> RuntimeModule:
    """Return the module of a runtime; its library is not imported yet."""
    module: RuntimeModule = importlib.import_module(f"bench.runtimes.{name}")
    return module


def check_variant(key: str, variant: Variant) -> None:
    """Raise ParameterError if the variant's runtime does not offer what it asks for."""
    runtime = import_runtime(variant.runtime)
    where = f"{'tensorrt_variants' if variant.runtime == 'tensorrt' else 'variants'}.{key}"
    if (variant.device, variant.precision) not in runtime.SUPPORTED:
        pairs = (f"{precision} on {device}" for device, precision in sorted(runtime.SUPPORTED))
        raise _refused(
            f"{where}.precision", f"got {variant.precision!r} on {variant.device} for {variant.runtime}", pairs
        )
    if variant.padding not in runtime.PADDINGS:
        raise _refused(f"{where}.padding", f"got {variant.padding!r} for {variant.runtime}", runtime.PADDINGS)
    for option, value in variant.options.items():
        if option not in runtime.OPTIONS:
            raise _refused(f"{where}.options.{option}", f"unknown key{successor(option)}", runtime.OPTIONS)
        if value not in runtime.OPTIONS[option]:
            raise _refused(f"{where}.options.{option}", f"got {value!r}", runtime.OPTIONS[option])


def _refused(key: str, what: str, allowed: Iterable[object]) -> ParameterError:
    return ParameterError(f"params.yaml: {key}: {what}, allowed: {', '.join(map(str, allowed)) or 'none'}")
