"""Which files of a data set on the hub are a split: by `configs` of its README.md, else by the hub's rules for names.

("File names and splits" in its documentation; only that files which may be of several configurations are no one table.)
"""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NotRequired

from fsspec.utils import glob_translate
from pydantic import BeforeValidator, ConfigDict, Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from typing_extensions import TypedDict

from bench.core.errors import DownloadError
from bench.core.files import checked, damaged, shortened
from bench.core.params_faults import describe_yaml_fault
from bench.sources.tables import READERS, kind_of

FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
ALL = "default"
"""What the hub calls a configuration without a name."""
EXACT = re.compile(r"(?:.*/)?([^/]+)(?:-\d{5}-of-\d{5}[^/]*|/\d{4}\.parquet)")
"""A split's own name in the path of a shard, as `push_to_hub` and the hub's conversion to Parquet write it."""
WORDS = {"train": "train|training", "validation": "validation|valid|dev|val", "test": "test|testing|eval|evaluation"}
KEYWORDS = {
    split: re.compile(rf"(?:^|(?<=[-._ 0-9/]))(?:{words})(?=[-._ 0-9/]|$)", re.IGNORECASE)
    for split, words in WORDS.items()
}
"""What stands for a split in the name of a folder or a file."""
SHARD_NUMBERS = re.compile(r"\d+-of-\d+|\d+")
NOTHING = re.compile("(?!)")
DESCRIPTIONS = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files of a data set that hold none of its rows."""
OTHERWISE = {
    *("names", "column_names", "header", "skiprows", "skipfooter", "nrows", "quoting", "quotechar", "escapechar"),
    *("doublequote", "comment", "field", "filters"),
}
"""Keys of `configs` with which the hub reads other rows or cells than are read here."""
WAYS_OUT = "set dataset.revision to refs/convert/parquet, where the hub keeps a copy, or dataset.path to a file of it"

Splits = dict[str, list[str]]
"""The files of each split, in order."""
Text = Annotated[str, BeforeValidator(str)]
Mark = Annotated[str, Field(pattern=r"^(.|\\t)$")]
Paths = str | list[str]


class SplitFiles(TypedDict):
    """A split in an entry of `configs`."""

    split: Text
    path: Paths


class Configuration(TypedDict):
    """An entry of `configs`; `sep` and `delimiter`: what separates the cells of its files."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    sep: NotRequired[Mark | None]
    delimiter: NotRequired[Mark | None]
    config_name: NotRequired[Text]
    data_files: NotRequired[Paths | list[SplitFiles] | dict[str, Paths] | None]
    data_dir: NotRequired[str | None]
    default: NotRequired[bool]


class Card(TypedDict):
    """What is read of the metadata: `configs`, and of `dataset_info` how many configurations it is of."""

    configs: NotRequired[list[Configuration] | None]
    dataset_info: NotRequired[Any]


def read_card(readme: Path, where: str) -> Card:
    """Return the metadata of a README.md, empty if it has none; DataError if it is of another shape."""
    shown = Path(where) / readme.name
    front = FRONT_MATTER.match(readme.read_text(encoding="utf-8-sig", errors="replace"))
    try:
        content = YAML(typ="safe").load(front[1]) if front else None
    except YAMLError as problem:
        raise damaged(shown, describe_yaml_fault(problem), WAYS_OUT) from None
    card: Card = checked(content or {}, Card, shown, WAYS_OUT)
    return card


def choose_files(names: Collection[str], card: Card, wanted: str | None, where: str) -> tuple[str, Splits]:
    """Return the name of the configuration that is `wanted` (None: the only or default one), and its splits.

    The name is empty where there is one.  DownloadError, with those that there are, if that does not decide.
    """
    described, infos = card.get("configs") or [], card.get("dataset_info")
    if described:
        found = {each.get("config_name", ALL): _described(sorted(names), each) for each in described}
        defaults = [each.get("config_name", ALL) for each in described if each.get("default")] or [ALL]
        default = defaults[0] if len(defaults) == 1 else ""
        if len(found) < len(described):
            raise DownloadError(f"{where}: its configs have a name twice ({', '.join(found)}): {WAYS_OUT}")
    else:
        is_one = isinstance(infos, dict) or (isinstance(infos, list) and len(infos) == 1)
        found, default = _by_folder(sorted(names), is_one), ""
    chosen = wanted or (next(iter(found)) if len(found) == 1 else default)
    if chosen not in found:
        got = f"got {wanted!r}, allowed:" if wanted else "it has several, set one:"
        note = "" if described else " (all in one table)"
        raise DownloadError(f"{where}: dataset.config: {got} {shortened(', '.join(found), 1000)}{note}")
    if not found[chosen]:
        raise DownloadError(f"{where}: has no {', '.join(READERS)} file: {WAYS_OUT}")
    if other := OTHERWISE & set(_entry(card, chosen)):
        raise DownloadError(f"{where}: its configs set {', '.join(sorted(other))}, which is not read here: {WAYS_OUT}")
    return chosen if len(found) > 1 else "", found[chosen]


