"""Queries of the pipeline board."""

# ruff: noqa: S608 - what is put into SQL are constants of this package; values come from Grafana's own quoting

from grafana.query import FROM, TO

BEHIND = f"""
SELECT greatest(extract(epoch FROM {TO} - min(partition_time)), 0)::float8 AS behind
FROM partition_progress WHERE topic = 'telemetry'
"""

READINGS = "SELECT coalesce(sum(count), 0)::float8 AS readings FROM rollup_1h WHERE $__timeFilter(bucket)"

REVISED = "SELECT coalesce(sum(revisions), 0)::float8 AS revisions FROM rollup_1h WHERE $__timeFilter(bucket)"

REFUSED = "SELECT coalesce(sum(messages), 0)::float8 AS refused FROM refusals WHERE $__timeFilter(at)"

_NOTICED = """
SELECT coalesce(sum(count), 0)::float8 AS noticed FROM noticed WHERE $__timeFilter(at) AND what = '{what}'
"""
GAPS = _NOTICED.format(what="gap")

WAITING = "SELECT coalesce(sum(waiting), 0)::float8 AS waiting FROM deliveries"

READINGS_OVER_TIME = """
SELECT $__timeGroupAlias(bucket, $__interval), sum(count) * 1000.0 / $__interval_ms AS "readings a second"
FROM rollup_1h WHERE $__timeFilter(bucket) GROUP BY 1 ORDER BY 1
"""

NOTICED = """
SELECT $__timeGroupAlias(at, $__interval), replace(what, '_', ' ') AS metric, sum(count)::float8 AS value
FROM noticed WHERE $__timeFilter(at) GROUP BY 1, 2 ORDER BY 1, 2
"""

REFUSED_BY_REASON = """
SELECT $__timeGroupAlias(at, $__interval), replace(reason, '_', ' ') AS metric, sum(messages)::float8 AS value
FROM refusals WHERE $__timeFilter(at) GROUP BY 1, 2 ORDER BY 1, 2
"""

REVISIONS = """
SELECT $__timeGroupAlias(bucket, $__interval), sum(revisions)::float8 AS revisions
FROM rollup_1h WHERE $__timeFilter(bucket) GROUP BY 1 ORDER BY 1
"""

HELD_UP = f"""
SELECT replace(detector, '_', ' ') AS what, device_id AS device, onset_at AS since,
    CASE WHEN resolved_at <= {TO} THEN resolved_at END AS until,
    coalesce(evidence ->> 'waiting', evidence ->> 'messages')::float8 AS messages,
    evidence ->> 'bridge' AS bridge, replace(evidence ->> 'advice', '_', ' ') AS advice
FROM alerts
WHERE detector IN ('flood', 'broker_drops') AND fired_at <= {TO} AND (resolved_at IS NULL OR resolved_at > {FROM})
ORDER BY since DESC LIMIT 100
"""

PARTITIONS = f"""
SELECT topic, partition, partition_time AS "its time",
    greatest(extract(epoch FROM {TO} - partition_time), 0)::float8 AS behind,
    updated_at AS "last commit", next_offset AS "next record", next_offset - snapshot_offset AS "since snapshot",
    repeated, epoch, written_by AS "written by"
FROM partition_progress ORDER BY 1 DESC, 2
"""

DELIVERIES = f"""
SELECT audience, delivered, waiting, failing,
    CASE WHEN waiting > 0 THEN greatest(extract(epoch FROM {TO} - waiting_since), 0)::float8 END AS "waiting for"
FROM deliveries ORDER BY 1
"""

MODELS = """
SELECT $__timeGroupAlias(at, $__interval), replace(model || ' ' || metric, '_', ' ') AS metric, avg(value) AS value
FROM model_metrics WHERE $__timeFilter(at) AND model NOT LIKE '%/%' AND metric NOT LIKE 'reliability%'
GROUP BY 1, 2 ORDER BY 1, 2
"""

RELIABILITY = """
SELECT foretold / judged AS foretold, happened / judged AS happened, foretold / judged AS "as foretold"
FROM (
    SELECT split_part(metric, '_', 2) AS bin,
        sum(value) FILTER (WHERE metric LIKE '%judged') AS judged,
        sum(value) FILTER (WHERE metric LIKE '%foretold') AS foretold,
        sum(value) FILTER (WHERE metric LIKE '%happened') AS happened
    FROM model_metrics
    WHERE $__timeFilter(at) AND model = 'failure_risk' AND metric LIKE 'reliability%' GROUP BY 1
) bins
WHERE judged > 0 ORDER BY 1
"""

BUDGETS = f"""
SELECT split_part(model, '/', 2) AS detector, split_part(model, '/', 3) AS "device model",
    max(value) FILTER (WHERE metric = 'budget') AS allowed,
    max(value) FILTER (WHERE metric = 'expected_false') AS expected,
    max(value) FILTER (WHERE metric = 'probability') AS "raises from",
    max(value) FILTER (WHERE metric = 'threshold') AS threshold,
    max(value) FILTER (WHERE metric = 'correction') AS correction,
    max(value) FILTER (WHERE metric = 'device_months') AS "device months"
FROM model_metrics
WHERE model LIKE 'budget/%'
    AND at = (SELECT max(at) FROM model_metrics WHERE model LIKE 'budget/%' AND at <= {TO})
GROUP BY 1, 2 ORDER BY 1, 2
"""
