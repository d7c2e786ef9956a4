"""Requests under load: how batches form, what LoadGen sends, which rates are tried, and whose answer went where."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.core.errors import WorkerError
from bench.core.model_inputs import AnyBatch, Padding
from bench.core.reports import RatePoint
from bench.inputs.encoded import Encoded
from bench.runtimes.base.session import Logits, Pending
from bench.serving import load as load_generator
from bench.serving.batcher import Batcher, Requests
from bench.serving.checks import check, furthest, replay, unanswered
from bench.serving.instances import Answers, Instances, NoopSession, serve
from bench.serving.load import Load, answer, read_log, send
from bench.serving.passes import LoadPasses, LoadPlan
from bench.serving.search import FARTHEST, Search, expected_rate, place_of, rate_at
from bench.statistics.rate_curve import (
    Crossing,
    Point,
    Straddle,
    crossing,
    curve_of,
    latency_at,
    panel_of,
    seconds_a_request,
    shows_p99,
    straddles,
)
from bench.summary.serving import confirmed


class Arriving:
    """A clock and the queue that requests come from, in a time of their own."""

    def __init__(self, *arrivals: tuple[float, object]) -> None:
        self.now = 0.0
        self._coming: deque[tuple[float, object]] = deque(arrivals)

    def clock(self) -> float:
        return self.now

    def put(self, _item: object) -> None:
        raise AssertionError("everything that comes is known")

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        last = self.now if not block else (float("inf") if timeout is None else self.now + timeout)
        if self._coming and self._coming[0][0] <= last:
            came, item = self._coming.popleft()
            self.now = max(self.now, came)
            return item
        self.now = last if block else self.now
        raise queue.Empty


def batches(
    arrivals: Sequence[tuple[float, str]], *, max_batch: int, max_delay_s: float, service_s: float
) -> list[tuple[float, str]]:
    """Return when each batch was taken, and its requests, by a session that runs `service_s` for each."""
    coming = [(came, (came, names)) for came, names in arrivals]
    source = Arriving(*coming, (coming[-1][0], None))
    batcher: Batcher[str] = Batcher(max_batch, max_delay_s, source.clock, source)
    taken: list[tuple[float, str]] = []
    while batch := batcher.take():
        taken.append((source.now, "".join(batch)))
        source.now += service_s
    return taken


def test_a_batch_is_all_that_waits_when_the_last_one_ends() -> None:
    arrivals = [(0.0, "a"), (1.0, "b"), (2.0, "cd"), (11.0, "e"), (40.0, "f")]
    expected = [(0.0, "a"), (10.0, "bcd"), (20.0, "e"), (40.0, "f")]
    assert batches(arrivals, max_batch=8, max_delay_s=0, service_s=10) == expected


def test_a_batch_is_never_larger_than_its_limit_and_requests_keep_their_order() -> None:
    expected = [(0.0, "ab"), (10.0, "cd"), (20.0, "e")]
    assert batches([(0.0, "abcde")], max_batch=2, max_delay_s=0, service_s=10) == expected


def test_with_a_delay_a_batch_waits_until_its_first_request_waited_so_long_or_it_is_full() -> None:
    arrivals = [(0.0, "a"), (3.0, "b"), (7.0, "c"), (20.0, "de"), (21.0, "f"), (50.0, "g")]
    expected = [(5.0, "ab"), (12.0, "c"), (21.0, "def"), (50.0, "g")]
    assert batches(arrivals, max_batch=3, max_delay_s=5, service_s=0) == expected


def test_requests_that_waited_while_a_batch_ran_wait_no_longer_than_the_delay() -> None:
    assert batches([(0.0, "a"), (1.0, "b"), (30.0, "c")], max_batch=4, max_delay_s=5, service_s=10) == [
        (5.0, "ab"),
        (30.0, "c"),
    ]
    assert batches([(0.0, "ab"), (1.0, "c"), (40.0, "d")], max_batch=2, max_delay_s=5, service_s=10) == [
        (0.0, "ab"),
        (10.0, "c"),
        (40.0, "d"),
    ]


def tried(search: Search, meets: Callable[[int], bool], most: int = 100) -> list[int]:
    """Return the places of a search until two neighbours are known, of which one meets the SLO."""
    places: list[int] = []
    while not search.is_bracketed and len(places) < most:
        places.append(search.place)
        search.tell(meets(search.place))
    return places


@pytest.mark.parametrize("edge", [-30, -3, 0, 1, 2, 5, 30])
@pytest.mark.parametrize("start", [-8, 0, 6])
def test_a_search_finds_the_last_rate_that_meets_the_slo_and_the_next(edge: int, start: int) -> None:
    found = tried(Search(start), lambda place: place <= edge)
    assert {edge, edge + 1} <= set(found)
    assert len(found) == len(set(found)) <= 14


def test_after_it_a_search_goes_up_and_down() -> None:
    search = Search(0)
    tried(search, lambda place: place <= 3)
    later = []
    for _ in range(6):
        later.append(search.place)
        search.tell(search.place <= 3)
    assert set(later) == {3, 4}


def test_a_search_begins_anew_where_what_a_row_holds_has_moved_far_away() -> None:
    search = Search(0)
    tried(search, lambda place: place <= 3)
    later = []
    for _ in range(14):
        later.append(search.place)
        search.tell(search.place <= -20)
    assert set(later[-2:]) == {-20, -19}


def test_a_search_that_never_finds_an_edge_ends_at_the_ends_of_the_grid() -> None:
    never, always, up_to_three = Search(0), Search(0), Search(0, highest=3)
    assert tried(never, lambda _: False)[-1] == -FARTHEST
    assert tried(always, lambda _: True)[-1] == FARTHEST
    assert tried(up_to_three, lambda _: True)[-1] == 3
    assert never.is_over
    assert always.is_over
    assert up_to_three.is_over


def test_places_of_the_grid_lie_a_tenth_apart_and_are_the_same_for_all_rows() -> None:
    assert rate_at(place_of(100.0) + 1) / rate_at(place_of(100.0)) == pytest.approx(1.1)
    assert [place_of(rate_at(place)) for place in (-20, 0, 7)] == [-20, 0, 7]


SEED = 3


@dataclass
class MadeUp:
    """Rows whose p99 rises steeply with the rate, on a machine whose state and clock are made up.

    `holds`: the rate of each at which p99 is the budget.  A rate a third above it is overload.
    """

    holds: dict[str, float]
    budget_ms: float = 10.0
    noise: float = 0.1
    of_process: float = 0.0
    trial_seconds: float = 1.0
    unable: set[str] = field(default_factory=set)
    not_whole: set[int] = field(default_factory=set)
    now: float = 0.0
    sent: list[tuple[int, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(1)

    def begin_pass(self) -> None:
        self.state = 0.03 * self.rng.standard_normal()

    def is_whole(self, number: int) -> bool:
        return number not in self.not_whole

    def ends(self, _name: str, per_s: float, _seed: int) -> dict[str, Any]:
        return {"single_stream": {}, "offline": {"per_s": 3 * per_s}}

    def processes(self, _name: str) -> int:
        return 2

    def rate(self, name: str, process: int, per_s: float, seed: int) -> dict[str, Any] | None:
        self.now += self.trial_seconds
        self.sent.append((seed - SEED, name, process))
        if name in self.unable:
            return None
        beyond = (
            math.log(per_s / self.holds[name])
            + self.state
            + self.of_process * (process - 0.5)
            + self.noise / 6 * self.rng.standard_normal()
        )
        p99_ms = self.budget_ms * math.exp(6 * beyond)
        made = point(per_s, p99_ms=p99_ms, is_overloaded=beyond > math.log(4 / 3)).model_dump()
        return made | {"keeps": p99_ms <= self.budget_ms}

    def passes(self, seconds: float, **more: Any) -> LoadPasses:
        expected = {name: 1.6 * rate for name, rate in self.holds.items()}
        plan = LoadPlan(expected, self.budget_ms, seconds, margin=0.02, target=0.05, seed=SEED)
        return LoadPasses(plan, self, clock=lambda: self.now, **more)


def point(rate: float, number: int = 0, **more: Any) -> RatePoint:
    """Return a trial of a rate that met its budget."""
    common = {"is_overloaded": False, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "keeps": True, "late": 0}
    common |= {"mean_batch": 1.0, "busy_share": 0.5, "queries": 153, "sent_per_s": rate}
    return RatePoint.model_validate({**common, "rate": rate, "number": number, **more})


def test_up_and_down_gives_the_rate_that_rows_hold_and_their_ratio_within_its_interval() -> None:
    inside = ratios = 0
    for seed in range(20):
        machine = MadeUp({"a": 100.0 * 1.03**seed, "b": 77.0})
        machine.rng = np.random.default_rng(seed)
        passes = machine.passes(seconds=60.0)
        passes._look = lambda: None  # type: ignore[method-assign]  # whatever is decided early
        passes.run()
        panel = panel_of([seconds_a_request(passes.rows[name].trials, 10.0) for name in "ab"])
        ours, _ = panel.levels()
        again, ratio = ours.of_another_run(), panel.compared(1, 0)
        assert again
        assert ratio
        inside += again.low <= 1 / machine.holds["a"] <= again.high
        limits = ratio.interval()
        assert limits
        ratios += limits.low <= machine.holds["a"] / 77.0 <= limits.high
        assert 1 / ours.value == pytest.approx(machine.holds["a"], rel=0.04)
    assert inside >= 19
    assert ratios >= 17


def test_processes_that_differ_make_intervals_wider() -> None:
    halves = []
    for of_process in (0.0, 0.2):
        machine = MadeUp({"a": 100.0, "b": 77.0}, of_process=of_process)
        passes = machine.passes(seconds=100.0)
        passes._look = lambda: None  # type: ignore[method-assign]
        passes.run()
        panel = panel_of([seconds_a_request(passes.rows[name].trials, 10.0) for name in "ab"])
        found = panel.compared(0, 1)
        assert found
        halves.append(found.half_width())
    assert halves[1] > 2 * halves[0]


def test_all_rows_of_a_pass_get_the_same_arrivals_in_random_order() -> None:
    machine = MadeUp({"a": 50.0, "b": 70.0, "c": 90.0})
    machine.passes(seconds=30.0).run()
    by_seed: dict[int, list[str]] = {}
    for number, name, process in machine.sent:
        by_seed.setdefault(number, []).append(name)
        assert process == (number - 1) % 2, "the processes of a row take turns"
    whole = [tuple(own) for own in by_seed.values() if len(own) == 3]
    assert all(set(own) == {"a", "b", "c"} for own in whole)
    assert len(set(whole)) > 1


def test_a_row_that_is_surely_not_the_best_stops_and_all_stop_once_it_is_decided() -> None:
    machine = MadeUp({"a": 100.0, "b": 98.0, "slow": 30.0}, noise=0.3)
    passes = machine.passes(seconds=300.0)
    passes.run()
    trials = {name: len(row.points) for name, row in passes.rows.items()}
    slow = seconds_a_request(passes.rows["slow"].trials, 10.0)
    assert len(set().union(*slow.values())) >= 4
    assert trials["slow"] < trials["a"]
    lonely = MadeUp({"a": 100.0, "slow": 30.0})
    lonely.passes(seconds=300.0).run()
    assert lonely.now < 60


def test_a_row_that_gives_nothing_more_leaves_the_others() -> None:
    machine = MadeUp({"a": 50.0, "broken": 70.0}, unable={"broken"})
    passes = machine.passes(seconds=20.0)
    passes.run()
    assert len(passes.rows["a"].points) > 4
    assert passes.rows["broken"].points == []


def test_a_pass_in_which_the_clock_was_set_is_sent_again() -> None:
    machine = MadeUp({"a": 50.0}, not_whole={2, 3})
    passes = machine.passes(seconds=20.0)
    passes.run()
    numbers = [each.number for each in passes.rows["a"].points]
    assert numbers[:3] == [1, 4, 5]
    assert {number for number, _, _ in machine.sent} > {2, 3}
    never = MadeUp({"a": 50.0}, not_whole={0})
    none = never.passes(seconds=20.0)
    none.run()
    assert none.rows["a"].points == []


def test_time_and_ctrl_c_end_the_passes_and_patience_lasts_until_a_rate_met_the_slo() -> None:
    machine = MadeUp({"a": 50.0, "b": 50.0})
    machine.passes(seconds=8.0).run()
    assert machine.now == pytest.approx(8.0, abs=2)
    cut = MadeUp({"a": 50.0, "b": 50.0})
    cut.passes(seconds=300.0, is_cut=lambda: cut.now >= 5).run()
    assert cut.now == 5
    far = MadeUp({"a": 50.0})
    passes = far.passes(seconds=3.0)
    far.holds["a"] = 1.0
    passes.run()
    assert [each.keeps for each in passes.rows["a"].points] == [False] * 6 + [True]


def test_the_first_rate_is_below_what_the_batches_can_do_and_grows_with_the_budget() -> None:
    mean_ms = {1: 1.0, 4: 2.0, 16: 4.0}
    rates = [expected_rate(mean_ms, 16, budget_ms) for budget_ms in (1.5, 5, 20, 200)]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] <= 4000
    assert rates[-1] > 3000
    assert expected_rate(mean_ms, 1, 200) <= 1000
    assert expected_rate(mean_ms, 16, 0.9) == 0.0


def test_a_row_begins_at_what_it_should_hold_and_no_higher_than_what_it_answers_all_at_once() -> None:
    for offline_per_s, first in ((300.0, 160.0), (90.0, 90.0)):
        machine = MadeUp({"a": 100.0})
        machine.ends = lambda *_, per_s=offline_per_s: {"single_stream": {}, "offline": {"per_s": per_s}}  # type: ignore[method-assign]
        passes = machine.passes(seconds=20.0)
        passes.run()
        assert passes.rows["a"].points[0].rate == pytest.approx(rate_at(place_of(first)))


def test_the_fewest_requests_that_show_a_p99_are_459_and_none_of_them_late() -> None:
    assert shows_p99(0, 459)
    assert not shows_p99(0, 458)
    assert not shows_p99(1, 459)
    assert not shows_p99(0, 0)


class Answering(NoopSession):
    """A session in the place of a model: logits that tell the sentence, after some seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(labels=2)
        self.seconds = seconds

    def run(self, batch: AnyBatch) -> Logits:
        if self.seconds:
            time.sleep(self.seconds)
        return logits_of(batch.ids[:, 0])


