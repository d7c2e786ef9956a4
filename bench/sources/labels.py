"""What the labels of a table mean: one reading for the whole column, never a guess.

    ids       whole numbers, those of the model's id2label
    names     of the model's labels, case aside
    metadata  whole numbers, each with a name in the data's own metadata (ClassLabel) that the model's labels have too

A name may be cut short where only one label begins so: `neg` for NEGATIVE, `1` for "1 star".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from bench.core.errors import DataError, ParameterError
from bench.core.files import shortened
from bench.core.params import LabelMeanings, LabelReading
from bench.core.schemas import Labelled
from bench.sources.model_files import task_of

UNLABELLED = ("", "-1", "-1.0", "-", "nan", "null")
"""Cells without a label, unless the model has a label of that name."""
LETTERS = 3
"""The fewest that are left of a word that is cut short."""
EXAMPLES = 3
SHOWN = 6

Meanings = dict[str, int | None]
"""The number of the label that each text of a column means; None: no label."""


class Row(NamedTuple):
    """A row of a table, its label as it stands there; `place`: file and line."""

    sentence: str
    label: Any
    pair: str | None
    place: str


@dataclass(frozen=True)
class Column:
    """The labels of a table: the first row with each text, and the data's own names of its numbers, in their order."""

    title: str
    first: dict[str, Row]
    own_names: list[str]

    @classmethod
    def of(cls, title: str, rows: Iterable[Row], own_names: list[str]) -> Column:
        """Return the column of these rows; DataError for a cell that holds more than a number or a name."""
        first: dict[str, Row] = {}
        for row in rows:
            first.setdefault(text_of(row), row)
        return cls(title, first, own_names)

    def own_name(self, text: str) -> str | None:
        """Return the data's own name of a number."""
        number = _whole_number(text)
        return self.own_names[number] if number is not None and number < len(self.own_names) else None


def text_of(row: Row) -> str:
    """Return a label as text, a whole number without a decimal point; empty where there is none."""
    label = row.label
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    if isinstance(label, list | dict | bytes):
        raise DataError(f"{row.place}: the label is {shortened(repr(label))}, wanted: one number, or one name")
    return str(int(label) if isinstance(label, float) and label.is_integer() else label).strip()


def _whole_number(text: str) -> int | None:
    found = re.fullmatch(r"(\d+)(\.0*)?", text)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class ModelLabels:
    """The labels of a model: `names` by number, from its id2label, and `others`, which only its label2id has."""

    names: dict[int, str]
    others: dict[str, int]
    remarks: list[str]

    @classmethod
    def of(cls, config: dict[str, Any]) -> ModelLabels:
        """Return what config.json says; where label2id says something else, id2label holds, as in pipelines."""
        count, shown = task_of(config)[1], config.get("id2label") or {}
        names = {number: f"LABEL_{number}" for number in range(count)}
        given: dict[str, int] = {}
        if len(shown) in (0, count):  # else transformers takes neither
            names |= {int(number): str(name) for number, name in shown.items()}
            more = (config.get("label2id") or {}).items()
            given = {str(name): int(number) for name, number in more if str(number).isdecimal()}
        others = {name: number for name, number in given.items() if number in names and name not in names.values()}
        turned = [f"{name} = {given[name]}" for number, name in names.items() if given.get(name, number) != number]
        remark = (
            f"the model's label2id ({shortened(', '.join(turned))}) contradicts its id2label, which is what pipelines "
            "show and what is read here"
        )
        return cls(names, others, [remark] if turned else [])

    @property
    def have_names(self) -> bool:
        """Whether they say more than their numbers."""
        return bool(self.others) or any(map(_says_more, self.names.values()))

    def named(self, meanings: Meanings) -> dict[str, str | None]:
        """Return the meanings with names in the place of numbers."""
        return {text: None if number is None else self.names[number] for text, number in meanings.items()}

    def by_id(self, text: str) -> int | None:
        """Return the label with this number; None if there is none."""
        number = _whole_number(text)
        return number if number in self.names else None

    def by_name(self, text: str) -> int | None:
        """Return the label with this name: as it is, case aside, or cut short; None if it is none's, or several's."""
        names = [*((name, number) for number, name in self.names.items()), *self.others.items()]
        wanted = text.casefold()
        tests: tuple[Callable[[str], bool], ...] = (
            lambda name: name == text,
            lambda name: name.casefold() == wanted,
            lambda name: _is_short_for(wanted, name.casefold()),
        )
        for fits in tests:
            if found := {number for name, number in names if fits(name)}:
                return found.pop() if len(found) == 1 else None
        return None


