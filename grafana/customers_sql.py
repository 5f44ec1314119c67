"""Queries of the board of customers at risk."""

# ruff: noqa: S608 - what is put into SQL are constants of this package; values come from Grafana's own quoting

from grafana.query import FROM, TO, alert_is_up, facts, flag_is_open, order_is_open, readable

LATEST = f"""(SELECT DISTINCT ON (customer_id) * FROM customer_health WHERE at <= {TO} ORDER BY customer_id, at DESC)"""
"""The newest health of each customer at the end of the range."""

WORST = f"""(SELECT customer_id FROM {LATEST} latest ORDER BY decline_pct DESC, customer_id LIMIT 12)"""
"""Customers whose health has declined most by then: as many as a chart can show."""

CUSTOMER_CHOICE = f"""
SELECT c.name AS __text, c.customer_id AS __value
FROM customers c LEFT JOIN {LATEST} h ON h.customer_id = c.customer_id
ORDER BY h.decline_pct DESC NULLS LAST, c.name
"""
"""The customer most at risk first."""

CUSTOMERS = "SELECT count(*) AS customers FROM customers"

HEALTH_NOW = f"SELECT avg(health) AS health FROM {LATEST} latest"


def at_level(level: str) -> str:
    """How many flags are open at a level."""
    return f"SELECT count(*) AS {level} FROM churn_flags f WHERE {flag_is_open(TO)} AND f.level = '{level}'"


FLAGS = f"""
SELECT f.level, c.name AS customer, c.customer_id, coalesce(h.decline_pct, f.decline_pct) AS decline,
    h.health, h.usage, h.service, f.state, f.raised_at AS raised, replace(f.owner_role, '_', ' ') AS role, f.owner,
    replace(f.intervention, '_', ' ') AS intervention, {readable("f.evidence")} AS evidence, c.region
FROM churn_flags f
JOIN customers c ON c.customer_id = f.customer_id
LEFT JOIN {LATEST} h ON h.customer_id = f.customer_id
WHERE {flag_is_open(TO)}
ORDER BY array_position(ARRAY['red', 'orange', 'yellow', 'blue'], f.level), f.decline_pct DESC
"""

DECLINE_RANKING = f"""
SELECT c.name AS customer, greatest(h.decline_pct, 0) AS decline
FROM {LATEST} h JOIN customers c ON c.customer_id = h.customer_id
ORDER BY h.decline_pct DESC, c.name LIMIT 12
"""

LEVELS = f"""
SELECT h.at AS time, c.name AS metric,
    coalesce(array_position(ARRAY['blue', 'yellow', 'orange', 'red'], h.level), 0)::float8 AS value
FROM customer_health h JOIN customers c ON c.customer_id = h.customer_id
WHERE $__timeFilter(h.at) AND h.customer_id IN {WORST}
ORDER BY 1, 2
"""

_OVER_TIME = f"""
SELECT h.at AS time, c.name AS metric, h.{{column}} AS value
FROM customer_health h JOIN customers c ON c.customer_id = h.customer_id
WHERE $__timeFilter(h.at) AND h.customer_id IN {WORST}
ORDER BY 1, 2
"""
HEALTH = _OVER_TIME.format(column="health")
DECLINE = _OVER_TIME.format(column="decline_pct")

OUTCOMES = """
SELECT count(*) FILTER (WHERE outcome = 'kept') AS kept, count(*) FILTER (WHERE outcome = 'lost') AS lost,
    count(*) FILTER (WHERE outcome = 'false_alarm') AS "false alarm"
FROM churn_flags WHERE $__timeFilter(closed_at)
"""

CUSTOMER_HEALTH = """
SELECT at AS time, health, baseline, usage, service
FROM customer_health
WHERE customer_id = ${customer:sqlstring} AND $__timeFilter(at) ORDER BY 1
"""

_USED = f"""
used AS (
    SELECT r.device_id, r.bucket, r.increase AS used
    FROM rollup_1d r
    JOIN devices d ON d.device_id = r.device_id
    JOIN device_models m ON m.model = d.model AND m.usage_metric = r.metric
    WHERE d.customer_id = ${{customer:sqlstring}} AND r.increase IS NOT NULL
        AND r.bucket >= {FROM} - interval '35 days' AND r.bucket + interval '1 day' <= {TO}
),
judged AS (
    SELECT u.device_id, u.bucket, u.used, avg(e.used) AS expected
    FROM used u JOIN used e ON e.device_id = u.device_id AND e.bucket IN (
        u.bucket - interval '14 days', u.bucket - interval '21 days',
        u.bucket - interval '28 days', u.bucket - interval '35 days')
    GROUP BY 1, 2, 3
)
"""
"""Used and expected by device and whole day; expected is the mean of the same weekday two to five weeks before."""

USAGE = f"""
WITH {_USED},
scaled AS (SELECT *, nullif(avg(expected) OVER (PARTITION BY device_id), 0) AS typical FROM judged)
SELECT bucket AS time, 100.0 * avg(used / typical) AS used, 100.0 * avg(expected / typical) AS expected
FROM scaled WHERE bucket >= {FROM} AND typical IS NOT NULL
GROUP BY 1 ORDER BY 1
"""

DEVICES = f"""
WITH {_USED},
recent AS (
    SELECT device_id, sum(used) AS used, sum(expected) AS expected
    FROM judged WHERE bucket >= {TO} - interval '14 days' GROUP BY 1
)
SELECT d.device_id AS device, d.model, s.name AS site, r.used, r.expected,
    100.0 * (r.used / nullif(r.expected, 0) - 1) AS change,
    (SELECT count(*) FROM alerts a WHERE a.device_id = d.device_id AND {alert_is_up(TO)}) AS alerts,
    (SELECT count(*) FROM work_orders o WHERE o.device_id = d.device_id AND {order_is_open(TO)}) AS orders,
    (SELECT count(*) FROM faults f WHERE f.device_id = d.device_id
        AND f.ts > {TO} - interval '14 days' AND f.ts <= {TO}) AS faults
FROM devices d JOIN sites s ON s.site_id = d.site_id LEFT JOIN recent r ON r.device_id = d.device_id
WHERE d.customer_id = ${{customer:sqlstring}} AND d.model <> 'gateway'
ORDER BY change NULLS LAST, device
"""

EVIDENCE = f"""
SELECT e.what, e.value
FROM (
    SELECT f.evidence, 0 AS place, f.raised_at AS at FROM churn_flags f
    WHERE f.customer_id = ${{customer:sqlstring}} AND {flag_is_open(TO)}
    UNION ALL
    SELECT h.evidence, 1, h.at FROM {LATEST} h WHERE h.customer_id = ${{customer:sqlstring}}
    ORDER BY place, at DESC LIMIT 1
) newest CROSS JOIN LATERAL {facts("newest.evidence")} e
ORDER BY 1
"""

FLAG_HISTORY = f"""
SELECT f.raised_at AS raised, f.level, f.state, f.decline_pct AS decline, f.blue_at AS blue, f.yellow_at AS yellow,
    f.orange_at AS orange, f.red_at AS red, f.acknowledged_at AS acknowledged, f.closed_at AS closed, f.outcome, f.owner
FROM churn_flags f
WHERE f.customer_id = ${{customer:sqlstring}} AND f.raised_at <= {TO} ORDER BY f.raised_at DESC
"""
