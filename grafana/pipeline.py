"""The pipeline board: does telemetry arrive, what is wrong with it, and how far is what all other boards show?"""

from typing import Any

from grafana import pipeline_sql as sql
from grafana.board import PIPELINE_UID, Row, board
from grafana.columns import graded, number, sized
from grafana.palette import ANY_IS_BAD_STEPS, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW
from grafana.panels import curve_panel, series_panel, stat_panel, table_panel

BEHIND_STEPS = ((None, GREEN), (60.0, YELLOW), (600.0, ORANGE), (3_600.0, RED))
NOTICED = {
    "gap": RED,
    "late reading": PURPLE,
    "clamped ahead": YELLOW,
    "unknown device": ORANGE,
    "unknown metric": GREY,
}


def pipeline_board() -> Any:
    """The pipeline board."""
    return board(
        PIPELINE_UID,
        "Pipeline",
        "What arrives, what is refused or late, and how far each partition has decided.",
        [],
        [
            Row("Key figures", _key_figures()),
            Row("Telemetry", _telemetry()),
            Row("Engine", _engine()),
        ],
    )


def _key_figures() -> list[Any]:
    return [
        stat_panel(
            "Behind",
            sql.BEHIND,
            "How far the slowest partition's time is behind the end of the shown range.",
            unit="s",
            decimals=1,
            steps=BEHIND_STEPS,
        ),
        stat_panel("Readings", sql.READINGS, "Readings within the range, in closed hours."),
        stat_panel("Late", sql.REVISED, "Times that late readings were merged into hours that were closed already."),
        stat_panel(
            "Missing messages",
            sql.GAPS,
            "Sequence numbers that had not come when the next tick passed over them, within the range.",
            steps=ANY_IS_BAD_STEPS,
        ),
        stat_panel(
            "Refused messages",
            sql.REFUSED,
            "Messages within the range with at least one refusal; they are in the quarantine.",
            steps=ANY_IS_BAD_STEPS,
        ),
        stat_panel("Not delivered", sql.WAITING, "Messages to people that wait in the outbox, now."),
    ]


def _telemetry() -> list[Any]:
    return [
        series_panel(
            "Readings a second",
            sql.READINGS_OVER_TIME,
            "Mean over each point, by the readings' own time.",
            at_least="1h",
            colours={"readings a second": BLUE},
        ),
        series_panel(
            "Late merges",
            sql.REVISIONS,
            "Hours of a metric that were closed and revised, by the readings' own time.",
            bars=True,
            at_least="1h",
            colours={"revisions": PURPLE},
        ),
        series_panel(
            "Noticed",
            sql.NOTICED,
            "What partitions noticed in what arrived, by their own time.",
            bars=True,
            stacked=True,
            at_least="1h",
            colours=NOTICED,
        ),
        series_panel(
            "Refused by reason",
            sql.REFUSED_BY_REASON,
            "Messages with at least one refusal, by the first reason found and the time of receiving.",
            bars=True,
            stacked=True,
            at_least="1h",
        ),
        table_panel(
            "Floods and dropped messages",
            sql.HELD_UP,
            "Devices that sent more than their quota, with what waited in the overflow when it was last told; and times"
            " when the MQTT broker dropped messages from its own queues, with how many. Both are alerts.",
            {
                "what": sized(110),
                "device": sized(130),
                "messages": number("short", width=90),
            },
            height=6,
        ),
    ]


def _engine() -> list[Any]:
    return [
        table_panel(
            "Partitions",
            sql.PARTITIONS,
            "Up to when each partition has decided, and where it is in the log. Last commit is wall-clock time. What"
            " lies since the newest snapshot is recomputed after a crash. Repeated are messages that had come before.",
            {
                "topic": sized(90),
                "partition": sized(80),
                "behind": graded(BEHIND_STEPS, "s", 100),
                "next record": number("short", width=110),
                "since snapshot": number("short", width=120),
                "repeated": number("short", width=90),
                "epoch": number("short", width=70),
            },
            width=16,
        ),
        table_panel(
            "Deliveries",
            sql.DELIVERIES,
            "Messages to people by audience, now; failing are those that could not be delivered at least once.",
            {
                "delivered": number("short", width=80),
                "waiting": number("short", width=70),
                "failing": graded(ANY_IS_BAD_STEPS, "short", 70),
                "waiting for": number("s", 1),
            },
            width=8,
        ),
        series_panel(
            "Models",
            sql.MODELS,
            "How good the models are, judged before they learn from an outcome; mean over partitions.",
            at_least="1d",
            minimum=None,
        ),
        curve_panel(
            "Reliability of failure risk",
            sql.RELIABILITY,
            "Of judgements whose outcome became known within the range: the share that a failure followed, over the"
            " probability that had been foretold, by bins of it. On the dashed line both are the same; above it"
            " failures were more frequent than foretold. A short range holds few judgements of high probability.",
            x="foretold",
            colours={"happened": RED, "as foretold": GREY},
            dashed=("as foretold",),
        ),
        table_panel(
            "Alert budgets",
            sql.BUDGETS,
            "False alerts a device-month that people allow each detector and that its threshold lets expect. It raises"
            " from a probability that the alert is true, where it says one, else from a threshold in log odds of"
            " surprise. The correction is how many of the alerts that people judged were false, over what was claimed.",
            {
                "allowed": number("short", 3),
                "expected": number("short", 3),
                "raises from": number("percentunit"),
                "threshold": number("short", 2),
                "correction": number("short", 2),
                "device months": number("short", 1),
            },
            width=24,
        ),
    ]