def logits_of(tokens: Any) -> Logits:
    """Return logits `[sentences, 2]` that are those of no other sentence."""
    numbers = np.asarray(tokens, dtype=np.float32)
    return np.stack([numbers, -numbers], axis=1)


SENTENCES = Encoded(
    np.tile(np.arange(1, 41, dtype=np.int64)[:, None], (1, 8)),
    (np.arange(8)[None, :] < np.repeat([2, 3, 5, 8], 10)[:, None]).astype(np.int64),
    np.full(40, -1),
)
REFERENCE = logits_of(np.arange(1, 41))


def requests(padding: Padding = "fixed", sizes: Sequence[int] = ()) -> Requests:
    return Requests(SENTENCES, padding, 1, list(sizes))


def serve_load(
    load: Load,
    *sessions: Answering,
    max_batch: int = 4,
    in_flight: int = 1,
    issue: Callable[[Any, Any], None] | None = None,
) -> tuple[dict[str, Any], list[Answers]]:
    """Send a load to sessions; return LoadGen's figures and what each session did."""
    waiting = deque(sessions)
    instances = Instances(waiting.popleft, len(sessions))
    batcher: Batcher[Any] = Batcher(max_batch)
    served: list[Answers] = []
    figures = send(
        load,
        len(SENTENCES),
        batcher.put if issue is None else lambda queries: issue(batcher, queries),
        batcher.close,
        lambda: served.extend(
            instances.run(lambda session: serve(session, requests(), batcher, answer, in_flight), batcher)
        ),
    )
    return figures, served


