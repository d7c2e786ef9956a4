"""Faults of params.yaml as `key: got value, allowed: …`, from what pydantic and the YAML parser find."""

import re
from collections.abc import Callable
from datetime import date
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel
from ruamel.yaml.error import MarkedYAMLError

from bench.core.files import shortened

TIMING = ("processes", "max_processes", "more_rounds_seconds", "min_runs", "min_seconds", "max_seconds")
SERVING = ("processes", "points", "max_seconds")
GONE = {
    "int8_by": "graph: onnx/int8_qdq.onnx makes an INT8 engine",
    **{f"timing.{name}": "timing.minutes says how long a device is timed" for name in TIMING},
    **{f"serving.{name}": "serving.minutes says how long the rows of a device are tried" for name in SERVING},
}
"""Keys of older versions, or their last part, and what took their place."""

ALLOWED = ", allowed: "
EMPTY = {"dict_type": "a mapping, {} for an empty one", "list_type": "a list, [] for an empty one"}
"""What is allowed in the place of a key that nothing follows."""
SCALARS = {"str": "a text", "bool": "true, false", "int": "a whole number"}
"""What an option may be, by pydantic's name of the type."""
UNION_TAGS = ("literal[", "constrained-")


def successor(key: str) -> str:
    """Return what took the place of a key that an older params.yaml may hold, ; empty for any other."""
    found = GONE.get(key) or GONE.get(key.rpartition(".")[2])
    return f" of an older version ({found})" if found else ""


def only(fits: Callable[[Any], object], allowed: str) -> AfterValidator:
    """Refuse a value that does not fit, with what is allowed."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError(f"allowed: {allowed}")
        return value

    return AfterValidator(check)


def describe_faults(faults: list[dict[str, Any]], model: type[BaseModel]) -> list[str]:
    """Return the texts of pydantic's faults, one a value: what may stand there in place of it is joined."""
    allowed: dict[str, list[str]] = {}
    for fault in faults:
        what, mark, choice = describe_fault(fault, model).partition(ALLOWED)
        allowed.setdefault(what + mark, []).append(choice)
    return [what + " or ".join(dict.fromkeys(choices)) for what, choices in allowed.items()]


def describe_fault(fault: dict[str, Any], model: type[BaseModel]) -> str:
    """Return the text of one of pydantic's faults; `model`: the one that was validated."""
    location = [part for part in fault["loc"] if part not in SCALARS and not str(part).startswith(UNION_TAGS)]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != "[key]")
    key = key.lstrip(".")
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key{successor(key)}, allowed: {', '.join(_allowed_keys(model, location[:-1]))}"
    if fault["type"] == "missing":
        return f"{key}: missing, allowed: a value as in the comments of params.yaml"
    if fault["loc"][-1:] and fault["loc"][-1] in SCALARS:
        return f"{key}: got {shortened(repr(fault['input']))}, allowed: {', '.join(SCALARS.values())}"
    if fault["type"] == "string_type" and isinstance(fault["input"], int | float | date):
        got = repr(fault["input"])
        return f"{key}: got {got}, allowed: a text: YAML reads another kind of value here: put it in quotes"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return f"{key}.{message}" if key else message
    allowed = message.removeprefix("allowed: ").removeprefix("Input should be ")
    allowed = re.sub(r"a valid dictionary( or instance of \w+)?", "a mapping of keys to values", allowed)
    is_null = fault["input"] is None
    got, allowed = ("null", EMPTY.get(fault["type"], allowed)) if is_null else (repr(fault["input"]), allowed)
    return f"{key}: got {shortened(got)}, allowed: {shortened(allowed)}"


def describe_yaml_fault(problem: Exception) -> str:
    """Return what is wrong and where, without the parser's advice about itself."""
    if isinstance(problem, MarkedYAMLError) and problem.problem_mark:
        mark = problem.problem_mark
        return shortened(f"line {mark.line + 1}, column {mark.column + 1}: {problem.problem}")
    return shortened(str(problem))


def _allowed_keys(section: Any, location: list[str | int]) -> list[str]:
    for part in location:
        is_dict = get_origin(section) is dict
        section = get_args(section)[-1] if is_dict else section.model_fields[str(part)].annotation
        if get_origin(section) is UnionType:  # with None
            section = get_args(section)[0]
    return list(section.model_fields)
