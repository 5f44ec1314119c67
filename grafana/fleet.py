"""The fleet board: what state the devices are in, what is wrong, how they are used, what one device's gauges did."""

from typing import Any

from grafana import fleet_sql as sql
from grafana.board import FLEET_UID, Row, board, choice, customer_link, device_link
from grafana.columns import coloured, gauge, hidden, linked, number, sized
from grafana.palette import (
    ALERT_STATE,
    ANY_IS_BAD_STEPS,
    DEVICE_STATE,
    GREEN,
    MODEL,
    ORANGE,
    RED,
    SEVERITY,
)
from grafana.panels import donut_panel, heat_panel, series_panel, stat_panel, table_panel


def fleet_board() -> Any:
    """The fleet board."""
    return board(
        FLEET_UID,
        "Fleet",
        "State, alerts, use and faults of all devices, as of the end of the shown range; below, one device in detail.",
        [
            choice("customer", "Customer", sql.CUSTOMER_CHOICE, several=True, every=True),
            choice("model", "Model", sql.MODEL_CHOICE, several=True, every=True),
            choice("device", "Device", sql.DEVICE_CHOICE),
            choice("metric", "Gauge", sql.METRIC_CHOICE, several=True, every=True),
        ],
        [
            Row(
                "Now",
                [
                    stat_panel("Devices", sql.DEVICES, "Registered devices of the chosen customers and models."),
                    stat_panel(
                        "Reporting",
                        sql.REPORTING,
                        "Share of devices with readings in the last three hours of the range.",
                        unit="percent",
                        steps=((None, RED), (90.0, ORANGE), (97.0, GREEN)),
                        decimals=1,
                    ),
                    stat_panel(
                        "Silent",
                        sql.SILENT,
                        "Devices whose silence, or that of their site, is alerted.",
                        steps=ANY_IS_BAD_STEPS,
                    ),
                    stat_panel(
                        "Alerts up", sql.FIRING, "Fired, not resolved and not held back by a silence or inhibition."
                    ),
                    stat_panel("Critical", sql.CRITICAL, "Those of them that are critical.", steps=ANY_IS_BAD_STEPS),
                    stat_panel("Readings", sql.READINGS, "Readings stored with a time within the range."),
                    donut_panel(
                        "Device states",
                        sql.STATES_NOW,
                        "Each device counts once, by its worst alert that is up; quiet devices have none.",
                        DEVICE_STATE,
                    ),
                    series_panel(
                        "Device states over time",
                        sql.STATES_OVER_TIME,
                        "Each device counts once at each moment, by its worst alert that was up.",
                        width=10,
                        colours=DEVICE_STATE,
                        stacked=True,
                        at_least="30m",
                        points=200,
                    ),
                    table_panel(
                        "Silent sites and devices",
                        sql.SILENT_SITES,
                        "Sites with silent devices at the end of the range, and how many of theirs are.",
                        {
                            "customer_id": hidden(),
                            "customer": linked("Customer", customer_link()),
                            "silent": number("short", width=60),
                            "share": gauge(((None, ORANGE), (99.0, RED)), 100.0, width=90),
                        },
                        width=8,
                        height=8,
                    ),
                ],
            ),
            Row(
                "Alerts",
                [
                    table_panel(
                        "Alerts that are up",
                        sql.ALERTS_UP,
                        "Worst first. A click on a device opens it in the explorer below.",
                        {
                            "severity": coloured(SEVERITY, 90),
                            "state": coloured(ALERT_STATE, 120),
                            "device": linked("Explore", device_link(), 140),
                            "customer": linked("Customer", customer_link()),
                            "customer_id": hidden(),
                            "score": number("short", 2, 70),
                            "evidence": sized(320),
                            "since": sized(160),
                        },
                        height=10,
                    )
                ],
            ),
            Row(
                "Use and intake",
                [
                    series_panel(
                        "Use by model",
                        sql.USAGE,
                        "Use per reporting device and day; 100 % is the model's mean over the range. Devices without"
                        " data are left out, not counted as unused.",
                        unit="percent",
                        colours=MODEL,
                        at_least="1d",
                    ),
                    series_panel(
                        "Readings per hour",
                        sql.READINGS_OVER_TIME,
                        "By event time: what arrives late fills its own hour.",
                        colours=MODEL,
                        stacked=True,
                        at_least="1h",
                    ),
                ],
            ),
            Row(
                "Faults",
                [
                    heat_panel(
                        "Faults by model and subsystem",
                        sql.FAULT_HEAT,
                        "Fault events; a row that darkens is a cluster.",
                        at_least="6h",
                        points=120,
                    ),
                    table_panel(
                        "Most frequent codes",
                        sql.FAULT_CODES,
                        "Fault codes within the range.",
                        {
                            "severity": coloured(SEVERITY, 90),
                            "code": sized(90),
                            "faults": number("short", width=70),
                            "devices": number("short", width=70),
                        },
                        width=9,
                        height=10,
                    ),
                ],
            ),
            Row(
                "Explorer: $device",
                [
                    series_panel(
                        "Gauges of $device",
                        (sql.GAUGES, sql.GAUGES_LOWEST, sql.GAUGES_HIGHEST),
                        "Mean, lowest and highest value of each interval, in the gauge's own unit.",
                        width=16,
                        height=10,
                        minimum=None,
                    ),
                    table_panel(
                        "Device file", sql.DEVICE_FILE, "As registered.", {"what": sized(110)}, width=8, height=10
                    ),
                    series_panel(
                        "Use of $device",
                        sql.DEVICE_USAGE,
                        "Increase of the usage counter; resets and wraps are taken out.",
                        width=12,
                        bars=True,
                        at_least="1h",
                    ),
                    table_panel(
                        "Faults of $device",
                        sql.DEVICE_FAULTS,
                        "Newest first.",
                        {"severity": coloured(SEVERITY, 90), "code": sized(90), "time": sized(160)},
                        width=12,
                        height=8,
                    ),
                ],
            ),
        ],
    )
