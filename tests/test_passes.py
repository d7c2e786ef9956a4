"""Rows are timed in passes of short blocks; what one `dvc repro` times together, and what a row timed later says."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project, leave_pytorch, shim

from bench.core.params import Variant
from bench.core.reports import BlockTimes, Process, Report, TimedCell, TimingSession, Work
from bench.statistics.blocks import Panel, estimate, pool_processes
from bench.statistics.decisions import AT_THE_END, Family, decide
from bench.statistics.intervals import verdict
from bench.summary.comparisons import compare, with_controls, with_levels
from bench.timing.passes import LOOKS, MOST_OF_THE_TIME, Cell, Passes, Plan, asked_pairs
from bench.timing.repro import Request, parse

NAMES = ("base", "a/a", "b", "c", "d")
MANY = ("base", "a/a", *"bcdef")
FOREVER = 1e6


@dataclass
class FakeBench:
    """Gives blocks what the test says, with noise, by a clock of its own; a block takes a second, if it is not told.

    `disturbed`: passes in which the machine slept; `has_room`: for a second process of a row.
    """

    ms: Mapping[str, float] = field(default_factory=dict)
    _: KW_ONLY
    takes: Mapping[str, float] = field(default_factory=dict)
    process_ms: Callable[[str, int], float] = lambda _row, _process: 1.0
    host: Callable[[Cell, int], float] = lambda _cell, _number: 1.0
    gives: Callable[[Cell, int, int], bool] = lambda _cell, _process, _number: True
    disturbed: Sequence[int] = ()
    has_room: bool = True
    noise: float = 0.01
    now: float = 0.0
    calls: list[tuple[Cell, int, int]] = field(default_factory=list)
    began: int = 0
    added: list[list[str]] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def clock(self) -> float:
        return self.now

    def begin_pass(self) -> None:
        self.began += 1

    def block(self, cell: Cell, process: int, number: int) -> float | None:
        self.calls.append((cell, process, number))
        self.now += self.takes.get(cell.row, 1.0)
        if not self.gives(cell, process, number):
            return None
        return (
            self.ms.get(cell.row, 1.0)
            * self.process_ms(cell.row, process)
            * self.host(cell, number)
            * math.exp(self.noise * self.random.standard_normal())
        )

    def add_processes(self, rows: Sequence[str]) -> list[str]:
        self.added.append(list(rows))
        return list(rows) if self.has_room else []

    def is_whole(self, number: int) -> bool:
        return number not in self.disturbed

    def blocks_of(self, row: str) -> int:
        return sum(cell.row == row for cell, _, _ in self.calls)


def plan(names: Sequence[str] = NAMES, seconds: float = FOREVER, **changes: Any) -> Plan:
    sizes = dict.fromkeys(names, (1, 8))
    twin = "a/a" if "a/a" in names else None
    given: dict[str, Any] = {
        "baseline": "base", "twin": twin, "partners": [], "margin": 0.02, "target": 0.05, "seed": 1
    } | changes  # fmt: skip
    return Plan(sizes=sizes, seconds=seconds, **given)


def run(bench: FakeBench, asked: Plan | None = None, **given: Any) -> Passes:
    passes = Passes(asked or plan(), bench, clock=bench.clock, **given)
    passes.run()
    return passes


def counts(passes: Passes, process: int = 0) -> dict[Cell, int]:
    return {cell: len(blocks.get(process, {})) for cell, blocks in passes.blocks.items()}


def test_after_one_pass_there_is_a_complete_table_however_little_time_there_is() -> None:
    seen: list[int] = []
    passes = run(FakeBench(), plan(seconds=0.5), on_look=lambda number, _open, _left: seen.append(number))
    assert counts(passes) == {Cell(row, size): 1 for row in NAMES for size in (1, 8)}
    assert (passes.finished, seen) == (1, [])
    run(FakeBench(), plan(seconds=11.0), on_look=lambda _number, left, _seconds: seen.append(left))
    assert seen == [10], "after the first pass the table is shown, every cell of it open"


def test_a_pass_runs_each_cell_once_in_random_order_and_the_same_for_the_same_seed() -> None:
    first, again, other = (FakeBench(has_room=False) for _ in range(3))
    for bench, seed in ((first, 1), (again, 1), (other, 2)):
        run(bench, plan(seconds=40.0, seed=seed))
        in_passes = [bench.calls[start : start + 10] for start in range(0, 40, 10)]
        assert all(len({cell for cell, _, _ in each}) == 10 for each in in_passes)
        assert [{number for _, _, number in each} for each in in_passes] == [{0}, {1}, {2}, {3}]
        assert len({tuple(cell for cell, _, _ in each) for each in in_passes}) == 4
    assert first.calls == again.calls
    assert first.calls != other.calls
    firsts = Counter(next(cell for cell, _, _ in bench.calls) for bench in map(_one_pass_of, range(400)))
    assert len(firsts) == 10
    assert all(20 < count < 65 for count in firsts.values())


def _one_pass_of(seed: int) -> FakeBench:
    bench = FakeBench()
    run(bench, plan(seconds=0.5, seed=seed))
    return bench


def test_rows_that_are_decided_stop_and_close_ones_go_on() -> None:
    bench = FakeBench({"b": 3.0, **dict.fromkeys("cdef", 0.3)}, takes={"b": 3.0}, noise=0.05)
    seen: dict[int, int] = {}
    passes = run(bench, plan(MANY, seconds=4000.0), on_look=lambda number, left, _: seen.update({number: left}))
    found = counts(passes)
    assert found[Cell("b", 1)] == LOOKS[0], "clearly slower than the baseline and than the best"
    close = [found[Cell(row, 1)] for row in "cdef"]
    assert min(close) >= LOOKS[2]
    assert found[Cell("base", 1)] == found[Cell("a/a", 1)] == max(close), "the baseline is in every pass"
    assert seen[1] == 14
    assert list(seen.values())[-1] == 0
    assert bench.now < 4000.0, "it ends when all that is asked is decided or narrow enough"


def test_two_rows_whose_comparison_is_asked_go_on_though_both_are_slow() -> None:
    slow = {"b": 3.0, "c": 3.6, **dict.fromkeys("defg", 0.3)}
    alone, asked = FakeBench(slow, has_room=False), FakeBench(slow, has_room=False)
    run(alone, plan([*MANY, "g"], seconds=600.0, target=0.001))
    run(asked, plan([*MANY, "g"], seconds=600.0, target=0.001, partners=[("b", "c")]))
    assert alone.blocks_of("b") == LOOKS[0] * 2
    assert asked.blocks_of("b") > LOOKS[0] * 2


def test_where_only_pairs_are_asked_each_goes_on_until_it_is_narrow_and_nothing_else_does() -> None:
    names = ("b:x", "a:x", "b:y", "a:y", "z")
    bench = FakeBench({"a:x": 1.3, "b:y": 0.1, "a:y": 0.1, "z": 0.1})
    pairs = [("b:x", "a:x"), ("b:y", "a:y")]
    asked = plan(names, baseline=None, partners=pairs, target=0.01, is_only_partners=True)
    passes = run(bench, asked, processes=dict.fromkeys(names[:4], 2))
    found = counts(passes)
    assert found[Cell("z", 1)] == LOOKS[0], "nobody asks for the quickest row"
    assert found[Cell("a:x", 1)] == counts(passes, process=1)[Cell("a:x", 1)] > LOOKS[0], "decided at once, but wide"
    panel = Panel([passes.blocks[Cell(row, 1)] for row in names[:4]])
    pool_processes([panel], [None])
    families = [Family(panel.levels(), frozenset({(0, 1), (2, 3)}), is_all=True)]
    shared, [decided] = decide(families, 0.02, AT_THE_END)
    assert shared == 4
    assert decided.verdicts == {(0, 1): "faster", (2, 3): "tie"}
    found_tie = panel.compared(2, 3)
    assert found_tie
    assert found_tie.half_width(shared) < 0.01


def test_comparisons_that_the_time_cannot_decide_leave_it_to_the_others() -> None:
    rows = {"b": 1.03, "c": 0.97, "d": 0.3, "e": 0.31, "f": 1.3}
    bench = FakeBench(rows, takes={"b": 6.0, "c": 6.0}, noise=0.1, has_room=False)
    given = counts(run(bench, plan(MANY, seconds=300.0)))
    assert max(given[Cell("b", 1)], given[Cell("c", 1)]) <= LOOKS[2], "slow, and hardly other than the baseline"
    assert given[Cell("d", 1)] == given[Cell("e", 1)] >= LOOKS[4], "either may be the best"


def test_a_few_noisy_passes_tell_rows_that_differ_twice() -> None:
    """With the A/A row's process alone to tell how processes differ, such a table stayed open by chance."""
    for seed in range(20):
        bench = FakeBench({"b": 2.0, **dict.fromkeys("cdf", 0.5), "e": 0.25}, noise=0.08)
        bench.random = np.random.default_rng(seed)
        assert run(bench, plan(MANY, seconds=160.0)).contenders() == ["base", "e"]


