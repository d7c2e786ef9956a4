"""The project's own files and the packages that a script needs, found from its import statements."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from modulefinder import ModuleFinder
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path("requirements.lock")
SERVER_LOCK = Path("bench/deploy/requirements.lock")
RAY_LOCK = Path("bench/deploy/ray.lock")
PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
HASH = re.compile(r" \\\n +--hash=\S+")
OF_ENVIRONMENT = {"pip", "setuptools"}
"""What makes an environment: needed where a lock pins it."""
OF_TABLES = "bench/core/"
"""Where imports inside functions are of what a server never calls: tables, models, the hub."""


def closure(*scripts: str) -> set[str]:
    """Return the scripts and every project file that they import, as paths from the project's folder."""
    found = set(scripts)
    for script in scripts:
        finder = ModuleFinder([str(ROOT), str((ROOT / script).parent)])
        finder.run_script(str(ROOT / script))
        files = (getattr(module, "__file__", "") for module in finder.modules.values())
        found |= {Path(file).relative_to(ROOT).as_posix() for file in files if file}
    return found


def requirements(files: Iterable[str], libraries: Iterable[str]) -> tuple[str, bool]:
    """Return what pip installs for these files, a runtime's libraries and the server, and whether all of it has hashes.

    Pinned to what is installed here.  A version that no lock knows has no hash, and then none may have one.
    """
    pins, server = _pins(LOCK), _pins(SERVER_LOCK)
    needed = _needed({*libraries, *_modules(files)})
    found = {name: _pin(name, [*pins.get(name, []), *server.get(name, [])]) for name in needed}
    installed = {name: block for name, block in found.items() if "--hash=" in block or name not in OF_ENVIRONMENT}
    blocks = list(installed.values())
    has_hashes = all("--hash=" in block for block in blocks)
    blocks += [block for name, own in server.items() if name not in installed for block in own]
    return _text(blocks, has_hashes), has_hashes


def of_ray(others: str, has_hashes: bool) -> str:
    """Return what pip installs for Ray beside these other requirements, with hashes if those have them."""
    there = {canonicalize_name(name) for name, _ in PIN.findall(others)}
    blocks = [block for name, own in _pins(RAY_LOCK).items() if name not in there for block in own]
    return _text(blocks, has_hashes)


def _text(blocks: list[str], has_hashes: bool) -> str:
    text = "\n".join(sorted(blocks)) + "\n"
    return text if has_hashes else HASH.sub("", text)


def _pins(lock: Path) -> dict[str, list[str]]:
    """Return the lines of each package of a lock, by its name."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\w)", (ROOT / lock).read_text(encoding="utf-8")):
        if pin := PIN.match(block):
            found.setdefault(canonicalize_name(pin[1]), []).append(block.strip())
    return found


def _pin(name: str, known: list[str]) -> str:
    wanted = importlib.metadata.version(name)
    return next((block for block in known if PIN.match(block)[2] == wanted), f"{name}=={wanted}")  # type: ignore[index]


def _modules(files: Iterable[str]) -> set[str]:
    """Return the modules of others that are imported when these files run."""
    found: set[str] = set()
    for name in files:
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        nodes = _executed(tree, with_functions=not name.startswith(OF_TABLES))
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"bench"}


def _executed(node: ast.AST, with_functions: bool) -> Iterator[ast.AST]:
    """Yield statements, without those that only type checkers read."""
    for child in ast.iter_child_nodes(node):
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if not is_for_types and (with_functions or not is_function):
            yield child
            yield from _executed(child, with_functions)


def _needed(modules: set[str]) -> set[str]:
    """Return the packages that bring these modules, and all that they need here; what is not installed is left out."""
    by_module = importlib.metadata.packages_distributions()
    waiting = [(canonicalize_name(name), "") for module in modules for name in by_module.get(module, [])]
    found: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add((name, extra))
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(need.name), each) for each in ("", *need.extras)]
    return {str(name) for name, _ in found}
