"""Find the project's own files that a script imports, directly or not, from the import statements."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNTIMES = "bench/runtimes"


def closure(*scripts: str) -> set[str]:
    """Return the scripts and every project file that they import, as paths from the project's folder."""
    found: set[str] = set()
    waiting = list(scripts)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported_files(ROOT / name)
    return found


def packages(files: set[str]) -> set[str]:
    """Return the packages of bench/ that these files lie in, each as dvc.yaml names it.

    A package is a folder of bench/ with all below it; in bench/runtimes, where a stage depends on its own runtime
    alone, it is a runtime's file or the folder base.  Files with nothing but a docstring belong to none.
    """
    return {_package(Path(name)) for name in files if name.startswith("bench/") and not holds_only_a_docstring(name)}


def _package(path: Path) -> str:
    if path.is_relative_to(RUNTIMES):
        return "/".join(path.parts[:3])
    return "/".join(path.parts[:2])


def holds_only_a_docstring(name: str) -> bool:
    """Tell whether a file holds no code: nothing that it could make stale."""
    return all(isinstance(node, ast.Expr) for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body)


def _imported_files(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names |= _files_of(alias.name, path.parent)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= _files_of(node.module, path.parent)
            for alias in node.names:
                names |= _files_of(f"{node.module}.{alias.name}", path.parent)
    return names


def _files_of(module: str, folder: Path) -> set[str]:
    """Return the file of a module and the __init__ of each package above it, if they are the project's."""
    files: set[str] = set()
    for base in (ROOT, folder):
        parts = module.split(".")
        if base == folder and len(parts) > 1:
            continue
        for depth in range(1, len(parts) + 1):
            place = base.joinpath(*parts[:depth])
            for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                if candidate.is_file():
                    files.add(candidate.relative_to(ROOT).as_posix())
    return files