def load_of(queries: int, **settings: Any) -> Load:
    wanted: dict[str, Any] = {"scenario": "Server", "seed": 1, "rate": 2000.0, "budget_ms": 1e4} | settings
    return Load(queries=queries, **wanted)


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_every_request_is_answered_once_in_every_scenario(in_flight: int) -> None:
    for scenario in ("Server", "SingleStream", "Offline"):
        figures, served = serve_load(load_of(100, scenario=scenario), Answering(), in_flight=in_flight)
        assert unanswered(100, served) == ""
        assert figures["queries"] == 100
        assert check(served, REFERENCE, "single_label").max_abs_diff == 0


def test_the_same_seed_sends_the_same_sentences_and_another_seed_others() -> None:
    asked = []
    for seed in (1, 1, 2):
        _, served = serve_load(load_of(60, seed=seed, rate=5000.0), Answering())
        asked.append([int(index) for batch in served[0].batches for index in batch.indices])
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize("late", [0, 1, 3])
@pytest.mark.parametrize("queries", [458, 459, 700])
def test_the_rule_on_late_requests_is_that_of_loadgen(queries: int, late: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logs: list[dict[str, Any]] = []
    held: list[Any] = []

    def read_and_keep(path: Path) -> dict[str, Any]:
        logs.append(read_log(path))
        return logs[-1]

    monkeypatch.setattr(load_generator, "read_log", read_and_keep)

    def answer_but_for_the_late(batcher: Batcher[Any], arrived: Sequence[Any]) -> None:
        kept_back = list(arrived[: late - len(held)])
        held.extend(kept_back)
        if kept_back:
            threading.Timer(0.5, lambda: batcher.put(kept_back)).start()
        batcher.put([each for each in arrived if each not in kept_back])

    figures, _ = serve_load(load_of(queries, rate=20000.0, budget_ms=400), Answering(), issue=answer_but_for_the_late)
    assert figures["late"] >= late
    assert shows_p99(figures["late"], queries) == logs[0]["early_stopping_met"]


def test_an_audit_file_in_the_folder_changes_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "audit.config").write_text("*.Server.min_query_count = 7\n*.Server.max_query_count = 7\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    figures, served = serve_load(load_of(50), Answering())
    assert figures["queries"] == 50
    assert unanswered(50, served) == ""


def test_a_load_above_what_a_session_can_do_is_ended_and_called_overload() -> None:
    figures, served = serve_load(load_of(5000, rate=1000.0, most_waiting=20), Answering(seconds=0.02), max_batch=1)
    assert figures["is_overloaded"]
    assert figures["queries"] < 200
    assert unanswered(figures["queries"], served) == ""


def test_sessions_side_by_side_share_the_requests() -> None:
    _, served = serve_load(load_of(200, rate=2000.0), Answering(0.002), Answering(0.002), max_batch=1)
    assert len(served) == 2
    assert min(each.requests() for each in served) > 0
    assert unanswered(200, served) == ""


class Overlapping(Answering):
    """Begins a batch when it is submitted, as a GPU does; `mixes_up`: answers one with what another began.

    The first answer waits until `awaited` batches are begun.
    """

    def __init__(self, awaited: int, mixes_up: bool = False) -> None:
        super().__init__(0.001)
        self.awaited, self.mixes_up = awaited, mixes_up
        self.begun: list[AnyBatch] = []
        self.most_begun = 0

    def submit(self, batch: AnyBatch) -> Pending:
        self.begun.append(batch)
        self.most_begun = max(self.most_begun, len(self.begun))
        return SimpleNamespace(result=lambda: self.finish(batch))

    def finish(self, batch: AnyBatch) -> Logits:
        ends = time.monotonic() + 60
        while self.most_begun < self.awaited and time.monotonic() < ends:
            time.sleep(0.001)
        logits = self.run(self.begun[-1] if self.mixes_up else batch)
        self.begun.remove(batch)
        return logits


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_so_many_batches_are_in_flight_and_no_more(in_flight: int) -> None:
    session = Overlapping(in_flight)
    _, served = serve_load(load_of(200, scenario="Offline"), session, in_flight=in_flight)
    assert session.most_begun == in_flight
    assert check(served, REFERENCE, "single_label").max_abs_diff == 0
    assert all(0 < each.busy_ns < 60e9 for each in served)


def test_two_batches_in_flight_whose_answers_are_swapped_are_found() -> None:
    session = Overlapping(2, mixes_up=True)
    _, served = serve_load(load_of(200, scenario="Offline"), session, in_flight=2)
    assert unanswered(200, served) == ""
    assert "differs from the same batch run again" in replay(session, furthest(served, REFERENCE), REFERENCE).fault


@pytest.mark.parametrize("fails_in", ["submit", "run"])
def test_a_session_that_fails_with_two_in_flight_ends_the_load_with_its_error(fails_in: str) -> None:
    session = Answering(0.002)
    setattr(session, fails_in, raises_after(getattr(session, fails_in), 5))
    batcher: Batcher[Any] = Batcher(4)
    batcher.put([type("Request", (), {"index": number})() for number in range(40)])
    with pytest.raises(ValueError, match="the sixth call fails"):
        serve(session, requests(), batcher, lambda _requests: None, in_flight=2)


def raises_after(call: Callable[[AnyBatch], Any], times: int) -> Callable[[AnyBatch], Any]:
    calls: list[AnyBatch] = []

    def called(batch: AnyBatch) -> Any:
        calls.append(batch)
        if len(calls) > times:
            raise ValueError("the sixth call fails")
        return call(batch)

    return called


def test_a_session_that_fails_beside_the_first_ends_the_load_with_its_error() -> None:
    class Failing(Answering):
        def run(self, _batch: AnyBatch) -> Logits:
            raise ValueError("the second session fails")

    instances = Instances(deque([Answering(), Failing()]).popleft, 2)
    batcher: Batcher[Any] = Batcher(1)
    batcher.put([type("Request", (), {"index": number})() for number in range(20)])
    threading.Timer(0.5, batcher.close).start()
    with pytest.raises(ValueError, match="the second session fails"):
        instances.run(lambda session: serve(session, requests(), batcher, lambda _requests: time.sleep(0.01)), batcher)


def test_a_log_of_another_loadgen_ends_with_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkerError, match="LoadGen wrote no log that can be read"):
        read_log(tmp_path / "missing.txt")
    monkeypatch.setattr(load_generator, "read_log", lambda _path: {"result_query_count": 10})
    with pytest.raises(WorkerError, match=r"LoadGen's log has no .*: take the version in requirements.txt"):
        serve_load(load_of(10), Answering())


