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
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.core.errors import BenchError, ParameterError, WorkerError, describe_os_error
from bench.core.files import write_text
from bench.core.interrupt import CUT_SHORT, ended_by_ctrl_c
from bench.core.params import Params, load_params
from bench.core.progress import log
from bench.machine.lock import timing_lock
from compare.describe import Description
from compare.judge import Judge, beside, unmeasured
from compare.report import Beside, Change, Comparison, SideRecord
from compare.sides import FOLDER, Side, check_space
from compare.timed import AFTER, BEFORE, Group, Timed

WORSE, NOT_MEASURED = 1, 2


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
    parser.add_argument("--minutes", type=float, help="of a device's passes, at most (default: timing.minutes)")
    parser.add_argument("--margin", default="", help="a change that decides nothing, as 3%% (default: report.margin)")
    parser.add_argument("--with", dest="with_", action="append", default=[], metavar="PACKAGE==VERSION")
    parser.add_argument("-S", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--both", action="append", default=[], metavar="KEY=VALUE", help="like -S, on both sides")
    parser.add_argument("--strict", action="store_true", help="inconclusive comparisons end with 1")
    parser.add_argument("--output", type=Path, default=FOLDER, help="where compare.json and compare.md are written")
    given = parser.parse_args()
    if len(given.sides) > 2:
        parser.error("two sides at most")
    return given


def _params(given: argparse.Namespace) -> Params:
    params = load_params()
    timing, report = params.timing, params.report
    if given.minutes is not None:
        timing = timing.model_copy(update={"minutes": _number(f"{given.minutes}", "--minutes", 1e5)})
    if given.margin:
        share = given.margin.endswith("%")
        margin = _number(given.margin.removesuffix("%"), "--margin", 100.0 if share else 1.0) / (100 if share else 1)
        report = report.model_copy(update={"margin": margin})
    return params.model_copy(update={"timing": timing, "report": report})


def _number(text: str, option: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < most:
        raise ParameterError(f"compare: {option}: got {text}, allowed: a number above 0 and below {most:g}")
    return value


def _compare(given: argparse.Namespace) -> int:
    params, here = _params(given), Path.cwd()
    asked = {0: [".", "."], 1: [*given.sides, "."]}.get(len(given.sides), given.sides)
    before, after = (
        Side(label, name, here, (here / FOLDER / label)) for label, name in zip((BEFORE, AFTER), asked, strict=True)
    )
    before.settings = given.both
    after.with_, after.settings = given.with_, [*given.both, *given.settings]
    sides = {BEFORE: before, AFTER: after}
    for side in sides.values():
        side.clone()
    rows = _chosen(given.rows, sides)
    pins = {label: side.resolve() for label, side in sides.items()}
    check_space([*sides.values()], [*pins.values()])
    described = {BEFORE: before.make(pins[BEFORE], rows)}
    described[AFTER] = after.make(pins[AFTER], rows, before)
    found = _Found(params, sides, described, rows, _sizes(given, described))
    found.time()
    comparison = found.comparison(given.strict)
    log(f"\n{comparison.markdown()}")
    for name, text in (
        ("compare.json", comparison.model_dump_json(indent=1) + "\n"),
        ("compare.md", comparison.markdown()),
    ):
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


def _sizes(given: argparse.Namespace, described: Mapping[str, Description]) -> list[int]:
    jobs = [row.job for side in described.values() for row in side.rows.values() if row.job]
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
    described: Mapping[str, Description]
    rows: list[str]
    sizes: list[int]

    def time(self) -> None:
        """Time the rows that both sides can try, a device after another."""
        self.groups: dict[str, list[Group]] = {}
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            timing_lock(),
            ended_by_ctrl_c() as interrupt,
        ):
            for device in ("cpu", "cuda"):
                keys = [key for key in self.rows if self._can_both(key) and self._device(key) == device]
                if keys:
                    baseline = self.params.baselines.get(device, "")
                    control = baseline if baseline in keys else keys[0]
                    timed = Timed(
                        keys,
                        control,
                        self.sides,
                        self.described,
                        self.params,
                        self.sizes,
                        Path(scratch) / device,
                        interrupt,
                    )
                    self.groups[device] = list(timed.groups())
            self.cut_short = CUT_SHORT if interrupt.is_cut() else ""
        if not self.groups:
            raise WorkerError("compare: no row could be tried on both sides: " + "; ".join(self._reasons()))

    def _reasons(self) -> Iterator[str]:
        for label, side in self.described.items():
            for key in self.rows:
                row = side.rows.get(key)
                if row is None or not row.job:
                    yield f"{label}/{key} {f'{row.status}: {row.reason}' if row else 'missing'}"

    def _can_both(self, key: str) -> bool:
        rows = [side.rows.get(key) for side in self.described.values()]
        devices = {row.variant.device for row in rows if row and row.job}
        return len(devices) == 1 and all(row and row.job for row in rows)

    def _device(self, key: str) -> str:
        return self.described[AFTER].rows[key].variant.device

    def _untried(self) -> Iterator[Change]:
        """Yield rows that one side alone can try."""
        for key in self.rows:
            rows = [side.rows.get(key) for side in self.described.values()]
            tried = [bool(row and row.job) for row in rows]
            if sum(tried) == 1:
                statuses = ["measured" if row and row.job else row.status if row else "missing" for row in rows]
                reasons = [row.reason if row else "no such row" for row in rows]
                job = next(row.job for row in rows if row and row.job)
                yield from (unmeasured(key, size, statuses, reasons) for size in job.batch_sizes if size in self.sizes)

    def _record(self, label: str) -> SideRecord:
        side, own = self.sides[label], self.described[label]
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
        judges = [Judge(groups, self.params) for groups in self.groups.values()]
        changes = [change for judge in judges for change in judge.changes()] + list(self._untried())
        controls = [control for judge in judges for control in judge.controls()]
        rows = [
            row
            for groups in self.groups.values()
            for group in groups
            for row in beside(group, self.sides, self.described, self.params)
        ]
        old, new = (self.described[label] for label in (BEFORE, AFTER))
        both = sorted(old.packages.keys() & new.packages.keys())
        return Comparison(
            exit_code=exit_code(changes, rows, is_strict, self.cut_short),
            strict=is_strict,
            minutes=self.params.timing.minutes,
            margin=self.params.report.margin,
            cut_short=self.cut_short,
            machine=_machine(new.environment),
            before=self._record(BEFORE),
            after=self._record(AFTER),
            moved={
                name: (old.packages[name], new.packages[name])
                for name in both
                if old.packages[name] != new.packages[name]
            },
            changes=changes,
            controls=controls,
            beside=rows,
        )


def _machine(environment: Mapping[str, Any]) -> str:
    cpu, gpu = environment["cpu"], environment["cuda"]
    return f"{cpu['model']}, {cpu['cores']} cores" + (f", {gpu['gpu']}" if gpu else "")


def exit_code(changes: Sequence[Change], rows: Sequence[Beside], is_strict: bool, cut_short: str) -> int:
    """Return whether something is worse, or, if not, whether anything was measured to the end on both sides."""
    found = {change.verdict for change in changes}
    if found & {"slower", "lost"} or any(row.worse for row in rows) or (is_strict and "inconclusive" in found):
        return WORSE
    return NOT_MEASURED if cut_short or all(change.change is None for change in changes) else 0


if __name__ == "__main__":
    sys.exit(main())