def _says_more(name: str) -> bool:
    return not re.fullmatch(r"(label_?)?\d+", name, re.IGNORECASE)


def _is_short_for(text: str, name: str) -> bool:
    is_within_a_word = name[len(text) : len(text) + 1].isalnum()
    return text != "" and name.startswith(text) and (len(text) >= LETTERS or not is_within_a_word)


@dataclass(frozen=True)
class Reading:
    """How a column is read: `ids`, `names`, `metadata`, or `params` for dataset.labels; `none` without any label."""

    how: str
    meanings: Meanings
    model: ModelLabels

    def labelled(self, rows: Iterable[Row]) -> list[Labelled]:
        """Return rows of this column with the numbers of their labels."""
        return [Labelled(row.sentence, self.meanings[text_of(row)], row.pair) for row in rows]

    def record(self, rows: list[Row]) -> dict[str, Any]:
        """Return what metrics/model.json says of it, with three of these rows, of as many labels as there are."""
        names = {text: name for text, name in self.model.named(self.meanings).items() if name is not None}
        known = [row for row in rows if text_of(row) in names]
        firsts = Column.of("", known, []).first.values()
        return {
            "reading": self.how,
            "meanings": names,
            "unlabelled": len(rows) - len(known),
            "examples": [
                {
                    "text": " / ".join(filter(None, (row.sentence, row.pair))),
                    "label": text_of(row),
                    "meaning": names[text_of(row)],
                }
                for row in islice(dict.fromkeys([*firsts, *known]), EXAMPLES)
            ],
            "remarks": self.model.remarks,
        }


def read_labels(column: Column, model: ModelLabels, given: LabelReading | LabelMeanings | None) -> Reading:
    """Return the one reading of a column; `given`: what params.yaml says of it (dataset.labels), None for nothing.

    Raises ParameterError for several readings, or for what is given and does not hold, and DataError, with file and
    line, for a label that no reading explains.
    """
    if isinstance(given, dict):
        return Reading("params", _as_given(column, model, given), model)
    known = [text for text in column.first if not _is_unlabelled(text, model)]
    ways: dict[str, Callable[[str], int | None]] = {"ids": model.by_id, "names": model.by_name}
    if column.own_names:
        ways["metadata"] = lambda text: model.by_name(column.own_name(text) or "")
    if given is not None and given not in ways:
        raise ParameterError(
            f"params.yaml: dataset.labels: got {given!r}, but {column.title} has no names for its numbers, allowed: "
            "null, ids, names, or what each label means"
        )
    found = {how: {text: way(text) for text in known} for how, way in ways.items() if given in (None, how)}
    fitting = {how: meanings for how, meanings in found.items() if None not in meanings.values()}
    if not fitting:
        raise _unexplained(column, model, max(found.values(), key=_explained))
    how = given or _only(column, model, fitting) if known else "none"
    return Reading(how, dict.fromkeys(column.first) | fitting.get(how, {}), model)


def _is_unlabelled(text: str, model: ModelLabels) -> bool:
    return text.casefold() in UNLABELLED and text.casefold() not in map(str.casefold, model.names.values())


def _explained(meanings: Meanings) -> int:
    return sum(number is not None for number in meanings.values())


