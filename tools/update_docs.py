"""Put the figures of kept runs into README.md and docs/, and draw each run's README.md anew.

    python run.py python tools/update_docs.py [--check]

Only the lines between `<!-- NAME -->` and `<!-- end of NAME -->` change, so that no figure in a text is ever typed.
With --check nothing is written, and the exit code is 1 if a block is not what it should be.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.files import replacing_file, write_text
from bench.report.charts.lines import latency_by_batch
from bench.report.charts.measured import Measured
from bench.report.charts.served import served as served_chart
from bench.report.charts.write import caption
from bench.report.figures import MISSING, milliseconds
from bench.report.markdown import table_lines
from bench.report.notes.assumptions import by_padding
from bench.report.page.data import answers
from bench.report.serving import not_served, pick_lines, served, served_table, terms
from bench.report.table import accuracy_text, loss_text, render_summary
from bench.runs.packed import kept_curves
from bench.runs.recorded_runs import RecordedRun, read_runs
from bench.summary.comparisons import fastest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
STATISTICS = ROOT / "docs/statistics.md"
PICTURE = ROOT / "docs/latency_by_batch.png"
SERVED_PICTURE = ROOT / "docs/p99_by_load.png"
RUNS = ROOT / "runs"
VALIDATED = ROOT / "validation/recorded/repeatability.json"
OWN_MODEL = ROOT / "docs/own_model.md"
TRAINED_RUNS = {"cpu-2-minilm": "cpu", "h100-minilm": "cuda", "h100-minilm-tensorrt": "cuda"}
"""The kept runs of a trained model, and the device whose rows show what a precision costs in right answers."""
FIRST_RUN = "h100-lengths"
"""The kept run that README.md shows."""
LENGTHS = ROOT / "docs/lengths.md"
PADDED_RUNS = {"h100-lengths": "cuda", "h100-minilm": "cuda", "cpu-2-minilm": "cpu", "cpu-2": "cpu"}
"""The kept runs that show what padding costs."""
SERVING = ROOT / "docs/serving.md"
SERVED_RUNS = {
    "h100-served": "cuda",
    "h100-minilm-tensorrt": "cuda",
    "h200-minilm-tensorrt": "cuda",
    "cpu-2": "cpu",
    "cpu-2-minilm": "cpu",
}
"""The kept runs that show what rows hold under load; README.md shows the first."""
CPU = ROOT / "docs/cpu.md"
CPU_RUNS = ("cpu-2", "cpu-2-minilm")
"""The kept runs that show the CPU's rows."""
CPU_BEST_BEFORE = "ort_cpu_int8"
"""The row of each padding that the CPU's others are held against."""
CPU_SIZES = (1, 8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    stale = {path: text for path, text in filled() if text != read(path)}
    if not given.check:
        draw(FIRST_RUN)
        draw_served(next(iter(SERVED_RUNS)))
    for path, text in stale.items():
        if not given.check:
            write_text(path, text)
        print(f"{path.relative_to(ROOT).as_posix()} {'is not what the runs say' if given.check else 'written'}")
    return int(given.check and bool(stale))


def read(path: Path) -> str:
    """Return a file's text, empty where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def filled() -> Iterator[tuple[Path, str]]:
    """Yield each file with its text as it should be."""
    text = with_block(README.read_text(encoding="utf-8"), "recorded run", summary_of(FIRST_RUN))
    text = with_block(text, "served", served_in_run(next(iter(SERVED_RUNS))))
    yield README, with_block(text, "accuracy", accuracy_of("cpu-2-minilm", {"fixed"}))
    yield OWN_MODEL, with_runs(OWN_MODEL, TRAINED_RUNS, accuracy_of)
    yield LENGTHS, with_runs(LENGTHS, PADDED_RUNS, padding_of_run)
    yield CPU, with_runs(CPU, CPU_RUNS, cpu_rows_of)
    yield SERVING, with_runs(SERVING, SERVED_RUNS, served_in_run)
    yield from ((RUNS / run.name / "README.md", run.readme()) for run in read_runs(RUNS))
    yield STATISTICS, with_block(STATISTICS.read_text(encoding="utf-8"), "two runs", two_runs())


def with_runs(path: Path, names: Iterable[str], content: Callable[[str], str]) -> str:
    """Return a file's text with the content of each run, or record, in the block of its name."""
    text = path.read_text(encoding="utf-8")
    for name in names:
        text = with_block(text, name, content(name))
    return text


def accuracy_of(name: str, paddings: Container[str] = ("fixed", "longest", "none")) -> str:
    """Return the accuracy of a run's rows of these paddings beside their latency at the smallest batch size."""
    run = RecordedRun.read(RUNS / name)
    rows = by_padding(run.measured(TRAINED_RUNS[name]))
    rows = rows[[padding in paddings for padding in rows["padding"]]]
    columns = ("row", "p50 ms at batch 1", "accuracy, 95% interval", "loss against fp32")
    chosen = rows[rows["batch_size"] == rows["batch_size"].min()]
    cells = (
        [f"`{row.variant}`", milliseconds(row.p50_ms), accuracy_text(row), loss_text(row)]
        for row in chosen.itertuples()
    )
    return "\n".join(table_lines(columns, columns[:1], cells))


def padding_of_run(name: str) -> str:
    """Return the lengths of a run's sentences, and its fastest row of each padding at each batch size."""
    run = RecordedRun.read(RUNS / name)
    rows = by_padding(run.measured(PADDED_RUNS[name]))
    ways = [way for way in ("fixed", "longest", "none") if way in set(rows["padding"])]
    columns = ["batch", *(f"{way}, p50 ms" for way in ways), *(f"{way}, tokens a sentence" for way in ways)]
    lines = []
    for size, group in rows.groupby("batch_size"):
        best = [fastest(group[group["padding"] == way].itertuples()) for way in ways]
        figures = [f"{milliseconds(row.p50_ms)} `{row.variant}`" for row in best]
        lines.append([str(size), *figures, *(f"{row.tokens_computed:.1f}" for row in best)])
    return "\n".join([f"{run.context().length_text()}:", "", *table_lines(columns, columns[1 : 1 + len(ways)], lines)])


def cpu_rows_of(name: str) -> str:
    """Return each CPU row of a run with its p50 as a share of dynamic INT8's with the same padding."""
    rows = by_padding(RecordedRun.read(RUNS / name).measured("cpu"))
    titles = [title for size in CPU_SIZES for title in (f"p50 ms at batch {size}", "of dynamic INT8")]
    columns = ["row", *titles, "loss against fp32"]
    lines = []
    for (_, variant), cells in rows.groupby(["padding", "variant"], sort=False):
        at = {row.batch_size: row for row in cells.itertuples()}
        figures = [text for size in CPU_SIZES for text in _against_dynamic(at[size], rows)]
        lines.append([f"`{variant}`", *figures, loss_text(at[CPU_SIZES[0]])])
    return "\n".join(table_lines(columns, columns[:1], lines))


def _against_dynamic(row: Any, rows: pd.DataFrame) -> tuple[str, str]:
    same = rows[(rows["padding"] == row.padding) & (rows["batch_size"] == row.batch_size)]
    before = same[same["variant"].str.removesuffix("_longest") == CPU_BEST_BEFORE]
    share = MISSING if before.empty else f"{row.p50_ms / before.iloc[0]['p50_ms']:.2f}"
    return milliseconds(row.p50_ms), share


def served_in_run(name: str) -> str:
    """Return what a run's rows held under load, and which of them to serve with."""
    run = RecordedRun.read(RUNS / name)
    tried = run.serving[run.serving["device"] == SERVED_RUNS[name]]
    rows, others = served(tried), [f"- {line}" for line in not_served(tried)]
    said = [f"{terms(rows)[0].upper()}{terms(rows)[1:]}:", "", *served_table(rows), "", *pick_lines(rows)]
    return "\n".join([*said, *(["", *others] if others else [])])


def two_runs() -> str:
    """Return what of one run held in a second one."""
    inside = ("p50 inside", "p95 inside", "called different from themselves")
    names = ("machine", *inside, "pairs decided", "the same again", "turned round", "median difference of p50")
    recorded = json.loads(VALIDATED.read_text(encoding="utf-8"))["summary"]
    return "\n".join(table_lines(names, names[:1], (_two_runs_row(*each) for each in recorded.items())))


def _two_runs_row(title: str, by_device: dict[str, Any]) -> list[str]:
    [found] = by_device.values()
    p50, p95 = (found["in_the_interval_for_another_run"][each] for each in ("p50", "p95"))
    return [
        title,
        f"{p50['inside']} of {p50['known']}",
        f"{p95['inside']} of {p95['known']}" if p95["known"] else "unknown",
        f"{found['cells_called_faster_or_slower_than_themselves']} of {found['cells']}",
        f"{found['pairs_faster_or_slower']} of {found['pairs']}",
        str(found["the_same_again"]),
        str(found["turned_round"]),
        f"{found['median_difference_of_p50']:.1%}",
    ]


def summary_of(name: str) -> str:
    """Return a kept run's machine and the short answers of its panels."""
    run = RecordedRun.read(RUNS / name)
    return render_summary(run.table, run.context(), run.serving).strip()


def draw(name: str) -> None:
    """Draw a kept run's GPU latencies for README.md."""
    run = RecordedRun.read(RUNS / name)
    chart = latency_by_batch(Measured("cuda", run.measured("cuda"), run.context()))
    with replacing_file(PICTURE) as temporary:
        temporary.write_bytes(chart.png(caption("cuda", run.context())))


def draw_served(name: str) -> None:
    """Draw p99 by offered load of a kept run for README.md: the chart of the page."""
    run = RecordedRun.read(RUNS / name)
    curves = kept_curves(RUNS / name)
    answer = answers(run.serving, curves, run.table, {})[SERVED_RUNS[name]]
    held = {str(key): curves[str(key)] for key in served(run.serving)["variant"]}
    device = SERVED_RUNS[name]
    chart = served_chart(Measured(device, run.measured(device), run.context(), curves=held, answers=answer))
    if chart is None:
        raise ValueError(f"{name} has no rows under load")
    with replacing_file(SERVED_PICTURE) as temporary:
        temporary.write_bytes(chart.png(caption(device, run.context())))


def with_block(text: str, name: str, content: str) -> str:
    """Return `text` with other content between the two marks of a block; ValueError if it has no such block."""
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    block = re.compile(re.escape(marks[0]) + ".*?" + re.escape(marks[1]), re.DOTALL)
    if len(block.findall(text)) != 1:
        raise ValueError(f"wanted one block from {marks[0]} to {marks[1]}")
    return block.sub(lambda _found: f"{marks[0]}\n{content}\n{marks[1]}", text)


if __name__ == "__main__":
    sys.exit(main())
