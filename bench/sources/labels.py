"""What the labels of a table mean: one reading for the whole column, never a guess.

    ids       whole numbers, those of the model's id2label
    names     of the model's labels, case aside
    metadata  whole numbers, each with a name in the data's own metadata (ClassLabel) that the model's labels have too

Names are compared without case, all separators alike (not-toxic, not_toxic).  One may be cut short where only one label
begins so: `neg` for NEGATIVE, `1` for "1 star", and the model's NEG for `negative`.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import PurePath
from typing import Any, NamedTuple, Self

from bench.core.errors import DataError, ParameterError
from bench.core.files import shortened
from bench.core.params import LabelMeanings, LabelReading
from bench.core.schemas import Labelled
from bench.sources.model_files import task_of

UNLABELLED = ("", "-1", "-1.0", "-100", "-100.0", "-", "nan", "null", "na", "n/a", "#n/a", "<na>")
"""Cells without a label, unless the model has a label of that name: what the hub, PyTorch and pandas write."""
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
    def of(cls, title: str, rows: Iterable[Row], own_names: list[str]) -> Self:
        """Return the column of these rows; DataError for a cell that holds more than a number or a name."""
        first: dict[str, Row] = {}
        for row in rows:
            first.setdefault(text_of(row), row)
        return cls(title, first, own_names)

    def own_name(self, text: str) -> str | None:
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


@cache
def _plain(name: str) -> str:
    return re.sub(r"[\s_/.-]+", " ", unicodedata.normalize("NFKC", name).casefold())


def _whole_number(text: str) -> int | None:
    found = re.fullmatch(r"(\d{1,9})(\.0*)?", text)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class ModelLabels:
    """The labels of a model: `names` by number, from its id2label, and `others`, which only its label2id has."""

    names: dict[int, str]
    others: dict[str, int]
    remarks: list[str]

    @classmethod
    def of(cls, config: dict[str, Any]) -> Self:
        """Return what config.json says; where label2id says something else, id2label holds, as in pipelines."""
        count, shown = task_of(config)[1], config.get("id2label") or {}
        names = {number: f"LABEL_{number}" for number in range(count)}
        given: dict[str, int] = {}
        if len(shown) in (0, count):  # else transformers takes neither
            names |= {int(number): " ".join(name.split()) for number, name in shown.items()}
            more = (config.get("label2id") or {}).items()
            given = {str(name): int(number) for name, number in more if str(number).isdecimal()}
        others = {name: number for name, number in given.items() if number in names and name not in names.values()}
        other = [name for number, name in names.items() if names.get(given.get(name, number)) != name]
        turned = [f"{name} = {given[name]}" for name in other]
        contradicts = "contradicts its id2label, which is what pipelines show and what is read here"
        remark = f"the model's label2id ({shortened(', '.join(turned))}) {contradicts}"
        return cls(names, others, [remark] if turned else [])

    @property
    def have_names(self) -> bool:
        """Whether they say more than their numbers."""
        return bool(self.others) or any(map(_says_more, self.names.values()))

    def named(self, meanings: Meanings) -> dict[str, str | None]:
        return {text: None if number is None else self.names[number] for text, number in meanings.items()}

    def by_id(self, text: str) -> int | None:
        """Return the label with this number, which transformers also calls LABEL_number; None if there is none."""
        default = re.fullmatch(r"label_(\d+)", text, re.IGNORECASE)
        number = _whole_number(default[1] if default and self.by_name(text) is None else text)
        return number if number in self.names else None

    def by_name(self, text: str) -> int | None:
        """Return the label with this name: as it is, case aside, or cut short; None if it is none's, or several's."""
        wanted = _plain(text)
        tests: tuple[Callable[[str], bool], ...] = (
            lambda name: name == text,
            lambda name: name.casefold() == text.casefold(),
            lambda name: _plain(name) == wanted,
            lambda name: _is_short_for(wanted, _plain(name)),
        )
        found = next(filter(None, map(self.all_named, tests)), [])
        return found[0] if len(found) == 1 else None

    def all_named(self, fits: Callable[[str], bool]) -> list[int]:
        names = [*((name, number) for number, name in self.names.items()), *self.others.items()]
        return sorted({number for name, number in names if fits(name)})

    def by_names(self, texts: Mapping[str, str]) -> Meanings:
        """Return the labels with these names; the model's may be the short ones where that joins no two."""
        found = {text: self.by_name(name) for text, name in texts.items()}
        longer = {text: self.all_named(partial(_begins, _plain(texts[text]))) for text in found if found[text] is None}
        more = {text: numbers[0] for text, numbers in longer.items() if len(numbers) == 1}
        used = [*found.values(), *more.values()]
        return found | {text: number for text, number in more.items() if used.count(number) == 1}


