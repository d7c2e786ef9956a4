"""Put the figures of kept runs into README.md and docs/, and draw each run's README.md anew.

    python run.py python tools/update_docs.py

What stands between `<!-- KIND NAME -->` and `<!-- end -->` is drawn anew, so that no figure in a text is ever typed;
`BLOCKS` has the kinds, NAME is a folder of runs/.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.files import replacing_file, write_text
from bench.report import words
from bench.report.charts.write import caption, make_charts
from bench.report.columns import accuracy, accuracy_loss, grid
from bench.report.document import table_lines, to_markdown
from bench.report.texts import served_blocks
from bench.report.words import milliseconds
from bench.runs.recorded_runs import RecordedRun, is_in_rounds, read_runs
from bench.summary.comparisons import fastest

ROOT = Path(__file__).resolve().parent.parent
README, DOCS, RUNS = ROOT / "README.md", ROOT / "docs", ROOT / "runs"
PADDINGS = ("fixed", "longest", "none")
ANSWER = ("variant", "requests_per_s", "vs_best", "vs_best_verdict", "at_90", "memory_under_load")
"""The columns of the README's first table."""


def main() -> None:
    draw(DOCS / "p99_by_load.png", "h200-minilm", "served")
    for path, text in list(filled()):
        if text != read(path):
            write_text(path, text)
            print(f"{path.relative_to(ROOT).as_posix()} written")


def read(path: Path) -> str:
    """Return a file's text, empty where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def filled() -> Iterator[tuple[Path, str]]:
    """Yield each file with its text as it should be."""
    yield from ((page, with_blocks(read(page))) for page in (README, *sorted(DOCS.glob("*.md"))))
    current = (run for run in read_runs(RUNS) if not is_in_rounds(run.table))
    yield from ((RUNS / run.name / "README.md", run.readme()) for run in current)


def with_blocks(text: str) -> str:
    """Return a page with other content between the marks of its blocks; ValueError for marks that are none."""
    new, count = BLOCK.subn(drawn_anew, text)
    if count != text.count("<!-- ") / 2:
        raise ValueError("wanted <!-- KIND NAME --> and <!-- end --> by turns")
    return new


BLOCK = re.compile(r"(<!-- (\w+) ([\w.-]+) -->)\n.*?<!-- end -->", re.DOTALL)


def drawn_anew(block: re.Match[str]) -> str:
    """Return a block with other content; ValueError for a kind that there is none of."""
    start, kind, name = block.groups()
    if kind not in BLOCKS:
        raise ValueError(f"wanted a block of {', '.join(BLOCKS)}, got {kind}")
    return "\n".join([start, *BLOCKS[kind](RecordedRun.read(RUNS / name)), "<!-- end -->"])


def measured_rows(run: RecordedRun) -> pd.DataFrame:
    """Return a run's measured rows: of the GPU where it has any, else of the CPU."""
    on_gpu = run.measured("cuda")
    return on_gpu if len(on_gpu) else run.measured("cpu")


def accuracy_of_rows(run: RecordedRun) -> list[str]:
    """Return the accuracy of rows, where it was taken, beside p50."""
    columns = ("row", "p50 ms at batch 1", "accuracy, 95% interval", "loss against fp32")
    rows = measured_rows(run)
    chosen = rows[(rows["batch_size"] == rows["batch_size"].min()) & rows["accuracy"].notna()]
    cells = (
        [f"`{row.variant}`", milliseconds(row.p50_ms), accuracy(row._asdict()), accuracy_loss(row._asdict())]
        for row in chosen.itertuples()
    )
    return list(table_lines(columns, columns[:1], cells))


def padding(run: RecordedRun) -> list[str]:
    """Return the lengths of a run's sentences, and its fastest row of each padding at each batch size."""
    rows = measured_rows(run)
    ways = [way for way in PADDINGS if way in set(rows["padding"])]
    columns = ["batch", *(f"{way}, p50 ms" for way in ways), *(f"{way}, tokens a sentence" for way in ways)]
    lines = []
    for size, group in rows.groupby("batch_size"):
        best = [fastest(group[group["padding"] == way].itertuples()) for way in ways]
        figures = [f"{milliseconds(row.p50_ms)} `{row.variant}`" for row in best]
        lines.append([str(size), *figures, *(f"{row.tokens_computed:.1f}" for row in best)])
    return [f"{run.context.length_text()}:", "", *table_lines(columns, columns[1 : 1 + len(ways)], lines)]


def answer(run: RecordedRun) -> list[str]:
    """Return the rows under load in few columns, what padding and text cost, and the rows that sustain nothing."""
    shown = run.shown()
    served = next(panel.served for panel in shown.findings.panels if panel.served and panel.served.rows)
    views = shown.served(served)
    lines = [grid("served", views, ANSWER)]
    best, padded = views[0], next((view for view in views if view["padding"] == "fixed"), None)
    if padded and best["padding"] != "fixed":
        more = words.ratio(best["requests_per_s"] / padded["requests_per_s"])
        tokens = f"{best['tokens_per_request']:.1f} tokens a request instead of {padded['tokens_per_request']:.1f}"
        lines += ["", f"- no padding to the sequence length: {more} the requests/s of the best row with it, {tokens}"]
    if served.from_text:
        lines.append(f"- {words.from_text(served.from_text)}")
    return [*lines, *(f"- {line}" for line in words.left_out(served.not_served))]


def served(run: RecordedRun) -> list[str]:
    """Return what a run's rows sustain under load, on the GPU where one was served, and which of them to serve with."""
    shown = run.shown()
    panel = next(panel for panel in shown.findings.panels if panel.served and panel.served.rows)
    return [to_markdown(served_blocks(shown, panel)).strip()]


BLOCKS: dict[str, Callable[[RecordedRun], list[str]]] = {
    make.__name__: make for make in (answer, served, accuracy_of_rows, padding)
}
"""What makes the content of each kind of block, of a kept run."""


def draw(path: Path, name: str, chart: str) -> None:
    """Draw a chart of a kept run's GPU; of the rows under load those that sustain a rate."""
    run = RecordedRun.read(RUNS / name)
    held = run.serving[run.serving["status"] == "measured"]["variant"]
    charts = make_charts(run.shown(), run.table, {variant: run.curves[variant] for variant in held})
    with replacing_file(path) as temporary:
        temporary.write_bytes(charts["cuda"][chart].png(caption("cuda", run.context)))


if __name__ == "__main__":
    main()