def served_by(session: Answering, sentences: Sequence[Sequence[int]]) -> Answers:
    made = [requests().batch(list(each)) for each in sentences]
    return Answers(made, [session.run(batch.inputs) for batch in made])


def test_two_swapped_answers_are_found_though_both_pass_the_gate() -> None:
    session = Answering()
    served = served_by(session, [[0, 1], [2, 3], [4, 5]])
    assert replay(session, furthest([served], REFERENCE), REFERENCE).fault == ""
    served.logits[1] = served.logits[1][::-1]
    close = check([served], REFERENCE, "single_label").max_abs_diff / np.ptp(REFERENCE)
    assert close < 0.05, "a gate for INT8 would let it pass"
    assert "differs from the same batch run again" in replay(session, furthest([served], REFERENCE), REFERENCE).fault


def test_lost_and_doubled_answers_are_counted() -> None:
    served = served_by(Answering(), [[0, 1], [2]])
    assert unanswered(3, [served]) == ""
    assert unanswered(4, [served]) == "4 requests, 3 answers"
    assert unanswered(2, [served]) == "2 requests, 3 answers"
    served.logits[0] = served.logits[0][:1]
    assert check([served], REFERENCE, "single_label").fault == (
        "batches with another number of answers than of requests"
    )


def test_a_batch_is_filled_up_to_a_prepared_size_and_asks_for_no_more() -> None:
    batch = requests(sizes=[1, 4, 8]).batch([3, 7, 9])
    assert len(batch.inputs) == 4
    assert list(batch.indices) == [3, 7, 9]
    assert len(requests().batch([3, 7, 9]).inputs) == 3