def _says_more(name: str) -> bool:
    return not re.fullmatch(r"(label_?)?\d+", name, re.IGNORECASE)


def _is_short_for(text: str, name: str) -> bool:
    is_within_a_word = name[len(text) : len(text) + 1].isalnum()
    return text != "" and name.startswith(text) and (len(text) >= LETTERS or not is_within_a_word)


def _begins(text: str, name: str) -> bool:
    """Tell whether a name of the model is the beginning of a text's only word."""
    return len(name) >= LETTERS and text.isalpha() and text.startswith(_plain(name))


@dataclass(frozen=True)
class Reading:
    """How a column is read: `ids`, `names`, `metadata`, or `params` for dataset.labels; `none` without any label."""

    how: str
    meanings: Meanings
    model: ModelLabels
    remarks: tuple[str, ...] = ()

    def labelled(self, rows: Iterable[Row]) -> list[Labelled]:
        return [Labelled(row.sentence, self.meanings[text_of(row)], row.pair, PurePath(row.place).name) for row in rows]

    def record(self, rows: list[Row]) -> dict[str, Any]:
        """Return what metrics/model.json says of it, with three of these rows, of as many labels as there are."""
        names = {text: name for text, name in self.model.named(self.meanings).items() if name is not None}
        known = [row for row in rows if text_of(row) in names]
        shown = islice(dict.fromkeys([*Column.of("", known, []).first.values(), *known]), EXAMPLES)
        texts = [(" / ".join(filter(None, (row.sentence, row.pair))), text_of(row)) for row in shown]
        return {
            "reading": self.how,
            "meanings": names,
            "unlabelled": len(rows) - len(known),
            "examples": [{"text": text, "label": label, "meaning": names[label]} for text, label in texts],
            "remarks": [*self.model.remarks, *self.remarks],
        }


def read_labels(column: Column, model: ModelLabels, given: LabelReading | LabelMeanings | None) -> Reading:
    """Return the one reading of a column; `given`: dataset.labels.

    ParameterError for several readings, or a given one that does not hold; DataError for a label without a meaning.
    """
    if isinstance(given, dict):
        return Reading("params", _as_given(column, model, given), model)
    known = [text for text in column.first if not _is_unlabelled(text, model)]
    found = {
        "ids": {text: model.by_id(text) for text in known},
        "names": model.by_names({text: text for text in known}),
    }
    if column.own_names:
        found["metadata"] = model.by_names({text: column.own_name(text) or "" for text in known})
    if given is not None and given not in found:
        raise ParameterError(
            f"params.yaml: dataset.labels: got {given!r}, but {column.title} has no names for its numbers, allowed: "
            "null, ids, names, or what each label means"
        )
    found = {how: meanings for how, meanings in found.items() if given in (None, how)}
    fitting = {how: meanings for how, meanings in found.items() if None not in meanings.values()}
    if not fitting:
        fewest_open = min(found.values(), key=lambda meanings: [*meanings.values()].count(None))
        raise _unexplained(column, model, fewest_open, given)
    how = given or _only(column, model, fitting) if known else "none"
    remarks = _remarks(column, model, fitting["ids"]) if how == "ids" and given is None else ()
    return Reading(how, dict.fromkeys(column.first) | fitting.get(how, {}), model, remarks)


def _is_unlabelled(text: str, model: ModelLabels) -> bool:
    is_usual = text.casefold() in UNLABELLED
    return text == "" or (is_usual and not model.all_named(lambda name: _plain(name) == _plain(text)))


def _remarks(column: Column, model: ModelLabels, meanings: Meanings) -> tuple[str, ...]:
    """Return a remark on numbers that may count from 1, as none of them is 0."""
    numbers = sorted({number for number in meanings.values() if number is not None})
    if column.own_names or len(numbers) < 2 or numbers[0] != 1:
        return ()
    shown = _shown(model.named({str(number): number - 1 for number in numbers}))
    return (f"no sentence has the label 0: if the data counts from 1, set dataset.labels, as in {shown}",)