def steady(_random: np.random.Generator) -> Callable[[Cell, int], float]:
    return lambda _cell, _number: 1.0


def two_states(random: np.random.Generator) -> Callable[[Cell, int], float]:
    """A host that is 1.7 times as slow in 20 to 80% of the blocks."""
    slow = random.uniform(0.2, 0.8)
    return lambda _cell, _number: 1.7 if random.random() < slow else 1.0


def drift(random: np.random.Generator) -> Callable[[Cell, int], float]:
    """A host that becomes up to a third slower, or faster, within 14 passes."""
    by_pass = random.uniform(-0.025, 0.025)
    return lambda _cell, number: math.exp(by_pass * number)


def one_jumps(random: np.random.Generator) -> Callable[[Cell, int], float]:
    """A row of which every fifth block takes 15 times as long."""
    return lambda cell, _number: 15.0 if cell.row == "d" and random.random() < 0.2 else 1.0


def verdicts(seed: int, world: Callable[[np.random.Generator], Callable[[Cell, int], float]]) -> list[tuple[str, str]]:
    """Return the true and the found verdict of each pair of a table whose row `e` is 1.5 times as fast as all others.

    A block's noise is 3%, and so is a process's effect.  Pairs of the row that jumps have no true verdict.
    """
    random = np.random.default_rng(seed)
    effects = {(row, process): math.exp(0.03 * random.standard_normal()) for row in MANY for process in range(3)}
    given: dict[str, Any] = {"noise": 0.03, "process_ms": lambda *of: effects[of], "random": random}
    bench = FakeBench({"e": 1 / 1.5}, host=world(random), **given)
    asked = plan(MANY, seconds=40 * 14.0)
    blocks = run(bench, asked).blocks
    panels = [Panel([blocks[Cell(row, size)] for row in MANY]) for size in (1, 8)]
    pool_processes(panels, [(0, 1), (0, 1)])
    families = [Family(panel.levels(), asked_pairs(MANY, asked)) for panel in panels]
    comparisons, _ = decide(families, asked.margin, AT_THE_END)
    found: list[tuple[str, str]] = []
    for own, family in zip(panels, families, strict=True):
        margin = max(asked.margin, math.expm1(abs(float(np.median(own.differences(0, 1))))))
        for first, second in combinations(range(len(MANY)), 2):
            level = estimate(family.levels[second], family.levels[first])
            true = {MANY[first]: "faster", MANY[second]: "slower"}.get("e", "equal")
            if world is not one_jumps or "d" not in (MANY[first], MANY[second]):
                found.append((true, verdict(level.interval(comparisons) if level else None, margin)))
    return found