def test_every_shape_that_a_load_can_bring_is_prepared() -> None:
    session = Answering()
    for source in (requests("fixed"), requests("longest")):
        known = {b.inputs.shape for b in source.of_every_shape(session, 3, [1, 2, 3])}
        generator = np.random.default_rng(0)
        for _ in range(200):
            sentences = generator.integers(0, 40, generator.integers(1, 4)).tolist()
            assert source.batch(sentences).inputs.shape in known


def curve(*points: tuple[float, float], overloaded: Sequence[float] = ()) -> list[Point]:
    steady = [Point(rate, p99 / 4, p99 / 2, p99) for rate, p99 in points]
    return steady + [Point(rate, 1.0, 1.0, 1.0, is_overloaded=True) for rate in overloaded]


def found(points: Sequence[Point]) -> Crossing:
    crossed = crossing(points, 10.0)
    assert crossed
    return Crossing(round(crossed.rate, 6), crossed.is_cliff, crossed.is_least)


def test_the_rate_within_the_budget_lies_where_the_fitted_curve_crosses_it() -> None:
    power = [(rate, rate**2 / 1000) for rate in (50.0, 80.0, 110.0, 140.0)]
    assert found(curve(*power)).rate == pytest.approx(100, rel=0.01)
    noisy = [(50.0, 3.0), (60.0, 2.0), (90.0, 8.0), (100.0, 14.0), (110.0, 13.0)]
    assert 90 < found(curve(*noisy)).rate < 100
    assert found(curve(*noisy)) == Crossing(found(curve(*noisy)).rate)


