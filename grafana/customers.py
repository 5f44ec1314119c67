"""The board of customers at risk: who is flagged and why, how health moved, and one customer in detail."""

from typing import Any

from grafana import customers_sql as sql
from grafana.board import CUSTOMERS_UID, Row, board, choice, customer_link, device_link
from grafana.columns import coloured, gauge, graded, hidden, linked, number, sized
from grafana.palette import BLUE, DECLINE_STEPS, GREEN, GREY, LEVEL, ORANGE, PURPLE, RED, YELLOW
from grafana.panels import bars_panel, donut_panel, series_panel, stat_panel, table_panel, timeline_panel

FLAG_STATE = {"raised": RED, "acknowledged": BLUE, "closed": GREEN}
HEALTH_STEPS = ((None, RED), (50.0, ORANGE), (65.0, YELLOW), (80.0, GREEN))
CHANGE_STEPS = ((None, RED), (-35.0, ORANGE), (-20.0, YELLOW), (-10.0, GREEN))


def customers_board() -> Any:
    """The board of customers at risk."""
    return board(
        CUSTOMERS_UID,
        "Customers at risk",
        "Churn flags with level, evidence and advice; health and its decline against each customer's own baseline.",
        [choice("customer", "Customer in detail", sql.CUSTOMER_CHOICE)],
        [
            Row("At risk", [*_counts(), _flags()]),
            Row("How it came", _development()),
            Row("$customer", _detail()),
        ],
    )


def _counts() -> list[Any]:
    hears = {
        "blue": "the account manager hears of it",
        "yellow": "the regional manager hears of it",
        "orange": "the sales director hears of it",
        "red": "the executive hears of it",
    }
    bounds = {"blue": "10–15 %", "yellow": "15–25 %", "orange": "25–35 %", "red": "over 35 %"}
    return [
        stat_panel("Customers", sql.CUSTOMERS, "Registered customers."),
        *(
            stat_panel(
                level.capitalize(),
                sql.at_level(level),
                f"Open flags at this level: health has declined by {bounds[level]} of its own baseline; {who}.",
                steps=((None, GREY), (1.0, LEVEL[level])),
            )
            for level, who in hears.items()
        ),
        stat_panel(
            "Mean health",
            sql.HEALTH_NOW,
            "Mean over all customers of the newest health, 0 to 100.",
            steps=HEALTH_STEPS,
            decimals=1,
        ),
    ]


def _flags() -> Any:
    return table_panel(
        "Open churn flags",
        sql.FLAGS,
        "Worst first: why the customer is flagged, who owns the case and what is advised.",
        {
            "level": coloured(LEVEL, 80),
            "customer": linked("Details", customer_link(), 190),
            "customer_id": hidden(),
            "decline": gauge(DECLINE_STEPS, 50.0, width=120),
            "health": gauge(HEALTH_STEPS, 100.0, "none", width=120),
            "usage": number("none", width=70),
            "service": number("none", width=70),
            "state": coloured(FLAG_STATE, 110),
            "raised": sized(150),
            "role": sized(130),
            "owner": sized(130),
            "intervention": sized(170),
            "evidence": sized(420),
        },
        height=10,
    )


def _development() -> list[Any]:
    levels = {i: (name if i else "no flag", colour) for i, (name, colour) in enumerate(LEVEL.items())}
    return [
        bars_panel(
            "Decline at the end of the range",
            sql.DECLINE_RANKING,
            "The twelve customers whose health has declined most against their own baseline.",
            unit="percent",
            steps=DECLINE_STEPS,
            top=50.0,
        ),
        timeline_panel("Levels over time", sql.LEVELS, "Level of the same customers, day by day.", levels),
        series_panel(
            "Health",
            sql.HEALTH,
            "Health of the same customers, 0 to 100, over the dimensions that are known.",
            unit="none",
            width=10,
            at_least="1d",
        ),
        series_panel(
            "Decline",
            sql.DECLINE,
            "Decline against the own baseline; dashed: where blue, yellow, orange and red begin.",
            unit="percent",
            width=10,
            at_least="1d",
            lines_at=((None, "transparent"), *DECLINE_STEPS[1:]),
        ),
        donut_panel(
            "Cases closed",
            sql.OUTCOMES,
            "What became of the flags that were closed within the range.",
            {"kept": GREEN, "lost": RED, "false alarm": GREY},
            width=4,
        ),
    ]


def _detail() -> list[Any]:
    return [
        series_panel(
            "Health of $customer",
            sql.CUSTOMER_HEALTH,
            "Health, its baseline, and the dimensions that telemetry and work orders tell.",
            unit="none",
            at_least="1d",
            colours={"health": GREEN, "baseline": GREY, "usage": BLUE, "service": PURPLE},
        ),
        series_panel(
            "Use against expected",
            sql.USAGE,
            "Use of the customer's devices a day, each in percent of what is typical of it. Expected is the mean of the"
            " same weekday two to five weeks before; a day without data of a device is left out, not taken as zero.",
            unit="percent",
            at_least="1d",
            colours={"used": BLUE, "expected": GREY},
        ),
        table_panel(
            "Devices of $customer",
            sql.DEVICES,
            "Use in the last 14 days of the range against expected, and what is open.",
            {
                "device": linked("Explore", device_link(), 140),
                "used": number("short", width=80),
                "expected": number("short", width=90),
                "change": graded(CHANGE_STEPS, "percent", 90),
                "alerts": number("short", width=70),
                "orders": number("short", width=70),
                "faults": number("short", width=70),
            },
            width=15,
        ),
        table_panel(
            "Evidence",
            sql.EVIDENCE,
            "Of the open flag; without one, of the newest health.",
            {"what": sized(200)},
            width=9,
        ),
        table_panel(
            "Flags of $customer",
            sql.FLAG_HISTORY,
            "All flags so far and when each level was first reached.",
            {
                "level": coloured(LEVEL, 80),
                "state": coloured(FLAG_STATE, 110),
                "decline": number("percent", 1, 80),
                "outcome": sized(110),
            },
            height=6,
        ),
    ]
