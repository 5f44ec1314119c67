"""Raw readings, faults and rollups to the database: COPY for what is new, merge and recount for what came late."""

from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection, sql

from streams.copyrows import encode_rows, floats, timestamps
from streams.effects import Effects
from streams.layout import Layout
from streams.pane_rows import LATE, RECOUNT, RESOLUTIONS_MS
from streams.upsert import instant

ROLLUPS = ("rollup_1m", "rollup_1h", "rollup_1d")

STAGING = """
CREATE TEMP TABLE IF NOT EXISTS late_panes (
    device_id text, metric text, bucket timestamptz, resolution bigint,
    count bigint, sum_n bigint, min_n bigint, max_n bigint, steps double precision, counter bigint
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS recounts (
    device_id text, metric text, ts timestamptz, resolution bigint, late bigint, wrap bigint, steps double precision
) ON COMMIT DELETE ROWS;
"""
"""Temporary tables of the owner's connection, through which late rows come in."""

_MERGE = """
WITH late AS (
    SELECT device_id, metric, bucket, count(*) AS revisions, sum(count) AS count, sum(sum_n) AS sum_n,
           min(min_n) AS min_n, max(max_n) AS max_n, min(steps) AS steps, min(counter) AS counter
    FROM late_panes WHERE resolution = {resolution} GROUP BY device_id, metric, bucket
), merged AS (
    UPDATE {table} AS r
    SET count = r.count + late.count, sum = round(r.sum * late.steps + late.sum_n::float8) / late.steps,
        min = least(r.min, late.min_n / late.steps), max = greatest(r.max, late.max_n / late.steps),
        revisions = r.revisions + late.revisions
    FROM late WHERE r.device_id = late.device_id AND r.metric = late.metric AND r.bucket = late.bucket
    RETURNING r.device_id, r.metric, r.bucket
)
INSERT INTO {table} (device_id, metric, bucket, count, sum, min, max, increase, revisions)
SELECT device_id, metric, bucket, count, sum_n / steps, min_n / steps, max_n / steps,
       CASE WHEN counter = 1 THEN 0 END, revisions
FROM late WHERE (device_id, metric, bucket) NOT IN (SELECT device_id, metric, bucket FROM merged)
"""

OVERLAP = "interval '10 minutes'"
"""How far two boots may overlap in time: by as much a clock may be ahead that the next boot finds set right."""
# Without OFFSET 0 a planner that has statistics of the readings reads all of them, to have them in order.
_RECOUNT = """
WITH touched AS (
    SELECT device_id, metric, ts, wrap, steps FROM recounts WHERE resolution = {resolution}
    UNION
    SELECT c.device_id, c.metric, follows.ts, c.wrap, c.steps
    FROM recounts AS c CROSS JOIN LATERAL (
        SELECT ts, boot FROM readings WHERE device_id = c.device_id AND metric = c.metric AND ts = c.ts OFFSET 0
    ) AS o CROSS JOIN LATERAL (
        SELECT min(ts) AS ts FROM readings AS r
        WHERE r.device_id = c.device_id AND r.metric = c.metric AND r.ts >= o.ts + {overlap}
    ) AS far CROSS JOIN LATERAL (
        SELECT DISTINCT ON (r.boot) r.ts FROM readings AS r
        WHERE r.device_id = c.device_id AND r.metric = c.metric
          AND r.ts > o.ts - {overlap} AND r.ts < coalesce(far.ts, o.ts) + {overlap}
          AND (r.boot > o.boot OR r.boot = o.boot AND r.ts > o.ts)
        ORDER BY r.boot, r.ts
    ) AS follows WHERE c.resolution = {resolution} AND c.late = 1
), buckets AS (
    SELECT DISTINCT device_id, metric, wrap, steps, date_bin({length}, ts, 'epoch') AS bucket
    FROM touched WHERE ts IS NOT NULL
)
UPDATE {table} AS r SET increase = counted.increase
FROM buckets AS b CROSS JOIN LATERAL (
    SELECT max(ts) AS ts FROM readings WHERE device_id = b.device_id AND metric = b.metric AND ts < b.bucket
) AS last CROSS JOIN LATERAL (
    SELECT coalesce(round(sum(CASE
               WHEN before IS NULL THEN 0
               WHEN value >= before THEN value - before
               WHEN boot = boot_before AND b.wrap > 0
                   AND before * b.steps * 10 > b.wrap * 9 AND value * b.steps * 10 < b.wrap
                   THEN value + b.wrap / b.steps - before
               ELSE value END) * b.steps) / b.steps, 0) AS increase
    FROM (
        SELECT ts, value, boot, lag(value) OVER sequence AS before, lag(boot) OVER sequence AS boot_before FROM readings
        WHERE device_id = b.device_id AND metric = b.metric
          AND ts < b.bucket + {length} + {overlap} AND ts >= coalesce((
            SELECT max(p.ts) FROM readings AS p
            WHERE p.device_id = b.device_id AND p.metric = b.metric AND p.ts < last.ts - {overlap}
        ) - {overlap}, last.ts - {overlap}, b.bucket) WINDOW sequence AS (ORDER BY boot, ts, value)
    ) AS steps WHERE ts >= b.bucket AND ts < b.bucket + {length}
) AS counted
WHERE r.device_id = b.device_id AND r.metric = b.metric AND r.bucket = b.bucket
"""


