"""A board from rows of panels: numbering, variables, links to the other boards, the calendar on every time axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from grafana.palette import GREY
from grafana.query import CALENDAR, DATA_SOURCE, Query

FLEET_UID, CUSTOMERS_UID, SERVICE_UID = "wardwatch-fleet", "wardwatch-customers", "wardwatch-service"
PIPELINE_UID = "wardwatch-pipeline"
"""Stable: links and bookmarks hold them."""
TAG = "wardwatch"


@dataclass(frozen=True, slots=True)
class Row:
    """A headline and the panels below it, left to right; each line of panels fills the 24 columns."""

    title: str
    panels: Sequence[Any]


def device_link(field: str = "device") -> str:
    """Address of a device in the fleet board's explorer, from a table row with that field."""
    return f"/d/{FLEET_UID}?var-device=${{__data.fields.{field}}}&${{__url_time_range}}"


def customer_link(field: str = "customer_id") -> str:
    """Address of a customer in the customers board, from a table row with that field."""
    return f"/d/{CUSTOMERS_UID}?var-customer=${{__data.fields.{field}}}&${{__url_time_range}}"


def choice(name: str, label: str, sql: str, *, several: bool = False, every: bool = False) -> Any:
    """A template variable; the query returns `__text` and `__value`, the first row is the default.

    Args:
        name: as it stands in queries.
        label: as people see it.
        sql: the values to choose from, best first.
        several: more than one can be chosen.
        every: all are chosen at first.
    """
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .datasource(models.DataSourceRef(DATA_SOURCE["type"], DATA_SOURCE["uid"]))
        .query(sql.strip())
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.DISABLED)
        .multi(several)
        .include_all(several)
    )
    if every:
        variable.current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    return variable


def board(uid: str, title: str, description: str, variables: Sequence[Any], rows: Sequence[Row]) -> Any:
    """The dashboard, built: editable, four weeks up to now unless a link says otherwise."""
    dashboard = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .timezone("browser")
        .time("now-28d", "now")
        .refresh("5m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("wardwatch")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .keep_time(True)
            .include_vars(False)
        )
        .annotation(
            builders.AnnotationQuery()
            .name("Holidays and maintenance")
            .datasource(models.DataSourceRef(DATA_SOURCE["type"], DATA_SOURCE["uid"]))
            .target(Query(CALENDAR, "table"))
            .enable(True)
            .icon_color(GREY)
        )
    )
    dashboard.variables(list(variables))
    number = 0
    for row in rows:
        number += 1
        dashboard.with_row(builders.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            dashboard.with_panel(panel.id(number))
    return dashboard.build()