@pytest.mark.parametrize("world", [steady, two_states, drift, one_jumps])
def test_equal_rows_are_not_called_different_and_a_faster_one_is_found(
    world: Callable[[np.random.Generator], Callable[[Cell, int], float]],
) -> None:
    tables = [verdicts(seed, world) for seed in range(20)]
    false = [any(true != found for true, found in own if found in ("faster", "slower")) for own in tables]
    assert sum(false) <= 1, "at most 5% of tables"
    asked = [found == true for own in tables for true, found in own if true != "equal"]
    assert sum(asked) >= (0.75 if world is two_states else 0.9) * len(asked)


def test_the_quickest_rows_get_a_second_process_where_few_may_be_the_best() -> None:
    bench = FakeBench({"b": 3.0, "c": 0.5, "d": 0.6, "e": 0.3, "f": 0.9}, takes={"b": 3.0, "f": 2.0})
    passes = run(bench, plan(MANY, seconds=4000.0))
    assert bench.added == [["c", "d", "e", "f"]]
    assert passes.contenders() == ["base", "e"]
    assert counts(passes)[Cell("f", 1)] == LOOKS[2], "its second process then gave blocks enough"
    assert counts(passes)[Cell("b", 1)] == LOOKS[0]


def test_rows_that_may_be_the_best_get_a_second_process_and_a_third_where_the_two_differ() -> None:
    def of_process(row: str, process: int) -> float:
        return 1.2 if row == "d" and process == 1 else 1.0

    bench = FakeBench({"b": 3.0, **dict.fromkeys("cef", 0.3), "d": 0.29}, takes={"b": 3.0}, process_ms=of_process)
    passes = run(bench, plan(MANY, seconds=600.0, target=0.001))
    assert bench.added[0] == ["c", "d", "e", "f"]
    assert ["d"] in bench.added[1:]
    assert passes.processes == {"base": 1, "a/a": 1, "b": 1, "c": 2, "d": 3, "e": 2, "f": 2}
    second = min(number for cell, process, number in bench.calls if cell.row == "c" and process == 1)
    assert second == 1, "the quickest rows' from the second pass on"
    assert passes.contenders() == ["base", *"cdef"]