async def write_telemetry(connection: AsyncConnection[Any], effects: Effects, layout: Layout) -> int:
    """Write readings, faults and rollups within the open transaction; return the number of readings."""
    readings = await _write_readings(connection, effects, layout)
    if effects.faults:
        async with (
            connection.cursor() as cursor,
            cursor.copy("COPY faults (device_id, ts, code, severity, subsystem, text, boot, seq) FROM STDIN") as copy,
        ):
            for device_id, fault, boot, seq in effects.faults:
                words = (fault.code, fault.severity, fault.subsystem, fault.text)
                await copy.write_row((device_id, instant(fault.ts_ms), *words, boot, seq))
    if effects.filled:
        await _write_rollups(connection, effects.closed[: effects.filled], layout)
    return readings


async def _write_readings(connection: AsyncConnection[Any], effects: Effects, layout: Layout) -> int:
    if not effects.readings:
        return 0
    counts = [len(message.ts_ms) for message in effects.readings]
    device_text, device_first = layout.device_columns()
    device = np.repeat(np.array([message.device for message in effects.readings], np.int64), counts)
    slot = np.concatenate([message.slots for message in effects.readings])
    order = _by_series(device, slot)
    device = device[order]
    slot = device_first[device] + slot[order]
    boot = np.repeat(np.array([message.boot for message in effects.readings], np.int64), counts)[order]
    ts_ms = np.concatenate([message.ts_ms for message in effects.readings])[order]
    value = np.concatenate([message.n for message in effects.readings])[order] / layout.steps[slot]
    await _copy(
        connection,
        "COPY readings (device_id, metric, ts, value, boot) FROM STDIN (FORMAT BINARY)",
        layout,
        [device_text[device], layout.metric_text[slot]],
        [timestamps(ts_ms), floats(value), boot],
    )
    return len(ts_ms)


def _by_series(device: npt.NDArray[np.int64], slot: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Order in which rows of one series stand together: an index takes them a third faster than as they came."""
    return np.argsort(device * (int(slot.max(initial=0)) + 1) + slot, kind="stable")


async def _write_rollups(connection: AsyncConnection[Any], closed: npt.NDArray[np.void], layout: Layout) -> None:
    closed = closed[_by_series(closed["device"], closed["slot"])]
    device_text, device_first = layout.device_columns()
    slot = device_first[closed["device"]] + closed["slot"]
    names = [device_text[closed["device"]], layout.metric_text[slot]]
    steps = layout.steps[slot]
    no_counter = layout.wraps[slot] < 0
    late = (closed["flags"] & LATE) != 0
    bucket = timestamps(closed["start_ms"])
    for resolution, table in enumerate(ROLLUPS):
        chosen = ~late & (closed["resolution"] == resolution)
        fields = [
            bucket,
            closed["count"],
            *(floats(closed[column] / steps) for column in ("sum", "min", "max")),
            floats(closed["increase"] / steps, no_counter),
        ]
        await _copy(
            connection,
            f"COPY {table} (device_id, metric, bucket, count, sum, min, max, increase) FROM STDIN (FORMAT BINARY)",
            layout,
            [column[chosen] for column in names],
            [column[chosen] for column in fields],
        )
    recount = (closed["flags"] & RECOUNT) != 0
    if late.any():
        columns = [closed[name] for name in ("resolution", "count", "sum", "min", "max")]
        await _copy(
            connection,
            "COPY late_panes (device_id, metric, bucket, resolution, count, sum_n, min_n, max_n, steps, counter)"
            " FROM STDIN (FORMAT BINARY)",
            layout,
            [column[late] for column in names],
            [column[late] for column in (bucket, *columns, floats(steps), (~no_counter).astype(np.int64))],
        )
    if recount.any():
        at = timestamps(np.where(late, closed["until_ms"], closed["start_ms"]))
        await _copy(
            connection,
            "COPY recounts (device_id, metric, ts, resolution, late, wrap, steps) FROM STDIN (FORMAT BINARY)",
            layout,
            [column[recount] for column in names],
            [
                column[recount]
                for column in (at, closed["resolution"], late.astype(np.int64), layout.wraps[slot], floats(steps))
            ],
        )
    for resolution, table in enumerate(ROLLUPS):
        parameters = {
            "table": sql.Identifier(table),
            "resolution": sql.Literal(resolution),
            "overlap": sql.SQL(OVERLAP),
            "length": sql.SQL("interval {}").format(sql.Literal(f"{RESOLUTIONS_MS[resolution] // 1000} seconds")),
        }
        if late.any():
            await connection.execute(sql.SQL(_MERGE).format(**parameters))
        if recount.any():
            await connection.execute(sql.SQL(_RECOUNT).format(**parameters))


async def _copy(
    connection: AsyncConnection[Any],
    statement: str,
    layout: Layout,
    texts: list[npt.NDArray[np.int64]],
    fields: list[npt.NDArray[np.int64]],
) -> None:
    if not len(texts[0]):
        return
    data = encode_rows(layout.texts, np.stack(texts, axis=1), np.stack(fields, axis=1))
    async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        await copy.write(data)
