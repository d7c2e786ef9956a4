"""What reports are made of: texts with names in them, blocks of texts and tables; in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


class Code(str):
    """A name within a text, set as code by those who can."""

    __slots__ = ()


Text = str | tuple[str, ...]
"""Plain text, or its parts, some of which are `Code`."""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: Text


@dataclass(frozen=True)
class Paragraph:
    """Some sentences."""

    text: Text
    is_strong: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[Text]


@dataclass(frozen=True)
class Grid:
    """A table; columns whose number is in `left` hold texts, the others figures."""

    titles: Sequence[str]
    left: frozenset[int]
    rows: Sequence[Sequence[Text]]


Block = Heading | Paragraph | Bullets | Grid


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def plain(text: Text) -> str:
    """Return a text without marks."""
    return "".join(_parts(text))


def text(template: str, *values: Any) -> Text:
    """Return a template with a text, or what `str` makes of anything else, in the place of each `{}`."""
    first, *others = template.split("{}")
    found = [first]
    for value, after in zip(values, others, strict=True):
        found += [*(value if isinstance(value, tuple) else [value if isinstance(value, str) else str(value)]), after]
    return tuple(part for part in found if part)


def joined(texts: Iterable[Text], separator: str = ", ") -> Text:
    """Return texts in a row."""
    found = list(texts)
    return text(separator.join(["{}"] * len(found)), *found)


def to_markdown(blocks: Iterable[Block], lower: int = 0) -> str:
    """Return blocks as Markdown, headings lower by so many levels; nothing of an empty list."""
    written = (list(_lines(block, lower)) for block in blocks)
    return "\n".join(line for lines in written if lines for line in (*lines, ""))


def inline(text: Text) -> str:
    """Return a text with its names in backticks."""
    return "".join(f"`{part}`" if isinstance(part, Code) else part for part in _parts(text))


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
    for cells in (names, ["---" if name in left else "---:" for name in names], *rows):
        yield f"| {' | '.join(cells)} |"


def to_html(blocks: Iterable[Block], lower: int = 0) -> str:
    """Return blocks as HTML, headings lower by so many levels."""
    return "\n".join(_html(block, lower) for block in blocks)


def html_inline(text: Text) -> Any:
    """Return a text as HTML that no template escapes again, its names as code."""
    from markupsafe import Markup, escape

    return Markup("").join(
        Markup("<code>{}</code>").format(str(part)) if isinstance(part, Code) else escape(part) for part in _parts(text)
    )


def _html(block: Block, lower: int) -> str:
    match block:
        case Heading():
            return f"<h{block.level + lower}>{html_inline(block.text)}</h{block.level + lower}>"
        case Paragraph():
            return f"<p>{html_inline(block.text)}</p>"
        case Bullets():
            items = [f"<li>{html_inline(item)}</li>" for item in block.items]
            return "\n".join(["<ul>", *items, "</ul>"]) if items else ""
        case Grid():
            heads = "".join(f'<th scope="col">{html_inline(title)}</th>' for title in block.titles)
            lines = ("".join(f"<td>{html_inline(cell)}</td>" for cell in row) for row in block.rows)
            body = "\n".join(f"<tr>{line}</tr>" for line in lines)
            return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