def test_of_many_rows_that_may_be_best_the_nearest_are_named() -> None:
    names = ("base", "a/a", *"bcdefghij")
    ms = {"base": 2.0, "a/a": 2.0} | {row: 1.0 + 0.001 * place for place, row in enumerate("jihgfedcb")}
    passes = run(FakeBench(ms, noise=0.0005, has_room=False), plan(names, seconds=200.0))
    assert passes.contenders() == ["base", *"fghij"], "five beside the baseline"


def test_second_processes_take_a_part_of_the_time_at_most() -> None:
    class Slow(FakeBench):
        def add_processes(self, rows: Sequence[str]) -> list[str]:
            self.now += 100.0
            return super().add_processes(rows)

    names = ("base", "a/a", *"bcdefghijklmn")
    bench = Slow()
    passes = run(bench, plan(names, seconds=1000.0, target=0.001))
    assert len(bench.added) == 2
    assert sum(count == 2 for count in passes.processes.values()) == 8


def test_the_time_is_kept_to_a_block() -> None:
    bench = FakeBench(has_room=False)
    passes = run(bench, plan(seconds=24.5, target=0.0))
    assert (len(bench.calls), passes.finished) == (25, 3), "the pass that the end cuts counts"
    assert sorted(counts(passes).values()) == [2] * 5 + [3] * 5


def test_a_row_ten_thousand_times_slower_costs_no_more_than_its_share() -> None:
    slow = FakeBench({"d": 1e4}, takes=dict.fromkeys(NAMES, 0.03) | {"d": 10.0}, has_room=False)
    limit = 360.0
    found = run(slow, plan(seconds=limit, target=0.0))
    assert MOST_OF_THE_TIME < 1 / 10, "of ten cells each may have an equal share"
    assert counts(found)[Cell("d", 1)] == 4, "the block that passes its share is its last"
    assert slow.blocks_of("d") == 8
    assert counts(found)[Cell("c", 1)] > 50
    as_baseline = FakeBench(takes=dict.fromkeys(NAMES, 0.03) | {"base": 10.0})
    with_it = counts(run(as_baseline, plan(seconds=limit, target=0.0)))
    assert with_it[Cell("base", 1)] > 10, "without the baseline nothing is compared"


def test_a_pass_in_which_the_clock_was_set_is_thrown_away() -> None:
    bench = FakeBench(disturbed=[1, 3])
    passes = run(bench, plan(seconds=90.0))
    assert all(set(blocks[0]) <= {0, 2, *range(4, 12)} for blocks in passes.blocks.values())
    assert len(passes.blocks[Cell("b", 1)][0]) >= 4, "it goes on after a look that has too few passes to decide"
    assert passes.finished == bench.began - 2


@pytest.mark.parametrize("after", [0, 4, 25])
def test_cut_short_it_ends_at_once_and_keeps_what_there_is(after: int) -> None:
    bench = FakeBench(has_room=False)
    passes = run(bench, is_cut=lambda: len(bench.calls) >= after)
    assert len(bench.calls) == after
    assert sum(counts(passes).values()) == after


