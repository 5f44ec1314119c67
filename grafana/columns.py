"""Columns of tables, and what fields of all panels share: colours, bounds, texts of values.

A column is a list of properties that override what its panel says (see `panels.table_panel`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

Steps = Sequence[tuple[float | None, str]]
"""Colours by value: from each bound on, that colour; the first bound is None."""
Colours = Mapping[str, str]
"""Colours by name, of series or of values."""


def coloured(colours: Colours, width: int | None = None) -> list[Any]:
    """A text column whose known values stand on their colour."""
    cell = {"type": "color-background", "mode": "basic"}
    mapping = value_map({value: (value.replace("_", " "), colour) for value, colour in colours.items()})
    return [field_property("mappings", [mapping]), field_property("custom.cellOptions", cell), *sized(width)]


def gauge(steps: Steps, top: float, unit: str = "percent", width: int | None = 140) -> list[Any]:
    """A number column drawn as a bar from 0 to `top`."""
    cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    return [
        field_property("custom.cellOptions", cell),
        field_property("min", 0),
        field_property("max", top),
        field_property("unit", unit),
        field_property("decimals", 0),
        field_property("color", {"mode": "thresholds"}),
        field_property("thresholds", thresholds(steps).build()),
        *sized(width),
    ]


def graded(steps: Steps, unit: str, width: int | None = 110) -> list[Any]:
    """A number column whose digits have the colour of their value."""
    return [
        field_property("custom.cellOptions", {"type": "color-text"}),
        field_property("unit", unit),
        field_property("decimals", 0),
        field_property("color", {"mode": "thresholds"}),
        field_property("thresholds", thresholds(steps).build()),
        *sized(width),
    ]


def number(unit: str, decimals: int = 0, width: int | None = 110) -> list[Any]:
    """A number column with its unit."""
    return [field_property("unit", unit), field_property("decimals", decimals), *sized(width)]


def sized(width: int | None) -> list[Any]:
    """A column of that many pixels, or of whatever is left."""
    return [] if width is None else [field_property("custom.width", width)]


def linked(title: str, url: str, width: int | None = None) -> list[Any]:
    """A column whose cells lead somewhere; `url` may name fields of the row, `${__data.fields.NAME}`."""
    return [field_property("links", [{"title": title, "url": url}]), *sized(width)]


def hidden() -> list[Any]:
    """A column that is there for links only."""
    return [field_property("custom.hidden", True)]


def thresholds(steps: Steps) -> Any:
    """Colours from bounds on."""
    return (
        builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=bound, color=colour) for bound, colour in steps])
    )


def value_map(values: Mapping[str, tuple[str, str]]) -> Any:
    """Text and colour of known values."""
    return models.ValueMap(
        options={
            value: models.ValueMappingResult(text=text, color=colour, index=i)
            for i, (value, (text, colour)) in enumerate(values.items())
        }
    )


def field_property(name: str, value: object) -> Any:
    """One property of a field, by Grafana's name."""
    return models.DynamicConfigValue(id_val=name, value=value)