def _only(column: Column, model: ModelLabels, fitting: Mapping[str, Meanings]) -> str:
    """Return the reading that fits.  The data's own names go before others, and nothing is read against them."""
    if "metadata" in fitting:
        return "metadata"
    how, meanings = next(iter(fitting.items()))
    shown = [f"as {each} ({_listed(model.named(fitting[each]))})" for each in fitting]
    own = {text: name for text in meanings if (name := column.own_name(text))}
    if how == "ids" and model.have_names and any(_says_more(name) for name in own.values()):
        shown.append(f"by the data's own names ({_listed(own)}), which the model's labels do not have")
    elif len({tuple(each.values()) for each in fitting.values()}) == 1:
        return how
    example = {own.get(text, text): name for text, name in model.named(meanings).items()}
    raise ParameterError(
        f"params.yaml: dataset.labels: got null, but {column.title} may be read {' or '.join(shown)}, allowed: "
        f"{', '.join(fitting)}, or what each label means, as in {_shown(example)}"
    )


def _listed(meanings: Mapping[str, str | None]) -> str:
    more = ", …" if len(meanings) > SHOWN else ""
    return ", ".join(f"{text} = {name}" for text, name in islice(meanings.items(), SHOWN)) + more


def _shown(meanings: Mapping[str, str | None]) -> str:
    """Return what can stand in params.yaml, which is YAML, of which JSON is a part."""
    return json.dumps(dict(islice(meanings.items(), SHOWN)), ensure_ascii=False)


def _unexplained(column: Column, model: ModelLabels, meanings: Meanings) -> DataError:
    text = next(text for text, number in meanings.items() if number is None)
    own = f" ({name})" if (name := column.own_name(text)) else ""
    names = f", or {shortened(', '.join(model.names.values()))}" if model.have_names else ""
    meanings = {each: None if _whole_number(each) is not None else number for each, number in meanings.items()}
    example = {each: name or "?" for each, name in model.named(meanings).items()}
    return DataError(
        f"{column.first[text].place}: the label is {shortened(repr(text))}{own}, allowed: 0 to {len(model.names) - 1}"
        f"{names}; for others say in params.yaml what each means, null for none of these: dataset.labels: "
        f"{_shown(example)}"
    )


def _as_given(column: Column, model: ModelLabels, given: LabelMeanings) -> Meanings:
    numbers = {str(key).strip().casefold(): _number_of(key, value, model) for key, value in given.items()}
    meanings: Meanings = {}
    for text, row in column.first.items():
        spellings = (spelling.casefold() for spelling in (text, column.own_name(text) or text))
        key = next((spelling for spelling in spellings if spelling in numbers), None)
        if key is None and not _is_unlabelled(text, model):
            raise DataError(
                f"{row.place}: the label is {shortened(repr(text))}, allowed: what params.yaml names under "
                f"dataset.labels ({shortened(', '.join(map(str, given)))}): add it there, null for no label"
            )
        meanings[text] = None if key is None else numbers[key]
    return meanings


def _number_of(key: object, value: str | int | None, model: ModelLabels) -> int | None:
    if value is None:
        return None
    number = model.by_name(str(value)) if isinstance(value, str) else model.by_id(str(value))
    if number is None:
        raise ParameterError(
            f"params.yaml: dataset.labels.{key}: got {shortened(repr(value))}, allowed: a label of the model "
            f"({shortened(', '.join(model.names.values()))}), its number, or null for no label"
        )
    return number


def names_in(path: Path, column: str | None) -> list[str]:
    """Return the names that a parquet file's own metadata has for the numbers of a column (ClassLabel); or none."""
    if path.suffix != ".parquet" or column is None:
        return []
    from pyarrow import parquet

    try:
        metadata = json.loads((parquet.read_schema(path).metadata or {})[b"huggingface"])
        names = metadata["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return list(map(str, names))


def names_on_card(card: Mapping[str, Any], config: str, column: str | None) -> list[str]:
    """Return such names from the metadata of a data set's README.md (`dataset_info`); none if it has none.

    `config`: the configuration, empty for the only one.
    """
    infos: Any = card.get("dataset_info")
    described = card.get("configs") or [{}]
    wanted = config or described[0].get("config_name")
    try:
        [names] = [
            feature["dtype"]["class_label"]["names"]
            for info in (infos if isinstance(infos, list) else [infos])
            if wanted in (None, info.get("config_name", wanted))
            for feature in info["features"]
            if feature["name"] == column
        ]
        return [str(names[key]) for key in sorted(names, key=int)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []
