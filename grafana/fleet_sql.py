"""Queries of the fleet board."""

# ruff: noqa: S608 - what is put into SQL are constants of this package; values come from Grafana's own quoting

from grafana.query import FROM, STEP, TO, alert_concerns, alert_is_up, readable

CHOSEN = "d.model IN (${model:sqlstring}) AND d.customer_id IN (${customer:sqlstring})"
"""Predicate: the device (alias d) is of the chosen models and customers."""
ALERT_CHOSEN = """a.customer_id IN (${customer:sqlstring})
    AND (d.device_id IS NULL OR d.model = 'gateway' OR d.model IN (${model:sqlstring}))"""
"""Predicate: so is the alert's device (alias d, left-joined), or it is a gateway, or a whole site."""

RANK = """max(CASE WHEN a.detector IN ('silence', 'site_offline') THEN 5 WHEN a.severity = 'critical' THEN 4
        WHEN a.severity = 'error' THEN 3 WHEN a.severity = 'warning' THEN 2 ELSE 1 END)"""
"""A device's state is its worst alert that is up; a silent device's other alerts may be out of date."""

STATES = """count(*) FILTER (WHERE rank = 1) AS info, count(*) FILTER (WHERE rank = 2) AS warning,
    count(*) FILTER (WHERE rank = 3) AS error, count(*) FILTER (WHERE rank = 4) AS critical,
    count(*) FILTER (WHERE rank = 5) AS silent"""

CUSTOMER_CHOICE = "SELECT name AS __text, customer_id AS __value FROM customers ORDER BY name"

MODEL_CHOICE = """
SELECT name AS __text, model AS __value FROM device_models WHERE usage_metric IS NOT NULL ORDER BY name
"""

DEVICE_CHOICE = f"""
SELECT d.device_id AS __text, d.device_id AS __value
FROM devices d LEFT JOIN alerts a ON a.device_id = d.device_id AND {alert_is_up(TO)}
WHERE {CHOSEN} GROUP BY 1, 2 ORDER BY count(a.alert_id) DESC, 1
"""
"""Devices with most alerts first."""

METRIC_CHOICE = """
SELECT r.metric || coalesce(' [' || (m.catalogue #>> ARRAY['metrics', r.metric, 'unit']) || ']', '') AS __text,
    r.metric AS __value
FROM devices d JOIN device_models m ON m.model = d.model JOIN rollup_1d r ON r.device_id = d.device_id
WHERE d.device_id = ${device:sqlstring} AND m.catalogue #>> ARRAY['metrics', r.metric, 'kind'] = 'gauge'
GROUP BY 1, 2 ORDER BY 1
"""

DEVICES = f"SELECT count(*) AS devices FROM devices d WHERE {CHOSEN}"

REPORTING = f"""
SELECT 100.0 * count(*) FILTER (WHERE EXISTS (
        SELECT FROM rollup_1h r
        WHERE r.device_id = d.device_id AND r.bucket > {TO} - interval '3 hours' AND r.bucket <= {TO}
    )) / nullif(count(*), 0) AS reporting
FROM devices d WHERE {CHOSEN}
"""

SILENT = f"""
SELECT count(DISTINCT d.device_id) AS silent
FROM devices d JOIN alerts a ON {alert_concerns()}
WHERE {CHOSEN} AND a.detector IN ('silence', 'site_offline') AND {alert_is_up(TO)}
"""

FIRING = f"""
SELECT count(*) AS firing
FROM alerts a LEFT JOIN devices d ON d.device_id = a.device_id
WHERE {ALERT_CHOSEN} AND a.suppressed_by = '' AND {alert_is_up(TO)}
"""

CRITICAL = FIRING.replace("AS firing", "AS critical").replace("WHERE", "WHERE a.severity = 'critical' AND", 1)

READINGS = f"""
SELECT coalesce(sum(r.count), 0)::float8 AS readings
FROM rollup_1h r JOIN devices d ON d.device_id = r.device_id
WHERE {CHOSEN} AND $__timeFilter(r.bucket)
"""

