"""Texts for people by key, in English and Chinese."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import msgspec


class Text(NamedTuple):
    """The same in both languages."""

    en: str
    zh: str


@cache
def _texts() -> Mapping[str, Text]:
    raw = msgspec.toml.decode(files("alerting").joinpath("texts.toml").read_bytes())
    entries = {name: entry for name, entry in raw.items() if "en" in entry}
    for group in raw.keys() - entries.keys():
        entries |= {f"{group}.{name}": entry for name, entry in raw[group].items()}
    return {key: Text(entry["en"], entry["zh"]) for key, entry in entries.items()}


def text(key: str, **values: object) -> Text:
    """The text of `key` with its values filled in; a value that is a `Text` appears in its own language.

    A dotted key that is not known (a detector added elsewhere) stands for itself: `detector.x` gives `x`.

    Raises:
        KeyError: an undotted key is not known, or a value is missing.
    """
    known = _texts()
    if key not in known and "." in key:
        name = key.partition(".")[2]
        return Text(name, name)
    en, zh = known[key]
    if not values:
        return Text(en, zh)
    in_en = {name: value.en if isinstance(value, Text) else value for name, value in values.items()}
    in_zh = {name: value.zh if isinstance(value, Text) else value for name, value in values.items()}
    return Text(en.format(**in_en), zh.format(**in_zh))