def test_a_cell_that_gives_nothing_goes_with_what_it_gave_and_the_others_go_on() -> None:
    def gives(cell: Cell, _process: int, number: int) -> bool:
        return cell != Cell("b", 8) or number < 2

    bench = FakeBench(gives=gives, has_room=False)
    found = counts(run(bench, plan(seconds=400.0)))
    assert Cell("b", 8) not in found
    assert min(found.values()) >= LOOKS[0]
    assert sum(cell == Cell("b", 8) for cell, _, _ in bench.calls) == 3, "it is not asked again"


def test_a_second_process_that_gives_nothing_leaves_the_first_ones_blocks() -> None:
    bench = FakeBench({"c": 0.3, "d": 0.301}, gives=lambda _cell, process, number: process == 0 or number < 10)
    passes = run(bench, plan(seconds=500.0, target=0.001))
    blocks = passes.blocks[Cell("c", 1)]
    assert (max(blocks[1]), max(blocks[0]) > 10) == (9, True)


@pytest.mark.parametrize("names", [("base",), ("b",), ("base", "b"), ("base", "a/a"), ("b", "c"), ("base", "a/a", "b")])
def test_few_rows_are_timed_to_the_end(names: tuple[str, ...]) -> None:
    bench = FakeBench({"b": 1.5})
    passes = run(bench, plan(names, seconds=200.0, baseline="base" if "base" in names else None))
    found = counts(passes)
    assert set(found) == {Cell(row, size) for row in names for size in (1, 8)}
    assert min(found.values()) >= LOOKS[0]
    assert set(passes.contenders()) <= set(names)


def test_without_any_cell_nothing_is_run() -> None:
    bench = FakeBench()
    passes = run(bench, plan(()))
    assert (bench.calls, passes.contenders()) == ([], [])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["python", "-m", "dvc", "repro"], ((), False)),
        (["/x/.venv/bin/python", "/x/.venv/bin/dvc", "repro", "-f", "infer@a"], (("infer@a",), True)),
        (["C:\\x\\dvc.exe", "repro", "--force"], ((), True)),
        (["dvc", "repro", "render"], (("render",), False)),
        (["dvc", "repro", "--glob", "infer@*"], (("infer@*",), False)),
        (["dvc", "status"], None),
        (["git", "repro"], None),
    ],
)
def test_what_dvc_was_asked_for_is_read_from_its_command_line(words: list[str], found: Any) -> None:
    assert parse(words) == found


def test_a_repro_of_named_stages_times_no_others() -> None:
    assert Request("1").includes(["infer", "infer@a"])
    assert Request("1", ("infer@a",)).includes(["infer", "infer@a"])
    assert not Request("1", ("infer@b",)).includes(["infer", "infer@a"])
    assert Request("1", ("infer@b", "render")).includes(["infer", "infer@a"])
    assert Request("1", ("serve_text@cpu",)).includes(["serve", "serve@a"])
    assert not Request("1", ("serve@b",)).includes(["serve", "serve@a"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("infer@*", "ab"), ("infer@a*", "a"), ("*@b", "b"), ("*infer@[ab]", "ab"), ("serve@b", "ab"), ("rend*", "ab")],
)
def test_a_repro_of_a_pattern_times_all_its_rows_together(pattern: str, expected: str) -> None:
    request = Request("1", (pattern,))
    assert "".join(key for key in "ab" if request.includes(["infer", f"infer@{key}"])) == expected


SET_CLOCK = """
import time
real, began = time.time_ns, time.time_ns()
time.time_ns = lambda: real() - 60 * (real() - began) - 3600 * 10**9
time.time = lambda: time.time_ns() / 1e9
"""


def test_a_clock_that_runs_back_changes_no_duration(measured_copy: Project) -> None:
    environment = shim(measured_copy, "sitecustomize.py", SET_CLOCK)
    measured_copy.python("stages/infer.py", "ort_cpu_fp32", environment=environment)
    report = measured_copy.report("ort_cpu_fp32")
    [first, *_] = report["processes"]
    assert 0 < first["load_seconds"] < first["start_seconds"]
    assert report["session"]["machine"] == json.loads(measured_copy.read("artifacts/machine.json"))["id"]


