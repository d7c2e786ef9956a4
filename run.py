#!/usr/bin/env python3
"""Set up and run everything; needs nothing but Python 3.11 or newer and git.

    python run.py                   measure what is stale, then show the results
    python run.py test [--slow]     run every check (ruff, mypy, pytest), the slow tests too
    python run.py test ... TESTS    run the named tests alone
    python run.py show              open the page of the last run in the browser
    python run.py deploy FOLDER     write a folder that serves the best row over HTTP (docs/deploy.md)
    python run.py record NAME       keep the last run under a name and compare all kept runs
    python run.py compare SIDE      is this folder slower than a revision or another folder? (docs/compare.md)
    python run.py fleet             measure each machine type of a Ray cluster (docs/comparing_machines.md)
    python run.py dvc ...           run anything in the project's environment

The environment is .venv in this folder.  It is made on the first call, and anew whenever it is half-made, was moved,
is of another Python, or a lock (requirements.lock, requirements-dev.lock) changed.  `fleet` has one of its own.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
import webbrowser
from collections.abc import Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PAGE = ROOT / "results/report.html"
SUFFIX = ".exe" if os.name == "nt" else ""
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
PLATFORMS = {"Linux": ("x86_64", "aarch64"), "Windows": ("amd64",), "Darwin": ("arm64",)}
"""Where all pinned packages are: PyTorch left Macs with Intel's processors at 2.3."""
OLDEST_MACOS = 14
UV = "uv==0.13.9"
"""Installs in a fraction of pip's time; pip takes its place where it cannot be had."""
RUN, DEVELOP, FLEET = "requirements.lock", "requirements-dev.lock", "fleet/requirements.lock"
SERVER, RAY = "bench/deploy/requirements.lock", "bench/deploy/ray.lock"
SIZE_NOTES = {RUN: "; the first time this fetches up to 3 GB and takes minutes"}
MEASURE = (
    ["python", "-m", "bench.runtimes.base.check_params"],
    ["dvc", "repro"],
    ["python", "-m", "bench.report.terminal"],
)
COMPARE = ["dvc", "repro", "compare_runs"]
WORKERS = min((os.cpu_count() or 1) + 1, 8)  # one more than cores: tests wait for other processes a quarter of the time
CHECKS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    ["pytest", "--numprocesses", str(WORKERS), "--dist", "worksteal"],
)
say = partial(print, flush=True)


def main() -> int:
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    refused = next(unsupported(), "")
    return fail(refused) if refused else start(sys.argv[1:])


def start(arguments: list[str]) -> int:
    """Prepare the environment that a command needs, and run it there; return the exit code."""
    match arguments:
        case []:
            return OWN.prepare(RUN) or OWN.run_all(*MEASURE)
        case ["test", *more]:
            return OWN.prepare(RUN, DEVELOP, SERVER, RAY) or check(more)
        case ["fleet" | "fingerprint" as what, *more]:
            module = "fleet" if what == "fleet" else "fleet.machine_types"
            return OF_FLEETS.prepare(FLEET) or OF_FLEETS.run(["python", "-m", module, *more])
        case ["record" | "deploy" | "compare" as what, *more]:
            is_kept = what == "record" and {"-h", "--help"}.isdisjoint(more)
            module = {"record": "bench.runs.record", "deploy": "bench.deploy.build"}.get(what, what)
            return OWN.prepare(RUN) or OWN.run_all(["python", "-m", module, *more], *[COMPARE] * is_kept)
        case ["show"]:
            return show()
    return OWN.prepare(RUN) or OWN.run(arguments)


def show() -> int:
    """Open the page of the last run in the browser; return the exit code."""
    if not PAGE.exists():
        return fail(f"{PAGE.relative_to(ROOT).as_posix()} is missing: `python run.py` measures and writes it")
    address = PAGE.as_uri()
    say(address if webbrowser.open(address) else f"no browser could be started here; open {address}")
    return 0


def fail(message: str, code: int = 1) -> int:
    """Print an error and return the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code


def unsupported() -> Iterator[str]:
    """Yield why this machine or Python cannot be served, before anything is fetched."""
    found = ".".join(map(str, sys.version_info[:3]))
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        allowed = " to ".join(".".join(map(str, version)) for version in (OLDEST_PYTHON, NEWEST_PYTHON))
        yield f"Python {found} has no packages of the pinned versions, allowed: {allowed}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        yield f"this is a free-threaded Python {found}, for which not all pinned versions have packages: use another"
    if sys.maxsize < 2**32:
        yield f"this Python {found} is a 32-bit one, allowed: a 64-bit one"
    if platform.machine().lower() not in PLATFORMS.get(platform.system(), ()):
        allowed = "; ".join(f"{system}: {', '.join(machines)}" for system, machines in PLATFORMS.items())
        where = f"{platform.system()} on {platform.machine()}"
        yield f"{where} has no packages of the pinned versions (of PyTorch or ONNX Runtime), allowed: {allowed}"
    if platform.system() == "Darwin" and int(platform.mac_ver()[0].split(".")[0] or OLDEST_MACOS) < OLDEST_MACOS:
        yield f"macOS {platform.mac_ver()[0]} has no packages of the pinned PyTorch, allowed: {OLDEST_MACOS} or newer"
    if platform.system() == "Linux" and platform.libc_ver()[0] != "glibc":
        yield "this Linux has no glibc (Alpine, for one), which PyTorch's packages need: use another, or a container"


def read(path: Path) -> str:
    """Return a file's text, empty where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


