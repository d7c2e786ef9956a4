"""Better settings of rows under load: which are tried, which are found, and what is said where the time is over."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Project
from test_serving import MadeUp

from bench.core.params import load_params
from bench.core.reports import ServingSearch, ServingSettings
from bench.serving.exploration import NO_TIME, Climb, Exploration, Space, default_settings, search_seconds
from bench.serving.passes import LoadPasses
from bench.serving.search import Search
from bench.statistics.rate_curve import sustained_per_s

KEY = "ort_cpu_fp32"
DEFAULT = ServingSettings(in_flight=1, max_batch=8, instances=1, cpu_threads=4)
SPACE = Space([1, 2, 4, 8, 16, 32], cpu_threads=4)
Factor = Callable[[ServingSettings], float]


def climbed(edge: Callable[[ServingSettings], int], space: Space = SPACE) -> tuple[Climb, list[ServingSettings]]:
    """Climb where settings meet the SLO up to a place; return the climb, and which settings were tried in turn."""
    tried: list[ServingSettings] = []

    def meets(settings: ServingSettings, place: int) -> bool:
        tried.append(settings)
        return place <= edge(settings)

    search = Search(0)
    while not search.is_bracketed:
        search.tell(search.place <= edge(DEFAULT))
    climb = Climb(DEFAULT, search, meets)
    climb.run(space)
    return climb, list(dict.fromkeys(tried))


def test_the_best_settings_are_found_one_at_a_time() -> None:
    def edge(settings: ServingSettings) -> int:
        by_batch = {1: -9, 2: -6, 4: -2, 8: 0, 16: 3, 32: 5}[settings.max_batch]
        return 2 * settings.in_flight + by_batch - 4 * (settings.instances - 2) ** 2

    climb, tried = climbed(edge)
    best = ServingSettings(in_flight=2, max_batch=32, instances=2, cpu_threads=2)
    assert climb.settings == best
    assert climb.search.is_bracketed
    assert climb.search.missed == edge(best) + 1
    changes = [len(set(vars(a).items()) - set(vars(b).items())) for a, b in zip(tried[1:], tried, strict=False)]
    assert max(changes) <= 3
    assert len(tried) < 12


def test_equal_settings_stay_the_rows_own_and_each_neighbour_is_tried_once() -> None:
    climb, tried = climbed(lambda _: 4)
    assert climb.settings == DEFAULT
    assert [each.text() for each in tried] == [
        "batches of at most 8, 2 in flight, 1 session, 4 threads",
        "batches of at most 4, 1 in flight, 1 session, 4 threads",
        "batches of at most 16, 1 in flight, 1 session, 4 threads",
        "batches of at most 8, 1 in flight, 2 sessions, 2 threads each",
    ]


def test_there_are_never_more_sessions_than_threads_and_on_a_gpu_threads_are_left_alone() -> None:
    _, tried = climbed(lambda settings: settings.instances, Space([8], cpu_threads=2))
    assert {(each.instances, each.cpu_threads) for each in tried if each.instances > 1} == {(2, 1)}
    gpu = DEFAULT.model_copy(update={"cpu_threads": None})
    _, above = Space([8], None).directions(gpu, "instances")
    assert [(each.instances, each.cpu_threads) for each in above] == [(2, None), (4, None)]


class Searchable(MadeUp):
    """Rows that sustain other rates with other settings; `start_seconds`: of a process of its own."""

    start_seconds = 3.0

    def with_factor(self, factor: Factor) -> Searchable:
        self.factor, self.started = factor, list[str]()
        self.own = dict(self.holds)
        return self

    def space(self, _name: str) -> tuple[ServingSettings, Space]:
        return DEFAULT, SPACE

    def served_with(self, name: str, settings: ServingSettings, seconds: float) -> tuple[str, str]:
        other = f"{name}/{settings.instances}"
        if settings.instances > 1 and other not in self.started:
            if self.start_seconds > seconds:
                return "", "a process of its own takes too long"
            self.now += self.start_seconds
            self.started.append(other)
        self.holds[other] = self.own[name] * self.factor(settings)
        return other, ""

    def keep(self, name: str, best: str, _seconds: float) -> None:
        self.started = [each for each in self.started if each == best or not each.startswith(f"{name}/")]


def explored(
    machine: Searchable, seconds: float, **more: Any
) -> tuple[LoadPasses, dict[str, ServingSearch], dict[str, str]]:
    """Run passes with an exploration before them; return what it found."""
    passes = machine.passes(seconds, **more)
    exploration = Exploration(passes, machine, seconds / 3)
    passes.explore = exploration.run
    passes.run()
    return passes, exploration.searches, exploration.best


def per_s(passes: LoadPasses, name: str) -> float:
    found = sustained_per_s(passes.rows[name].trials, passes.plan.budget_ms)
    assert found
    return found


def test_the_best_settings_are_measured_in_the_passes_beside_the_rows_own() -> None:
    machine = Searchable({"a": 100.0}, noise=0.05).with_factor(lambda each: 1.3 if each.max_batch >= 16 else 1.0)
    passes, searches, best = explored(machine, 200.0)
    found = searches["a"].settings
    assert found
    assert found.max_batch >= 16
    name = best["a"]
    assert per_s(passes, "a") == pytest.approx(100, rel=0.04)
    assert per_s(passes, name) == pytest.approx(130, rel=0.04)
    by_pass: dict[int, set[str]] = {}
    for number, each, _ in machine.sent:
        by_pass.setdefault(number, set()).add(each)
    first = min(point.number for point in passes.rows[name].points)
    assert by_pass[first] == {"a", name}, "they share passes, and with them seed and state of the machine"
    assert all(len(names) == 1 for number, names in by_pass.items() if number < first)
    own = {point.number for point in passes.rows["a"].points}
    assert min(own) == 1, "trials of a row's own settings count"


def test_the_search_takes_a_third_of_the_time_and_the_passes_get_the_rest() -> None:
    machine = Searchable({"a": 100.0, "b": 300.0, "c": 50.0}, noise=0.6).with_factor(lambda _: 1.0)
    ended = math.inf
    passes = machine.passes(30.0)
    exploration = Exploration(passes, machine, 10.0)

    def explore() -> None:
        nonlocal ended
        exploration.run()
        ended = machine.now

    passes.explore = explore
    passes.run()
    assert ended <= 10.0
    assert machine.now <= 33.0
    first, *_ = exploration.searches
    assert first == "b", "those first that should sustain most"
    assert exploration.searches["c"].ended == "not searched: the time was over"
    assert len(passes.rows["c"].points) > 2


@pytest.mark.parametrize(
    ("minutes", "pass_seconds", "searched"), [(2, 2.0, 40.0), (2, 6.0, 30.0), (2, 9.6, 0.0), (4, 9.6, 80.0)]
)
def test_passes_come_before_a_search(minutes: float, pass_seconds: float, searched: float) -> None:
    assert search_seconds(60 * minutes, pass_seconds) == pytest.approx(searched)


def test_rows_get_intervals_where_there_is_no_time_to_search_as_well() -> None:
    """Four rows with trials of 2 s, as on a CPU with a budget of 200 ms, in two minutes."""
    with_interval: dict[float, int] = {}
    for seconds in (40.0, search_seconds(120.0, 4 * 2.0)):
        for seed in range(10):
            machine = Searchable({"a": 50.0, "b": 300.0, "c": 450.0, "d": 500.0}, noise=0.3, trial_seconds=2.5)
            machine.with_factor(lambda each: 1.1 if each.in_flight == 2 else 1.0).rng = np.random.default_rng(seed)
            passes = machine.passes(120.0)
            exploration = Exploration(passes, machine, seconds)
            passes.explore = exploration.run
            passes.run()
            known = [name for name, level in passes.levels().items() if level.of_another_run()]
            with_interval[seconds] = with_interval.get(seconds, 0) + len(set(known) & set("abcd"))
            if not seconds:
                assert {each.ended for each in exploration.searches.values()} == {f"not searched: {NO_TIME}"}
    assert list(with_interval) == [40.0, 0.0]
    assert with_interval[40.0] < 20, "of 40 rows"
    assert with_interval[0.0] >= 28


def test_a_process_that_would_take_too_long_to_start_is_not_started_and_that_is_said() -> None:
    machine = Searchable({"a": 100.0}).with_factor(lambda each: 2.0 * each.instances)
    machine.start_seconds = 60.0
    _, searches, best = explored(machine, 90.0)
    assert machine.started == []
    said = [trial.reason for trial in searches["a"].trials if trial.settings.instances > 1]
    assert set(said) == {"a process of its own takes too long"}
    machine = Searchable({"a": 100.0}, noise=0.05).with_factor(lambda each: 1.5 if each.instances == 2 else 1.0)
    _, searches, best = explored(machine, 150.0)
    assert machine.started == [best["a"]] == ["a/2"]


def test_a_row_that_fails_while_it_is_searched_leaves_the_others() -> None:
    machine = Searchable({"a": 100.0, "broken": 300.0}, unable={"broken"}).with_factor(lambda _: 1.0)
    passes, searches, _ = explored(machine, 60.0)
    assert searches["broken"].ended == "a trial gave nothing"
    assert per_s(passes, "a") == pytest.approx(100, rel=0.05)


def test_what_is_searched_begins_with_the_settings_of_the_parameters(measured: Project) -> None:
    params = load_params(measured.folder / "params.yaml")
    assert default_settings(params, "cpu").text() == "batches of at most 2, 1 in flight, 1 session, 1 thread"
    assert default_settings(params, "cuda").cpu_threads is None


@pytest.mark.slow
def test_a_served_row_is_searched_and_reported_with_what_was_tried(measured_copy: Project) -> None:
    def change(params: dict[str, Any]) -> None:
        params["serving"] |= {"search": True, "minutes": 0.9, "p99_ms": {"cpu": 100, "cuda": 10}}
        params["serving"]["max_batch"]["cpu"] = 1
        params["timing"]["cpu_threads"] = 2

    measured_copy.set_params(change)
    measured_copy.python("stages/serve.py", KEY)
    report = json.loads(measured_copy.read(f"artifacts/served/{KEY}.json"))
    assert report["status"] == "measured"
    tried = {(each["settings"]["in_flight"], each["settings"]["max_batch"]) for each in report["search"]["trials"]}
    assert {(1, 1)} < tried <= {(flight, batch) for flight in (1, 2) for batch in (1, 2)}
    measured_copy.script("stages/text_barrier.py", "cpu")
    measured_copy.python("stages/serve_text.py", "cpu")
    for stage in ("summarize", "render"):
        measured_copy.script(f"stages/{stage}.py")
    [found] = json.loads(measured_copy.read("results/findings.json"))["panels"][-1]["served"]["searched"]
    assert found["variant"] == KEY
    assert found["tried"] == len({json.dumps(each["settings"]) for each in report["search"]["trials"]})
    best = json.loads(measured_copy.read("artifacts/best/cpu.json"))["settings"]
    text = json.loads(measured_copy.read("artifacts/served_text/cpu.json"))
    assert text.get("settings", {}) == best
    assert text["status"] == "measured"
