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
