"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence


def table_lines(names: Sequence[str], left: Collection[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table; the columns named in `left` are aligned to the left, the others to the right."""
    yield _line(names)
    yield _line("---" if name in left else "---:" for name in names)
    yield from map(_line, rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
