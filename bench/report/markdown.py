"""Write a report's blocks in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from bench.report.document import Block, Bullets, Code, Grid, Heading, Paragraph, Text, parts


def to_markdown(blocks: Iterable[Block], lower: int = 0) -> str:
    """Return blocks as Markdown, headings lower by so many levels."""
    return "\n".join(line for block in blocks for line in (*_lines(block, lower), ""))


def inline(text: Text) -> str:
    """Return a text with its names in backticks."""
    return "".join(f"`{part}`" if isinstance(part, Code) else part for part in parts(text))


def _lines(block: Block, lower: int) -> Iterator[str]:
    match block:
        case Heading():
            yield f"{'#' * (block.level + lower)} {inline(block.text)}"
        case Paragraph():
            yield f"**{inline(block.text)}**" if block.is_strong else inline(block.text)
        case Bullets():
            yield from (f"- {inline(item)}" for item in block.items)
        case Grid():
            left = [title for place, title in enumerate(block.titles) if place in block.left]
            yield from table_lines(block.titles, left, (map(inline, row) for row in block.rows))


def table_lines(names: Sequence[str], left: Collection[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table; the columns named in `left` are aligned to the left, the others to the right."""
    yield _line(names)
    yield _line("---" if name in left else "---:" for name in names)
    yield from map(_line, rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