class Environment:
    """A virtual environment in the project's folder that holds what locks pin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / f"python{SUFFIX}"
        self.home = folder / "made_for.txt"

    def prepare(self, *locks: str) -> int:
        """Make it and install what the locks pin, unless that was done for just these files, this folder and Python."""
        stamps = {lock: self.folder / f"{Path(lock).name}.installed" for lock in locks}
        missing = [lock for lock, stamp in stamps.items() if not self.python.exists() or read(stamp) != self.mark(lock)]
        if not missing:
            return 0
        is_older = any(stamps[lock].exists() for lock in missing)
        has_pip = self.python.exists() and (self.site_packages() / "pip").is_dir()
        is_whole = has_pip and read(self.home) == self.made_for() and not is_older
        if not is_whole and (problem := self.make()):
            return fail(problem)
        for lock in missing if is_whole else locks:
            if code := self.install(lock):
                self.home.unlink(missing_ok=True)  # the next call starts with a new one
                return fail(f"installing {lock} failed (code {code}): its last words stand above", code)
            stamps[lock].write_text(self.mark(lock), encoding="utf-8")
        return 0

    def mark(self, lock: str) -> str:
        """Return what an installed lock is known by: its content, and what the environment was made for."""
        return f"{hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()} {self.made_for()}"

    def made_for(self) -> str:
        """Return what it depends on: its own place, which its programs name, and the Python that it is made of."""
        return f"{self.folder} {sys.base_prefix} {sys.version}"

    def make(self) -> str:
        """Make it, in place of one that is half-made, moved or outdated; return what went wrong, empty if nothing."""
        if importlib.util.find_spec("ensurepip") is None:
            package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            known = f"Debian, Ubuntu: `apt install {package}`"
            return f"this Python has no ensurepip: install it ({known}), or use another Python"
        again = " anew; what was installed by hand besides is gone" if self.folder.exists() else ""
        say(f"making {self.folder.name} with Python {sys.version.split()[0]}{again}")
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
            venv.create(self.folder, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            return f"{self.folder.name} could not be made: {problem}"
        self.put_programs_first()
        self.home.write_text(self.made_for(), encoding="utf-8")
        return ""

    def site_packages(self) -> Path:
        """Return the folder of its packages."""
        places = {"base": str(self.folder), "platbase": str(self.folder)}
        return Path(sysconfig.get_path("purelib", "nt" if os.name == "nt" else "posix_prefix", places))

    def put_programs_first(self) -> None:
        """Let its Python find its programs first, so that `.venv/bin/dvc repro` runs its stages with it too.

        And let DVC run them in bash in place of a plain sh, which dies of a Ctrl-C that a stage has heard.
        """
        programs = (
            "import os, sysconfig; programs, path = sysconfig.get_path('scripts'), os.environ.get('PATH', ''); "
            "path.startswith(programs) or os.environ.update(PATH=programs + os.pathsep + path)"
        )
        shell = (
            "import os, shutil; bash = os.name != 'nt' and shutil.which('bash'); "
            "bash and os.path.basename(os.environ.get('SHELL', '')) in ('', 'sh', 'dash') "
            "and os.environ.update(SHELL=bash)"
        )
        (self.site_packages() / "programs_first.pth").write_text(f"{programs}\n{shell}\n", encoding="utf-8")

    def install(self, lock: str) -> int:
        """Install what one lock pins; uv does it, after pip got it where it is missing, or else pip."""
        say(f"installing {lock}{SIZE_NOTES.get(lock, '')}")
        wanted = ["--quiet", "--require-hashes", "-r", lock]
        uv = self.bin / f"uv{SUFFIX}"
        if uv.exists() or self.pip("--quiet", UV) == 0:
            command = [str(uv), "pip", "install", "--python", str(self.python), "--compile-bytecode", *wanted]
            if subprocess.call(command, cwd=ROOT) == 0:
                return 0
            say("uv could not install it; pip tries")
        return self.pip(*wanted)

    def pip(self, *arguments: str) -> int:
        """Run its `pip install`; return the exit code."""
        command = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
        return subprocess.call(command, cwd=ROOT)

    def run(self, command: list[str]) -> int:
        """Run one of its programs in the project's folder, its programs first on the path; return the exit code."""
        program = self.bin / f"{command[0]}{SUFFIX}"
        if not program.exists():
            own = "no argument, test, show, record, deploy, compare, fleet"
            allowed = f"{own}, or a program of .venv such as dvc, python, pip, pytest"
            return fail(f"no command {command[0]!r}, allowed: {allowed}", 127)
        path = f"{self.bin}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(self.folder)}
        environment.pop("PYTHONHOME", None)
        before = signal.signal(signal.SIGINT, lambda *_: None)  # the program decides what Ctrl-C ends
        try:
            return subprocess.call([str(program), *command[1:]], cwd=ROOT, env=environment)
        finally:
            signal.signal(signal.SIGINT, before)

    def run_all(self, *commands: list[str]) -> int:
        """Run one after another up to the first that fails; return its exit code."""
        return next((code for command in commands if (code := self.run(command))), 0)


OWN, OF_FLEETS = Environment(ROOT / ".venv"), Environment(ROOT / ".venv-fleet")


def check(options: list[str]) -> int:
    """Run every check to its end, and fail if one of them failed; where tests are named, run these alone."""
    if set(options) - {"--slow"}:
        return OWN.run(["pytest", *options])
    *others, tests = CHECKS
    failed = [" ".join(command) for command in (*others, [*tests, *options]) if OWN.run(command)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
