"""Compare two versions:  python run.py compare [SIDE [SIDE]] [--with PACKAGE==VERSION] [-S KEY=VALUE]

A side is a folder of this project or a git revision; without any, this folder is both.  One side is compared with this
folder as it is.  --with and -S change the second side.  Exit code 0: nothing is worse; 1: something is; 2: a side could
not be measured.  docs/compare.md has more.
"""

import argparse
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.core.errors import BenchError, ParameterError, WorkerError, describe_os_error
from bench.core.files import write_text
from bench.core.interrupt import CUT_SHORT, ended_by_ctrl_c
from bench.core.params import Device, Params, load_params
from bench.core.progress import log
from bench.machine.lock import timing_lock
from compare.describe import DescribedRow
from compare.judge import Judge, beside, unmeasured
from compare.loaded import to_be_loaded
from compare.report import Beside, Change, Comparison, SideRecord
from compare.sides import FOLDER, Side, check_space
from compare.timed import AFTER, BEFORE, Group, Outcome, Timed

WORSE, NOT_MEASURED = 1, 2
DEVICES: tuple[Device, ...] = ("cpu", "cuda")
MISSING = Outcome("missing", "no such row")


def main() -> int:
    given = _arguments()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(FOLDER / "lock", timeout=0):
            return _compare(given)
    except Timeout:
        problem = "another compare runs in this folder: wait for it, or use another clone"
    except BenchError as fault:
        problem = str(fault)
    except OSError as fault:
        problem = describe_os_error(fault)
    except (KeyboardInterrupt, SystemExit):  # the latter of a second Ctrl-C while rows are timed
        problem = "stopped by the user"
    except Exception:  # a fault of the project says nothing about a row
        traceback.print_exc()
        return NOT_MEASURED
    print(f"error: {problem}", file=sys.stderr)
    return NOT_MEASURED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sides", metavar="SIDE", nargs="*", help="a folder or a git revision (default: this folder)")
    parser.add_argument("--rows", default="*", help="rows, as A,B or with * (default: all)")
    parser.add_argument("--batch-sizes", default="", help="batch sizes, as 1,8 (default: all of params.yaml)")
    parser.add_argument("--served", action="store_true", help="send loads to the rows, too: requests/s within the SLO")
    parser.add_argument("--minutes", type=_number, help="of a device's passes, at most (default: timing.minutes)")
    parser.add_argument("--margin", type=_share, help="a change that decides nothing, as 3%% (default: report.margin)")
    parser.add_argument("--with", dest="with_", action="append", default=[], metavar="PACKAGE==VERSION")
    parser.add_argument("-S", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--both", action="append", default=[], metavar="KEY=VALUE", help="like -S, on both sides")
    parser.add_argument("--strict", action="store_true", help="inconclusive comparisons end with 1")
    parser.add_argument("--output", type=Path, default=FOLDER, help="where compare.json and compare.md are written")
    given = parser.parse_args()
    if len(given.sides) > 2:
        parser.error("two sides at most")
    return given


def _number(text: str, most: float = 1e5) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < most:
        raise argparse.ArgumentTypeError(f"got {text}, allowed: a number above 0 and below {most:g}")
    return value


def _share(text: str) -> float:
    return _number(text[:-1], 100) / 100 if text.endswith("%") else _number(text, 1)


def _params(given: argparse.Namespace) -> Params:
    params = load_params()
    minutes = {"minutes": given.minutes} if given.minutes else {}
    margin = {"margin": given.margin} if given.margin else {}
    changed = {
        "timing": params.timing.model_copy(update=minutes),
        "serving": params.serving.model_copy(update={"search": False, **minutes}),
        "report": params.report.model_copy(update=margin),
    }
    return params.model_copy(update=changed)


def _compare(given: argparse.Namespace) -> int:
    params, here = _params(given), Path.cwd()
    asked = {0: [".", "."], 1: [*given.sides, "."]}.get(len(given.sides), given.sides)
    before = Side(BEFORE, asked[0], here, here / FOLDER / BEFORE, settings=given.both)
    settings = [*given.both, *given.settings]
    after = Side(AFTER, asked[1], here, here / FOLDER / AFTER, with_=given.with_, settings=settings)
    sides = {BEFORE: before, AFTER: after}
    for side in sides.values():
        side.clone()
    rows = _chosen(given.rows, sides)
    pins = {label: side.resolve() for label, side in sides.items()}
    check_space([*sides.values()], [*pins.values()])
    before.make(pins[BEFORE], rows)
    after.make(pins[AFTER], rows, before)
    found = _Found(params, sides, rows, _sizes(given, sides), given.served)
    found.measure()
    comparison = found.comparison(given.strict)
    markdown, content = comparison.markdown(), comparison.model_dump_json(indent=1) + "\n"
    log(f"\n{markdown}")
    for name, text in {"compare.json": content, "compare.md": markdown}.items():
        write_text(given.output / name, text)
        log(f"written: {(given.output / name).as_posix()}")
    return comparison.exit_code


def _chosen(asked: str, sides: Mapping[str, Side]) -> list[str]:
    known = list(dict.fromkeys(key for side in sides.values() for key in side.variants()))
    patterns = asked.split(",")
    for pattern in patterns:
        if not any(fnmatchcase(key, pattern) for key in known):
            raise ParameterError(f"compare: --rows {pattern}: no such row, allowed: {', '.join(known)}")
    return [key for key in known if any(fnmatchcase(key, pattern) for pattern in patterns)]


def _sizes(given: argparse.Namespace, sides: Mapping[str, Side]) -> list[int]:
    jobs = [row.job for side in sides.values() for row in side.described.rows.values() if row.job]
    known = sorted({size for job in jobs for size in job.batch_sizes})
    asked = [each for each in given.batch_sizes.split(",") if each]
    for each in asked:
        if each not in map(str, known):
            raise ParameterError(f"compare: --batch-sizes: got {each}, allowed: {', '.join(map(str, known))}")
    return [int(each) for each in asked] or known


@dataclass
class _Found:
    """A comparison while it is made."""

    params: Params
    sides: Mapping[str, Side]
    rows: list[str]
    sizes: list[int]
    is_served: bool

    def measure(self) -> None:
        """Measure the rows that both sides can try, a device after another."""
        self.timed: list[list[Group]] = []
        self.loaded: list[list[Group]] = []
        self.untried = [*self._untried()]
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            timing_lock(),
            ended_by_ctrl_c() as interrupt,
        ):
            for device in DEVICES:
                keys = [key for key in self.rows if self._device(key) == device]
                if keys:
                    control = next((key for key in keys if key == self.params.baselines.get(device)), keys[0])
                    own = Timed(keys, control, self.sides, self.params, self.sizes, Path(scratch) / device, interrupt)
                    self.timed.append([*own.groups()])
                    if self.is_served:
                        loaded, outcomes = to_be_loaded(own, self.timed[-1])
                        self.untried += [unmeasured(key, None, each) for key, each in outcomes.items()]
                        self.loaded.append([*loaded.groups()])
            self.cut_short = CUT_SHORT if interrupt.is_cut() else ""
        if not self.timed:
            reasons = (f"{key}: {unmeasured(key, None, self._outcomes(key)).reason}" for key in self.rows)
            raise WorkerError("compare: no row could be tried on both sides: " + "; ".join(reasons))

    def _of(self, key: str) -> list[DescribedRow | None]:
        return [side.described.rows.get(key) for side in self.sides.values()]

    def _device(self, key: str) -> str | None:
        """Return the device of a row that both sides can try."""
        devices = {row.variant.device if row and row.job else None for row in self._of(key)}
        return devices.pop() if len(devices) == 1 else None

    def _outcomes(self, key: str) -> list[Outcome]:
        """Return what is known of a row before it is timed."""
        return [Outcome("measured" if row.job else row.status, row.reason) if row else MISSING for row in self._of(key)]

    def _untried(self) -> Iterator[Change]:
        """Yield rows that one side alone can try."""
        for key in self.rows:
            jobs = [row.job for row in self._of(key) if row and row.job]
            for size in jobs[0].batch_sizes if len(jobs) == 1 else ():
                if size in self.sizes:
                    yield unmeasured(key, size, self._outcomes(key))

    def _record(self, label: str) -> SideRecord:
        side, own = self.sides[label], self.sides[label].described
        return SideRecord(
            asked=side.asked,
            commit=side.commit,
            changed_files=side.changed,
            settings=list(side.settings),
            with_packages=list(side.with_),
            model=own.model,
            model_is_real=own.is_real,
            versions=own.environment["versions"],
        )

    def comparison(self, is_strict: bool) -> Comparison:
        """Judge what was timed."""
        judges = [Judge(groups, self.params.report.margin) for groups in (*self.timed, *self.loaded)]
        changes = [change for judge in judges for change in judge.changes()] + self.untried
        controls = [control for judge in judges for control in judge.controls()]
        rows = [row for group in chain.from_iterable(self.timed) for row in beside(group, self.sides, self.params)]
        old, new = (self.sides[label].described for label in (BEFORE, AFTER))
        both = {name: (old.packages[name], new.packages[name]) for name in sorted({*old.packages} & {*new.packages})}
        return Comparison(
            exit_code=exit_code(changes, rows, is_strict, self.cut_short),
            strict=is_strict,
            minutes=self.params.timing.minutes,
            margin=self.params.report.margin,
            cut_short=self.cut_short,
            machine=_machine(new.environment),
            before=self._record(BEFORE),
            after=self._record(AFTER),
            moved={name: (was, now) for name, (was, now) in both.items() if was != now},
            changes=changes,
            controls=controls,
            beside=rows,
        )


def _machine(environment: Mapping[str, Any]) -> str:
    cpu, gpu = environment["cpu"], environment["cuda"]
    return f"{cpu['model']}, {cpu['cores']} cores" + (f", {gpu['gpu']}" if gpu else "")


def exit_code(changes: Sequence[Change], rows: Sequence[Beside], is_strict: bool, cut_short: str) -> int:
    """Return whether something is worse, or, if not, whether anything was measured to the end on both sides.

    What Ctrl-C ended before a side was measured is not lost.
    """
    found = {change.verdict for change in changes} - ({"lost"} if cut_short else set())
    if found & {"slower", "lost"} or any(row.worse for row in rows) or (is_strict and "inconclusive" in found):
        return WORSE
    return NOT_MEASURED if cut_short or all(change.change is None for change in changes) else 0


if __name__ == "__main__":
    sys.exit(main())
