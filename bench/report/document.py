"""What reports are made of, whatever writes them: texts with names in them, and blocks of texts and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def parts(text: Text) -> tuple[str, ...]:
    """Return a text's parts."""
    return (text,) if isinstance(text, str) else text


def plain(text: Text) -> str:
    """Return a text without marks."""
    return "".join(parts(text))


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


def names(variants: Iterable[str]) -> Text:
    """Return the names of variants in a row."""
    return joined(map(Code, variants))