def test_a_row_that_is_timed_later_is_timed_beside_anchors_and_says_so(measured_copy: Project) -> None:
    before = measured_copy.report("ort_cpu_fp32")
    measured_copy.set_params(lambda params: params["quality"]["int8"].update(min_agreement=0.5))
    measured_copy.python("stages/infer.py", "ort_cpu_int8")
    measured_copy.script("stages/summarize.py")
    assert measured_copy.report("ort_cpu_fp32") == before, "a row that is not stale keeps its figures"
    session = measured_copy.report("ort_cpu_int8")["session"]
    assert session["id"] != before["session"]["id"]
    assert "ort_cpu_fp32" in session["anchors"]
    assert set(session["twin"]) == {"1", "2"}
    summary = pd.read_csv(measured_copy.folder / "results/summary.csv").set_index(["variant", "batch_size"])
    assert summary.moved["ort_cpu_int8", 1] > 0
    assert summary.moved["ort_cpu_fp32", 1] == 0


def test_a_forced_repro_times_every_row_anew_in_the_same_passes(measured_copy: Project) -> None:
    before = measured_copy.report("ort_cpu_fp32")["session"]["id"]
    measured_copy.set_params(leave_pytorch)
    measured_copy.repro("--force", "--single-item", "infer")
    rows = ("ort_cpu_fp32", "ort_cpu_int8")
    ids = {measured_copy.report(key)["session"]["id"] for key in rows}
    assert len(ids) == 1
    assert before not in ids


WORK = Work(given_tokens=[4], given_pairs=[16], computed_tokens=[4], computed_pairs=[16])
LEVELS = {"torch_cpu_fp32": 10.0, "b_cpu_fp32": 5.0, "c_cpu_fp32": 9.9, "d_cpu_fp32": 20.0}


def times(ms: float, random: np.random.Generator) -> dict[str, Any]:
    own = (ms * np.exp(random.normal(0.0, 0.005, 24))).tolist()
    passes, processes = np.divmod(np.arange(24), 3)
    return {
        "passes": passes.tolist(), "processes": processes.tolist(), "block_p50_ms": own, "block_mean_ms": own
    }  # fmt: skip


def panel(twin_ms: float, session: str = "1") -> pd.DataFrame:
    """Return a panel of four CPU rows in eight passes, three processes each, with an A/A row."""
    random = np.random.default_rng(0)
    twin = {"1": BlockTimes(**times(twin_ms, random))}
    shared = TimingSession(id=session, seed=1, passes=[], twin=twin, anchors={})
    reports, rows, variants = {}, [], {}
    for name, ms in LEVELS.items():
        cell = TimedCell(
            status="measured", **times(ms, random), p50_ms=ms, mean_ms=ms, samples_per_s=1000 / ms, work=WORK,
            runs=24,
        )  # fmt: skip
        reports[name] = Report(cells={"1": cell}, processes=[Process()], session=shared)
        variants[name] = Variant(runtime="pytorch", device="cpu", precision="fp32", graph="model")
        rows.append(
            {
                **{"variant": name, "device": "cpu", "batch_size": 1, "status": "measured", "session": session},
                **{"p50_ms": ms, "p95_ms": None, "mean_ms": ms, "samples_per_s": 1000 / ms},
            }
        )
    params: Any = SimpleNamespace(
        report=SimpleNamespace(margin=0.02), baselines={"cpu": "torch_cpu_fp32"}, all_variants=lambda: variants
    )
    return with_controls(with_levels(pd.DataFrame(rows), reports, params.baselines), reports, params)


def test_an_a_a_row_that_differs_from_itself_leaves_nothing_decided() -> None:
    for twin_ms, expected in ((10.05, "faster"), (14.0, "inconclusive")):
        found = panel(twin_ms)
        baseline, fast, *_ = found.itertuples()
        assert found["aa_ratio"].iloc[0] == pytest.approx(10.0 / twin_ms, rel=0.01)
        assert compare(fast, baseline).verdict == expected


def test_rows_of_other_passes_without_anything_timed_in_both_are_never_told_apart() -> None:
    first, second = (list(panel(10.0, session).itertuples()) for session in ("1", "2"))
    row_apart = second[1]._replace(moved=float("inf"))
    found = compare(row_apart, first[0])
    assert found.verdict == "inconclusive"
    assert found.reason == "different sessions, with nothing timed in both"
    assert compare(second[1]._replace(moved=0.1), first[0]).verdict == "faster"
    assert compare(second[1]._replace(moved=0.8), first[0]).verdict == "inconclusive"