def _centred(column: Column, model: ModelLabels, meanings: Meanings) -> Meanings:
    """Return the meanings of numbers around 0, of which -1 is one (-1, 0, 1; or -1 and 1 for two labels); or none."""
    count = len(model.names)
    gaps = [text for text in column.first if text in ("-1", "-1.0") and text not in meanings]
    places = [-1, 1] if count == 2 else [] if count % 2 == 0 else list(range(-(count // 2), count // 2 + 1))
    numbers = {text: _whole_number(text) for text in meanings} | dict.fromkeys(gaps, -1)
    if not gaps or column.own_names or not set(numbers.values()) <= set(places):
        return {}
    return {text: places.index(number) for text, number in numbers.items() if number is not None}


def _only(column: Column, model: ModelLabels, fitting: Mapping[str, Meanings]) -> str:
    """Return the reading that fits.  The data's own names go before others, and nothing is read against them."""
    if "metadata" in fitting:
        return "metadata"
    how, meanings = next(iter(fitting.items()))
    shown = [f"as {each} ({_listed(model.named(fitting[each]))})" for each in fitting]
    own = {text: name for text in meanings if (name := column.own_name(text))}
    example = {own.get(text, text): name for text, name in model.named(meanings).items()}
    if how == "ids" and (centred := _centred(column, model, meanings)):
        example = model.named(centred)
        shown = [f"{shown[0][:-1]}, -1 = no label)", f"from below 0 ({_listed(example)})"]
    elif how == "ids" and model.have_names and _are_others(own, model, meanings):
        shown.append(f"by the data's own names ({_listed(own)}), which are not the model's")
        if any(model.by_name(name) is not None for name in own.values()):
            example = {name: model.named({name: model.by_name(name)})[name] or "?" for name in own.values()}
    elif len({tuple(each.values()) for each in fitting.values()}) == 1:
        return how
    raise ParameterError(
        f"params.yaml: dataset.labels: got null, but {column.title} may be read {' or '.join(shown)}, allowed: "
        f"{', '.join(fitting)}, or what each label means, as in {_shown(example)}"
    )


def _are_others(own: Mapping[str, str], model: ModelLabels, meanings: Meanings) -> bool:
    """Tell whether the data's own names say something, and not the same as the model's names of these numbers."""
    names = model.named(meanings)
    return any(_says_more(name) and _plain(name) != _plain(names[text] or "") for text, name in own.items())


def _listed(meanings: Mapping[str, str | None]) -> str:
    more = ", …" if len(meanings) > SHOWN else ""
    return ", ".join(f"{text} = {name}" for text, name in islice(meanings.items(), SHOWN)) + more


def _shown(meanings: Mapping[str, str | None]) -> str:
    """Return what can stand in params.yaml, which is YAML, of which JSON is a part."""
    return json.dumps(dict(islice(meanings.items(), SHOWN)), ensure_ascii=False)


def _unexplained(column: Column, model: ModelLabels, meanings: Meanings, given: LabelReading | None) -> DataError:
    text = next(text for text, number in meanings.items() if number is None)
    own = f" ({name})" if (name := column.own_name(text)) else ""
    wanted = _plain(column.own_name(text) or text)
    if len(several := model.all_named(lambda name: _plain(name) == wanted)) > 1:
        own += f", a name of {len(several)} of the model's labels ({', '.join(map(str, several))})"
    numbers, names = f"0 to {len(model.names) - 1}", shortened(", ".join(model.names.values()))
    allowed = f"{numbers}, or {names}" if model.have_names else numbers
    if given is not None:
        allowed = f"{numbers if given == 'ids' else names}, as dataset.labels is {given}"
    meanings = {each: None if _whole_number(each) is not None else number for each, number in meanings.items()}
    example = {each: name or "?" for each, name in model.named(meanings).items()}
    return DataError(
        f"{column.first[text].place}: the label is {shortened(repr(text))}{own}, allowed: {allowed}; for others say in "
        f"params.yaml what each means, null for none of these: dataset.labels: {_shown(example)}"
    )


def _as_given(column: Column, model: ModelLabels, given: LabelMeanings) -> Meanings:
    exact = {str(key).strip(): _number_of(key, value, model) for key, value in given.items()}
    numbers: dict[str, set[int | None]] = {}
    for key, number in exact.items():
        numbers.setdefault(_spelling(key), set()).add(number)
    meanings: Meanings = {}
    for text, row in column.first.items():
        spellings = (text, column.own_name(text) or text)
        found = [
            *({exact[each]} for each in spellings if each in exact),
            *(numbers[key] for each in spellings if len(numbers.get(key := _spelling(each), [])) == 1),
        ]
        if not found and not _is_unlabelled(text, model):
            raise DataError(
                f"{row.place}: the label is {shortened(repr(text))}, allowed: what params.yaml names under "
                f"dataset.labels ({shortened(', '.join(map(str, given)))}): add it there, null for no label"
            )
        meanings[text] = next(iter(found[0])) if found else None
    return meanings


def _spelling(text: str) -> str:
    """Return a label without case, and a whole number without a decimal point."""
    return re.sub(r"^(-?\d+)\.0*$", r"\1", text.casefold())


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