STATES_NOW = f"""
WITH ranked AS (
    SELECT d.device_id, {RANK} AS rank
    FROM devices d JOIN alerts a ON {alert_concerns()} AND {alert_is_up(TO)}
    WHERE {CHOSEN} GROUP BY 1
)
SELECT (SELECT count(*) FROM devices d WHERE {CHOSEN}) - count(*) AS quiet, {STATES} FROM ranked
"""

STATES_OVER_TIME = f"""
WITH steps AS (SELECT generate_series({FROM}, {TO}, {STEP}) AS step),
fleet AS (SELECT d.device_id, d.site_id FROM devices d WHERE {CHOSEN}),
ranked AS (
    SELECT s.step, d.device_id, {RANK} AS rank
    FROM fleet d
    JOIN alerts a ON {alert_concerns()} AND a.fired_at <= {TO} AND (a.resolved_at IS NULL OR a.resolved_at > {FROM})
    JOIN steps s ON {alert_is_up("s.step")}
    GROUP BY 1, 2
)
SELECT s.step AS time, (SELECT count(*) FROM fleet) - count(r.rank) AS quiet, {STATES}
FROM steps s LEFT JOIN ranked r ON r.step = s.step
GROUP BY 1 ORDER BY 1
"""

SILENT_SITES = f"""
SELECT s.name AS site, c.name AS customer, c.customer_id, count(DISTINCT d.device_id) AS silent,
    100.0 * count(DISTINCT d.device_id) / max(all_devices.n) AS share,
    min(a.onset_at) AS since,
    CASE WHEN bool_or(a.device_id = '') THEN 'site offline'
         WHEN bool_or(d.model = 'gateway') THEN 'gateway silent'
         WHEN count(DISTINCT d.device_id) = max(all_devices.n) THEN 'every device' ELSE 'devices' END AS what
FROM alerts a
JOIN devices d ON {alert_concerns()}
JOIN sites s ON s.site_id = d.site_id
JOIN customers c ON c.customer_id = d.customer_id
JOIN (SELECT site_id, count(*) AS n FROM devices GROUP BY 1) all_devices ON all_devices.site_id = s.site_id
WHERE a.detector IN ('silence', 'site_offline') AND {alert_is_up(TO)} AND c.customer_id IN (${{customer:sqlstring}})
GROUP BY 1, 2, 3 ORDER BY share DESC, since
"""

ALERTS_UP = f"""
SELECT a.severity, coalesce(d.device_id, '') AS device, coalesce(d.model, 'site') AS model, a.detector, a.subsystem,
    CASE WHEN a.acknowledged_at <= {TO} THEN 'acknowledged' ELSE 'firing' END AS state,
    a.onset_at AS since, round(a.score::numeric, 2)::float8 AS score,
    {readable("a.evidence")} AS evidence, replace(a.evidence ->> 'advice', '_', ' ') AS advice,
    o.number AS "work order", c.name AS customer, c.customer_id, a.suppressed_by AS "held back"
FROM alerts a
JOIN customers c ON c.customer_id = a.customer_id
LEFT JOIN devices d ON d.device_id = a.device_id
LEFT JOIN work_orders o ON o.work_order_id = a.work_order_id
WHERE {ALERT_CHOSEN} AND {alert_is_up(TO)}
ORDER BY array_position(ARRAY['critical', 'error', 'warning', 'info'], a.severity), a.onset_at
LIMIT 500
"""

USAGE = f"""
WITH daily AS (
    SELECT r.bucket, d.model, sum(r.increase) / count(*) AS used
    FROM rollup_1d r JOIN devices d ON d.device_id = r.device_id
    JOIN device_models m ON m.model = d.model AND m.usage_metric = r.metric
    WHERE {CHOSEN} AND r.increase IS NOT NULL AND $__timeFilter(r.bucket) AND r.bucket + interval '1 day' <= {TO}
    GROUP BY 1, 2
)
SELECT bucket AS time, model AS metric, 100.0 * used / nullif(avg(used) OVER (PARTITION BY model), 0) AS value
FROM daily ORDER BY 1, 2
"""