def test_a_rate_is_never_taken_from_an_overloaded_load() -> None:
    assert found(curve((50.0, 2.0), (80.0, 4.0), overloaded=[100.0])) == Crossing(80, is_cliff=True)
    assert crossing(curve(overloaded=[100.0]), 10.0) is None
    lucky = curve((50.0, 2.0), (120.0, 3.0), overloaded=[100.0])
    assert found(lucky) == Crossing(50, is_cliff=True), "what was steady above an overload was luck"


def test_rates_that_all_keep_or_all_miss_the_budget_say_so() -> None:
    assert found(curve((50.0, 2.0), (80.0, 4.0))) == Crossing(80, is_least=True)
    assert crossing(curve((50.0, 20.0), (80.0, 40.0)), 10.0) is None


def test_a_latency_is_told_only_between_rates_that_were_tried() -> None:
    points = curve((50.0, 2.0), (80.0, 8.0))
    assert latency_at(points, 65.0, "p99_ms") == pytest.approx(4.0)
    assert latency_at(points, 20.0, "p99_ms") is None
    assert latency_at(points, 25.0, "p99_ms", alone_ms=1.0) == pytest.approx(2**0.5)
    assert latency_at(points, 90.0, "p99_ms", alone_ms=1.0) is None


def test_two_trials_in_a_row_straddle_what_a_row_holds() -> None:
    late = {"keeps": False, "p99_ms": 20.0}
    trials = [point(100.0, 1, p99_ms=5.0), point(110.0, 2, **late), point(100.0, 3, p99_ms=10.0)]
    found = straddles(trials, 10.0)
    assert seconds_a_request({1: trials}, 10.0) == {1: pytest.approx({2: 1 / math.sqrt(11000), 3: 0.01})}
    assert {number: round(each.per_s, 6) for number, each in found.items()} == {2: round(math.sqrt(11000), 6), 3: 100.0}
    assert not any(each.is_cliff for each in found.values())
    wide = straddles([trials[0], point(150.0, 2, **late)], 10.0)
    assert wide[2].per_s == pytest.approx(math.sqrt(15000))
    assert not wide[2].is_cliff
    assert straddles([trials[0], point(170.0, 2, **late)], 10.0) == {}, "too far apart"
    assert straddles([trials[0], point(110.0, 2)], 10.0) == {}
    overloaded = point(110.0, 2, keeps=False, is_overloaded=True, p99_ms=1.0)
    assert straddles([point(100.0, 1, sent_per_s=101.0), overloaded], 10.0) == {2: Straddle(101.0, True)}
    further = point(130.0, 2, keeps=False, is_overloaded=True, p99_ms=1.0)
    assert straddles([trials[0], further], 10.0) == {}, "nothing is interpolated below an overload"


def test_all_trials_of_a_rate_are_one_point_of_the_curve() -> None:
    trials = [point(100.0, 1, sent_per_s=90.0, p99_ms=2.0), point(100.0, 4, sent_per_s=111.0, p99_ms=8.0)]
    stall = point(100.0, 5, is_overloaded=True, p99_ms=1e4)
    [one] = curve_of([*trials, stall])
    assert (one.rate, one.p99_ms) == pytest.approx((math.sqrt(90 * 111), 4.0))
    assert not one.is_overloaded
    [two] = curve_of([trials[0], stall, stall])
    assert two.is_overloaded


def test_requests_of_all_trials_at_a_rate_show_a_p99() -> None:
    three = [point(100.0, sent_per_s=sent) for sent in (100.0, 110.0, 120.0)]
    assert confirmed(three) == pytest.approx(459 / (153 / 100 + 153 / 110 + 153 / 120))
    assert confirmed(three[:2]) is None
    assert confirmed([*three, point(110.0)]) == confirmed(three), "too few at the higher rate"
    assert confirmed([*three, point(110.0, queries=1000)]) == pytest.approx(110.0)
    assert confirmed([*three, point(100.0, late=1)]) is None
    assert confirmed([*three, point(100.0, is_overloaded=True)]) is None
