"""The service board: what work is open, how well service does, and how good the alerts are that start it."""

from typing import Any

from grafana import service_sql as sql
from grafana.board import SERVICE_UID, Row, board, choice, customer_link, device_link
from grafana.columns import coloured, gauge, graded, hidden, linked, number, sized
from grafana.palette import BLUE, DETECTOR, GOOD_SHARE_STEPS, GREEN, GREY, ORANGE, ORDER_STATE, PRIORITY, RED, YELLOW
from grafana.panels import donut_panel, series_panel, stat_panel, table_panel

PREDICTED_STEPS = ((None, ORANGE), (20.0, YELLOW), (40.0, GREEN))
PRECISION_STEPS = ((None, RED), (30.0, ORANGE), (50.0, YELLOW), (70.0, GREEN))
OVERDUE_STEPS = ((None, GREEN), (1.0, ORANGE), (86_400.0, RED))
COUNT_OVERDUE_STEPS = ((None, GREEN), (1.0, RED))


def service_board() -> Any:
    """The service board."""
    return board(
        SERVICE_UID,
        "Service",
        "Open work, the figures of service over the shown range, and the precision of what the detectors say.",
        [choice("customer", "Customer", sql.CUSTOMER_CHOICE, several=True, every=True)],
        [
            Row("Key figures", _key_figures()),
            Row("Open work, at the end of the range", _open_work()),
            Row("Flow", _flow()),
            Row("Alerts", _alerts()),
            Row("People and parts", _means()),
        ],
    )


def _key_figures() -> list[Any]:
    return [
        stat_panel(
            "Time to acknowledge",
            sql.TIME_TO_ACKNOWLEDGE,
            "Mean from an alert's firing to its acknowledgement (MTTA), of those acknowledged within the range.",
            unit="s",
            decimals=1,
        ),
        stat_panel(
            "Time to repair",
            sql.TIME_TO_REPAIR,
            "Mean from the first alert's firing to the end of the corrective order that found a fault (MTTR).",
            unit="s",
            decimals=1,
        ),
        stat_panel(
            "Order cycle time",
            sql.CYCLE_TIME,
            "Mean from an order's opening to its end, of all orders done within the range.",
            unit="s",
            decimals=1,
        ),
        stat_panel(
            "First-time fix",
            sql.FIRST_TIME_FIX,
            "Share of orders that found a fault and were not followed, within 30 days, by a corrective order on the"
            " same subsystem of the same device.",
            unit="percent",
            steps=GOOD_SHARE_STEPS,
        ),
        stat_panel(
            "Predicted",
            sql.PREDICTED,
            "Share of inspections (opened on a prediction) among all orders that found a fault: work done before the"
            " device failed.",
            unit="percent",
            steps=PREDICTED_STEPS,
        ),
        stat_panel(
            "Alert precision",
            sql.PRECISION,
            "Confirmed among confirmed and false, of alerts that fired within the range and were judged.",
            unit="percent",
            steps=PRECISION_STEPS,
        ),
    ]


def _open_work() -> list[Any]:
    return [
        table_panel(
            "By priority",
            sql.OPEN_BY_PRIORITY,
            "Open orders, those past their due time, and those nobody has.",
            {
                "priority": coloured(PRIORITY, 80),
                "open": number("short", width=70),
                "overdue": graded(COUNT_OVERDUE_STEPS, "short", 80),
                "unassigned": number("short", width=95),
            },
            width=8,
            height=6,
        ),
        series_panel(
            "Backlog",
            sql.BACKLOG,
            "Open orders by priority at each moment.",
            width=16,
            height=6,
            colours=PRIORITY,
            stacked=True,
            at_least="1h",
            points=200,
        ),
        table_panel(
            "Open orders",
            sql.OPEN_ORDERS,
            "Most urgent first.",
            {
                "priority": coloured(PRIORITY, 75),
                "number": sized(120),
                "device": linked("Explore", device_link(), 140),
                "state": coloured(ORDER_STATE, 110),
                "overdue": graded(OVERDUE_STEPS, "s", 100),
                "customer": linked("Customer", customer_link()),
                "customer_id": hidden(),
            },
            height=10,
        ),
    ]


def _flow() -> list[Any]:
    return [
        series_panel(
            "Orders opened and done",
            sql.FLOW,
            "Orders a day; those that missed their due time stand at that time.",
            width=10,
            at_least="1d",
            colours={"opened": ORANGE, "done": GREEN, "missed their due time": RED},
        ),
        series_panel(
            "Cycle time by week",
            sql.CYCLE_BY_PRIORITY,
            "Median from opening to end of the orders done in each week.",
            unit="s",
            width=9,
            colours=PRIORITY,
            at_least="1d",
        ),
        donut_panel(
            "What was found",
            sql.ORDER_OUTCOMES,
            "Outcomes of the orders done within the range.",
            {"confirmed": BLUE, "part replaced": GREEN, "no fault found": GREY},
            width=5,
        ),
    ]


def _alerts() -> list[Any]:
    return [
        series_panel(
            "Alerts by detector",
            sql.ALERTS_BY_DETECTOR,
            "Alerts that fired, a day.",
            width=11,
            bars=True,
            stacked=True,
            at_least="1d",
            colours=DETECTOR,
        ),
        table_panel(
            "Detectors",
            sql.DETECTORS,
            "Alerts that fired within the range, what people found them to be, and median times. Precision is confirmed"
            " among confirmed and false.",
            {
                "detector": coloured(DETECTOR, 120),
                "fired": number("short", width=60),
                "precision": gauge(PRECISION_STEPS, 100.0, width=120),
                "confirmed": number("short", width=85),
                "false": number("short", width=60),
                "unclear": number("short", width=70),
                "not judged": number("short", width=85),
                "time to acknowledge": number("s", 1),
                "time up": number("s", 1),
            },
            width=13,
            height=8,
        ),
    ]


def _means() -> list[Any]:
    return [
        table_panel(
            "Technicians",
            sql.TECHNICIANS,
            "Load at the end of the range, and what each did within it.",
            {
                "open": number("short", width=70),
                "overdue": graded(COUNT_OVERDUE_STEPS, "short", 80),
                "done": number("short", width=70),
                "cycle time": number("s", 1),
            },
            width=14,
        ),
        table_panel(
            "Parts",
            sql.PARTS,
            "Used by orders done within the range, and asked for by open ones.",
            {"used": number("short", width=70), "asked for": number("short", width=90)},
            width=10,
        ),
    ]