READINGS_OVER_TIME = f"""
SELECT $__timeGroupAlias(r.bucket, $__interval), d.model AS metric, sum(r.count) * 3600000.0 / $__interval_ms AS value
FROM rollup_1h r JOIN devices d ON d.device_id = r.device_id
WHERE {CHOSEN} AND $__timeFilter(r.bucket)
GROUP BY 1, 2 ORDER BY 1, 2
"""

FAULT_HEAT = f"""
SELECT $__timeGroupAlias(f.ts, $__interval, 0), d.model || ' · ' || f.subsystem AS metric, count(*)::float8 AS value
FROM faults f JOIN devices d ON d.device_id = f.device_id
WHERE {CHOSEN} AND $__timeFilter(f.ts)
GROUP BY 1, 2 ORDER BY 1, 2
"""

FAULT_CODES = f"""
SELECT f.code, min(f.severity) AS severity, d.model, f.subsystem, count(*) AS faults,
    count(DISTINCT f.device_id) AS devices, max(f.ts) AS last, min(f.text) AS text
FROM faults f JOIN devices d ON d.device_id = f.device_id
WHERE {CHOSEN} AND $__timeFilter(f.ts)
GROUP BY f.code, d.model, f.subsystem ORDER BY faults DESC LIMIT 50
"""

_GAUGES = """
SELECT $__timeGroupAlias(r.bucket, $__interval), r.metric{suffix} AS metric, {value} AS value
FROM (
    SELECT * FROM rollup_1m WHERE $__interval_ms < 3600000
    UNION ALL SELECT * FROM rollup_1h WHERE $__interval_ms >= 3600000
) r
WHERE r.device_id = ${{device:sqlstring}} AND r.metric IN (${{metric:sqlstring}}) AND $__timeFilter(r.bucket)
GROUP BY 1, 2 ORDER BY 1, 2
"""
GAUGES = _GAUGES.format(suffix="", value="sum(r.sum) / sum(r.count)")
GAUGES_LOWEST = _GAUGES.format(suffix=" || ' lowest'", value="min(r.min)")
GAUGES_HIGHEST = _GAUGES.format(suffix=" || ' highest'", value="max(r.max)")

DEVICE_FILE = f"""
SELECT f.what, f.value
FROM devices d
JOIN device_models m ON m.model = d.model
JOIN sites s ON s.site_id = d.site_id
JOIN customers c ON c.customer_id = d.customer_id
CROSS JOIN LATERAL (VALUES
    (1, 'Model', m.name || ' (' || m.name_zh || ')'), (2, 'Customer', c.name), (3, 'Site', s.name),
    (4, 'UDI', d.udi_di || ' ' || d.udi_pi), (5, 'Firmware', d.firmware),
    (6, 'Installed', to_char(d.installed_at, 'YYYY-MM-DD')),
    (7, 'Last reading', coalesce((SELECT to_char(max(r.bucket), 'YYYY-MM-DD HH24:00') FROM rollup_1h r
        WHERE r.device_id = d.device_id AND r.bucket <= {TO}), 'never')),
    (8, 'Last visit', coalesce((SELECT to_char(o.done_at, 'YYYY-MM-DD') || ', ' || o.number || ', '
            || replace(o.outcome, '_', ' ') FROM work_orders o
        WHERE o.device_id = d.device_id AND o.done_at <= {TO} ORDER BY o.done_at DESC LIMIT 1), 'none'))
) AS f (place, what, value)
WHERE d.device_id = ${{device:sqlstring}} ORDER BY f.place
"""

DEVICE_USAGE = """
SELECT $__timeGroupAlias(r.bucket, $__interval), r.metric, sum(r.increase) AS value
FROM rollup_1h r JOIN devices d ON d.device_id = r.device_id
JOIN device_models m ON m.model = d.model AND m.usage_metric = r.metric
WHERE d.device_id = ${device:sqlstring} AND $__timeFilter(r.bucket)
GROUP BY 1, 2 ORDER BY 1
"""

DEVICE_FAULTS = """
SELECT ts AS time, severity, code, subsystem, text
FROM faults WHERE device_id = ${device:sqlstring} AND $__timeFilter(ts) ORDER BY ts DESC LIMIT 200
"""
