"""What reports are made of: blocks of Markdown, a heading, a paragraph, a list or a table each; names in backticks."""

import re
from collections.abc import Collection, Iterable, Iterator


def plain(text: str) -> str:
    """Return a text without the backticks of its names; those of commands of several words stay."""
    return re.sub(r"`([^`\s]+)`", r"\1", text)


def bullets(items: Iterable[str]) -> str:
    """Return a list; an empty text without items."""
    return "\n".join(f"- {item}" for item in items)


def table_lines(names: Collection[str], left: Collection[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table; the columns named in `left` are aligned to the left, the others to the right."""
    for cells in (names, ["---" if name in left else "---:" for name in names], *rows):
        yield f"| {' | '.join(cells)} |"


def to_markdown(blocks: Iterable[str]) -> str:
    """Return blocks as one text; nothing of an empty list."""
    return "\n".join(f"{block}\n" for block in blocks if block)


def to_html(blocks: Iterable[str]) -> str:
    """Return blocks as HTML, headings lower by one level; anything but blocks and backticks is plain text."""
    from markdown_it import MarkdownIt

    lower = to_markdown(f"#{block}" if block.startswith("#") else block for block in blocks)
    html = MarkdownIt("zero").enable(["heading", "list", "table", "backticks"]).render(lower)
    return str(html).replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