def separator(card: Card, config: str) -> str | None:
    """Return what separates the cells of a configuration's tables, where the metadata says it; empty: the only one."""
    entry = _entry(card, config)
    found: str | None = entry.get("sep") or entry.get("delimiter")
    return found.replace("\\t", "\t") if found else None


def _entry(card: Card, config: str) -> dict[str, Any]:
    """Return the entry of `configs` of a configuration, the first for the only one; empty if it has none."""
    described: Any = card.get("configs") or []
    return next((each for each in described if config in ("", each.get("config_name", ALL))), {})


def _described(names: list[str], entry: Configuration) -> Splits:
    """Return the splits of an entry of `configs`; paths count from its `data_dir`, no split is train."""
    folder = f"{(entry.get('data_dir') or '').strip('./')}/".lstrip("/")
    inside = [name.removeprefix(folder) for name in names if name.startswith(folder)]
    given: Any = entry.get("data_files")
    if given is None:
        splits = _by_keyword(inside)
    else:
        if isinstance(given, list) and all(isinstance(each, dict) for each in given):
            given = {each["split"]: each["path"] for each in given}
        splits = {
            split: [name for path in ([paths] if isinstance(paths, str) else paths) for name in _matching(path, inside)]
            for split, paths in (given if isinstance(given, dict) else {"train": given}).items()
        }
    return _readable({split: [folder + name for name in files] for split, files in splits.items()})


def _matching(pattern: str, names: list[str]) -> list[str]:
    try:
        wanted = re.compile(glob_translate(pattern.removeprefix("./")))
    except ValueError:
        return []
    return [name for name in names if wanted.match(name)]


def _by_keyword(names: list[str]) -> Splits:
    """Return the splits by the hub's rules: named by shards, else by folders, else by files; else all is `train`."""
    visible = [name for name in names if _kind(name) in READERS and not re.search(r"(^|/)(\.|__)", name)]
    found: Splits = {}
    for name in visible:
        if exact := EXACT.fullmatch(name):
            found.setdefault(exact[1], []).append(name)
    for place in ("parent", "name"):
        if found:
            break
        for split, word in KEYWORDS.items():
            if files := [name for name in visible if word.search(str(getattr(PurePosixPath(name), place)))]:
                found[split] = files
    return found or {"train": visible}


def _by_folder(names: list[str], is_one: bool) -> dict[str, Splits]:
    """Return the splits without `configs`; where a split's files lie apart, each part unless all `is_one`, and ALL."""
    splits = _readable(_by_keyword(names))
    parts: dict[str, Splits] = {}
    for split, files in splits.items():
        word = KEYWORDS.get(split, re.compile(re.escape(split)))
        if len({frozenset(word.findall(name)) for name in files}) > 1:
            word = NOTHING  # test.csv and eval.csv are both of the split "test": the words tell them apart
        for name in files:
            parts.setdefault(_part(name, word), {}).setdefault(split, []).append(name)
    lie_apart = any(sum(split in part for part in parts.values()) > 1 for split in splits)
    return {**(parts if lie_apart and not is_one else {}), ALL: splits}


def _part(name: str, word: re.Pattern[str]) -> str:
    """Return what is left of a path without the word for its split and the number of a shard."""
    folder, slash, file = name.rpartition("/")
    left = word.sub("", folder + slash + SHARD_NUMBERS.sub("", file.split(".")[0]))
    return "/".join(part for each in left.split("/") if (part := each.strip("-._ "))) or "."


def _kind(name: str) -> str:
    return "" if PurePosixPath(name).name in DESCRIPTIONS else kind_of(PurePosixPath(name))


def _readable(splits: Splits) -> Splits:
    """Return the splits with the files of one format each, without those that have none that can be read."""
    found: Splits = {}
    for split, files in splits.items():
        if kinds := [kind for kind in READERS if kind in map(_kind, files)]:
            found[split] = list(dict.fromkeys(name for name in files if _kind(name) == kinds[0]))
    return found


def names_on_card(card: Mapping[str, Any], config: str, column: str | None) -> list[str]:
    """Return such names from `dataset_info` of a README.md; `config`: the configuration, empty for the only one."""
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
        return [*map(str, names)] if isinstance(names, list) else [str(names[key]) for key in sorted(names, key=int)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def names_in_infos(infos: Path, config: str, column: str | None) -> list[str]:
    """Return such names from dataset_infos.json, where older data sets have them; none if it has none."""
    try:
        content = json.loads(infos.read_text(encoding="utf-8-sig"))
        [info] = [content[config]] if config in content else content.values()
        return list(map(str, info["features"][column]["names"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return []
