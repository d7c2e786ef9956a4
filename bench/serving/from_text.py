"""Serve each device's best row once more, from text: artifacts/served_text/DEVICE.json."""

from typing import Any, cast

from typing_extensions import TypedDict

from bench.core.files import file_sha256, read_json, read_model, write_json
from bench.core.params import Device, Params
from bench.core.paths import BEST, FAST_TOKENIZER, SERVED, SERVED_TEXT
from bench.core.progress import log
from bench.core.reports import Served, ServedText, ServingSettings, TokenizingTime
from bench.core.schemas import Count, Latency, read_environment
from bench.core.shared import code_of
from bench.inputs.texts import why_not_fast
from bench.machine.cores import tokenizer_threads
from bench.serving.coordinator import without_load
from bench.serving.group import ServedGroup
from bench.serving.rows import ServedVariant
from bench.statistics.served_together import held_by
from bench.timing.resident import in_groups

SHARE = 1 / 3
"""Of `serving.minutes`: the row is known already, and so is about what it holds."""
ALL_TEXT = "serving.input is text: every row is served from text"
NONE_BEST = "no row sustains a rate from tokens"


class Best(TypedDict):
    """artifacts/best/DEVICE.json; `report`: the SHA-256 of the row's report from tokens.

    `settings`: those that a search found and the passes proved to sustain more; empty: the row's own.
    """

    variant: str
    requests_per_s: Latency | None
    settings: dict[str, Count]
    report: str
    input: str
    tokenizer_threads: Count
    versions: dict[str, str | None]
    code: dict[str, str]


def served_on(device: Device, params: Params) -> dict[str, Served]:
    """Return what each row of a device did under load."""
    keys = [key for key in params.serving.variants if params.variant(key).device == device]
    return {key: _report(key) for key in keys}


def _report(key: str) -> Served:
    return read_model(SERVED / f"{key}.json", f"`dvc repro -f serve@{key}` serves it again", Served)


def best_row(device: Device, params: Params) -> Best:
    """Return which row sustains most requests, and all that serving it from text depends on."""
    held = held_by(served_on(device, params), params.report.margin)
    best = max(held, key=lambda key: held[key].per_s, default="")
    settings = held[best].settings if best else None
    return {
        "variant": best,
        "requests_per_s": held[best].per_s if best else None,
        "settings": settings.as_dict() if settings else {},
        "report": file_sha256(SERVED / f"{best}.json") if best else "",
        "input": params.serving.input,
        "tokenizer_threads": tokenizer_threads(params, device),
        "versions": {"tokenizers": read_environment()["versions"].get("tokenizers")},
        "code": code_of("text_barrier"),
    }


def serve_best(device: Device, params: Params) -> None:
    """Serve the row that `best_row` named, and write artifacts/served_text/DEVICE.json."""
    best = cast(Best, read_json(BEST / f"{device}.json", "`dvc repro text_barrier` writes it anew", Best))
    report = _served(device, best, params)
    write_json(SERVED_TEXT / f"{device}.json", report.as_dict())
    log(f"  {report.variant or device} from text: {report.status}{': ' + report.reason if report.reason else ''}")


def _served(device: Device, best: Best, params: Params) -> ServedText:
    key, rate = best["variant"], best["requests_per_s"]
    settings = ServingSettings.model_validate(best["settings"]) if best["settings"] else None
    params = with_settings(params, device, settings, best["tokenizer_threads"])
    serving = {"input": "text", "search": False, "minutes": SHARE * params.serving.minutes}
    params = params.model_copy(update={"serving": params.serving.model_copy(update=serving)})
    if best["input"] == "text" or rate is None:
        return _without_load(device, params, ALL_TEXT if best["input"] == "text" else NONE_BEST)
    report = _report(key)
    session = report.session.id if report.session else ""
    of_tokens: dict[str, Any] = {"variant": key, "settings": settings, "tokens_per_s": rate, "tokens_session": session}
    if reason := why_not_fast(FAST_TOKENIZER):
        return _without_load(device, params, reason, **of_tokens)
    row = ServedVariant(key, key, params.variant(key), rate, report.closed_loop_per_s or rate)
    for group, served in in_groups(TextGroup, [row], params):
        return ServedText(**group.outcome(served).model_dump(), **of_tokens, tokenizing=group.tokenizing)
    raise AssertionError("a row that is asked for is served, or told why not")


def with_settings(params: Params, device: Device, settings: ServingSettings | None, tokenizer_threads: int) -> Params:
    """Return the parameters with those settings that a row did best with, the same where it was with its own."""
    if settings is None:
        return params
    serving: dict[str, Any] = {name: {device: getattr(settings, name)} for name in ("in_flight", "max_batch")}
    serving |= {"instances": settings.instances, "tokenizer_threads": tokenizer_threads}
    timing = {"cpu_threads": settings.cpu_threads or params.timing.cpu_threads}
    sections = {"serving": params.serving.model_copy(update=serving), "timing": params.timing.model_copy(update=timing)}
    return params.model_copy(update=sections)


def _without_load(device: Device, params: Params, reason: str, **more: Any) -> ServedText:
    return ServedText(**without_load(device, params, "skipped", reason).model_dump(), **more)


class TextGroup(ServedGroup):
    """One row that is served from text, by one process, without a no-op backend beside it."""

    def run(self) -> list[ServedVariant]:
        """Serve the row; it needs no other group."""
        [row] = self.rows
        self.tokenizing: list[TokenizingTime] = []
        self.bench.start([row.name])
        if found := self.bench.ask(row.name, 0, self.params.timing.worker_limit_seconds, "tokenizing"):
            self.tokenizing = [TokenizingTime.model_validate(each) for each in found["times"]]
        self.passes = self._passes()
        self.passes.run()
        self.bench.hand_over(self.passes.rows)
        return []
