"""The packages that a script's own files, imported directly or not, lie in."""

from __future__ import annotations

import ast
from pathlib import Path

from bench.deploy.code import ROOT, closure

__all__ = ["ROOT", "RUNTIMES", "closure", "holds_only_a_docstring", "packages"]
RUNTIMES = "bench/runtimes"


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
