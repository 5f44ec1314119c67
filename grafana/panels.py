"""Panels as the boards use them: one look for all, so that a board's file says only what is shown.

Each returns a builder of the SDK (`Any`: the SDK's own types are not checked here). Widths are columns of a grid of
24, heights are its rows of 30 pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    piechart,
    stat,
    statetimeline,
    table,
    timeseries,
    trend,
)
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import piechart as piechart_models

from grafana.columns import Colours, Steps, field_property, thresholds, value_map
from grafana.palette import BLUE, GREEN
from grafana.query import DATA_SOURCE, Query


def stat_panel(
    title: str, sql: str, description: str, *, unit: str = "short", steps: Steps = ((None, BLUE),), decimals: int = 0
) -> Any:
    """One number, large; the query returns one row with one number (or null for "not known")."""
    panel = (
        stat.Panel()
        .unit(unit)
        .decimals(decimals)
        .thresholds(thresholds(steps))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .color_mode(looks.BigValueColorMode.VALUE)
        .graph_mode(looks.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .no_value("–")
    )
    return _framed(panel, title, description, (Query(sql, "table"),), width=4, height=4)


def series_panel(
    title: str,
    sql: str | Sequence[str],
    description: str,
    *,
    unit: str = "short",
    width: int = 12,
    height: int = 8,
    colours: Colours | None = None,
    bars: bool = False,
    stacked: bool = False,
    minimum: float | None = 0.0,
    at_least: str = "1m",
    points: int | None = None,
    lines_at: Steps = (),
) -> Any:
    """Values over time, as lines or bars.

    Args:
        title: what is shown.
        sql: one query of format `time_series`, or several.
        description: how it is counted, for the panel's info mark.
        unit: Grafana's name of the unit.
        width: in columns.
        height: in rows.
        colours: of the series that have a meaning of their own.
        bars: bars instead of lines.
        stacked: series on top of each other.
        minimum: lower end of the axis; None lets it follow the values.
        at_least: the shortest `$__interval` that makes sense for the data.
        points: the largest number of points, where a query does work for each.
        lines_at: bounds drawn as dashed lines in their colours.
    """
    panel = (
        timeseries.Panel()
        .unit(unit)
        .interval(at_least)
        .draw_style(looks.GraphDrawStyle.BARS if bars else looks.GraphDrawStyle.LINE)
        .line_width(0 if bars else 2)
        .fill_opacity(80 if bars or stacked else 8)
        .gradient_mode(looks.GraphGradientMode.NONE if bars else looks.GraphGradientMode.OPACITY)
        .line_interpolation(looks.LineInterpolation.LINEAR)
        .show_points(looks.VisibilityMode.NEVER if bars or stacked else looks.VisibilityMode.AUTO)
        .point_size(4)
        .stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL if stacked else looks.StackingMode.NONE))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    )
    if minimum is not None:
        panel.min(minimum)
    if points is not None:
        panel.max_data_points(points)
    if lines_at:
        panel.thresholds(thresholds(lines_at))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode("dashed"))
    _colour_fields(panel, colours or {})
    texts = (sql,) if isinstance(sql, str) else tuple(sql)
    queries = tuple(Query(text, "time_series", chr(ord("A") + i)) for i, text in enumerate(texts))
    return _framed(panel, title, description, queries, width, height)


def curve_panel(
    title: str,
    sql: str,
    description: str,
    *,
    x: str,
    colours: Colours,
    dashed: Sequence[str] = (),
    unit: str = "percentunit",
    width: int = 12,
    height: int = 8,
) -> Any:
    """Values over another value; the query returns rows of numbers by ascending `x`, each other column is a curve.

    Args:
        title: what is shown.
        sql: one query of format `table`.
        description: how it is counted, for the panel's info mark.
        x: the column along the axis below.
        colours: of the curves.
        dashed: curves that are there to compare with.
        unit: Grafana's name of the unit of all columns.
        width: in columns.
        height: in rows.
    """
    panel = (
        trend.Panel()
        .x_field(x)
        .unit(unit)
        .decimals(0)
        .min(0)
        .draw_style(looks.GraphDrawStyle.LINE)
        .line_width(2)
        .fill_opacity(0)
        .show_points(looks.VisibilityMode.ALWAYS)
        .point_size(6)
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.NONE))
    )
    for name, colour in colours.items():
        look = [field_property("color", {"mode": "fixed", "fixedColor": colour})]
        if name in dashed:
            look.append(field_property("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}))
            look.append(field_property("custom.showPoints", "never"))
        panel.override_by_name(name, look)
    return _framed(panel, title, description, (Query(sql, "table"),), width, height)


def table_panel(
    title: str,
    sql: str,
    description: str,
    columns: Mapping[str, Sequence[Any]],
    *,
    width: int = 24,
    height: int = 9,
) -> Any:
    """Rows with columns; `columns` says how those that need it are shown, by name (see `coloured`, `gauge` …)."""
    panel = (
        table.Panel()
        .show_header(True)
        .cell_height(looks.TableCellHeight.SM)
        .footer(common.TableFooterOptions().show(False).reducer(["count"]).enable_pagination(height > 6))
        .no_value("–")
    )
    for name, properties in columns.items():
        panel.override_by_name(name, list(properties))
    return _framed(panel, title, description, (Query(sql, "table"),), width, height)


def donut_panel(title: str, sql: str, description: str, colours: Colours, *, width: int = 6, height: int = 8) -> Any:
    """Shares of a whole; the query returns one row whose number columns are the slices."""
    panel = (
        piechart.Panel()
        .pie_type(piechart_models.PieChartType.DONUT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .legend(
            piechart.PieChartLegendOptions()
            .show_legend(True)
            .display_mode(looks.LegendDisplayMode.TABLE)
            .placement(looks.LegendPlacement.RIGHT if width > 5 else looks.LegendPlacement.BOTTOM)
            .values([piechart_models.PieChartLegendValues.VALUE])
        )
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.SINGLE))
    )
    _colour_fields(panel, colours)
    return _framed(panel, title, description, (Query(sql, "table"),), width, height)


def bars_panel(
    title: str, sql: str, description: str, *, unit: str, steps: Steps, top: float, width: int = 8, height: int = 9
) -> Any:
    """A ranking; the query returns rows of a text and a number, `top` is the right end of the bars."""
    panel = (
        bargauge.Panel()
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .show_unfilled(False)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(True))
        .unit(unit)
        .min(0)
        .max(top)
        .thresholds(thresholds(steps))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .no_value("–")
    )
    return _framed(panel, title, description, (Query(sql, "table"),), width, height)


def heat_panel(
    title: str, sql: str, description: str, *, at_least: str, points: int, width: int = 15, height: int = 10
) -> Any:
    """Counts by row and time as colours; the query returns `time`, `metric` (the row) and a count."""
    panel = (
        heatmap.Panel()
        .calculate(False)
        .rows_frame(heatmap.RowsHeatmapOptions().layout(looks.HeatmapCellLayout.UNKNOWN))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("YlOrRd")
            .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
            .reverse(False)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .cell_gap(1)
        .show_tooltip()
        .show_legend()
        .interval(at_least)
        .max_data_points(points)
    )
    return _framed(panel, title, description, (Query(sql, "time_series"),), width, height)


def timeline_panel(
    title: str, sql: str, description: str, states: Mapping[int, tuple[str, str]], *, width: int = 16, height: int = 9
) -> Any:
    """States over time, a row a series; `states` gives text and colour of each whole number."""
    panel = (
        statetimeline.Panel()
        .mappings([value_map({str(value): state for value, state in states.items()})])
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds(((None, GREEN),)))
        .merge_values(True)
        .show_value(looks.VisibilityMode.NEVER)
        .row_height(0.8)
        .line_width(0)
        .fill_opacity(85)
        .legend(_legend())
        .interval("1d")
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.SINGLE))
    )
    return _framed(panel, title, description, (Query(sql, "time_series"),), width, height)


def _framed(panel: Any, title: str, description: str, queries: tuple[Query, ...], width: int, height: int) -> Any:
    panel.title(title).description(description).datasource(
        models.DataSourceRef(DATA_SOURCE["type"], DATA_SOURCE["uid"])
    )
    for query in queries:
        panel.with_target(query)
    return panel.span(width).height(height)


def _legend() -> Any:
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(looks.LegendDisplayMode.LIST)
        .placement(looks.LegendPlacement.BOTTOM)
        .calcs([])
    )


def _colour_fields(panel: Any, colours: Colours) -> None:
    for name, colour in colours.items():
        panel.override_by_name(name, [field_property("color", {"mode": "fixed", "fixedColor": colour})])
