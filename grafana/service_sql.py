"""Queries of the service board. Times between two events are in seconds."""

# ruff: noqa: S608 - what is put into SQL are constants of this package; values come from Grafana's own quoting

from grafana.query import FROM, STEP, TO, order_is_open

CHOSEN = "o.customer_id IN (${customer:sqlstring})"
"""Predicate: the work order (alias o) is of the chosen customers."""
ALERT_CHOSEN = "a.customer_id IN (${customer:sqlstring})"

CUSTOMER_CHOICE = "SELECT name AS __text, customer_id AS __value FROM customers ORDER BY name"

FOUND = "o.outcome IN ('confirmed', 'part_replaced')"
"""Predicate: the visit found what it was sent for."""

TIME_TO_ACKNOWLEDGE = f"""
SELECT avg(extract(epoch FROM a.acknowledged_at - a.fired_at))::float8 AS "time to acknowledge"
FROM alerts a
WHERE {ALERT_CHOSEN} AND a.fired_at IS NOT NULL AND $__timeFilter(a.acknowledged_at)
"""

TIME_TO_REPAIR = f"""
SELECT avg(extract(epoch FROM o.done_at - coalesce(first_alert.fired_at, o.opened_at)))::float8 AS "time to repair"
FROM work_orders o
LEFT JOIN (
    SELECT work_order_id, min(fired_at) AS fired_at FROM alerts WHERE work_order_id IS NOT NULL GROUP BY 1
) first_alert ON first_alert.work_order_id = o.work_order_id
WHERE {CHOSEN} AND o.kind = 'corrective' AND {FOUND} AND $__timeFilter(o.done_at)
"""

CYCLE_TIME = f"""
SELECT avg(extract(epoch FROM o.done_at - o.opened_at))::float8 AS "cycle time"
FROM work_orders o WHERE {CHOSEN} AND $__timeFilter(o.done_at)
"""

FIRST_TIME_FIX = f"""
SELECT 100.0 * count(*) FILTER (WHERE NOT EXISTS (
        SELECT FROM work_orders again
        WHERE again.device_id = o.device_id AND again.subsystem = o.subsystem AND again.kind = 'corrective'
            AND again.opened_at > o.done_at AND again.opened_at <= least(o.done_at + interval '30 days', {TO})
    )) / nullif(count(*), 0) AS "first-time fix"
FROM work_orders o WHERE {CHOSEN} AND {FOUND} AND $__timeFilter(o.done_at)
"""

PREDICTED = f"""
SELECT 100.0 * count(*) FILTER (WHERE o.kind = 'inspection') / nullif(count(*), 0) AS predicted
FROM work_orders o
WHERE {CHOSEN} AND o.kind IN ('inspection', 'corrective') AND {FOUND} AND $__timeFilter(o.done_at)
"""

PRECISION = f"""
SELECT 100.0 * count(*) FILTER (WHERE a.outcome = 'confirmed')
    / nullif(count(*) FILTER (WHERE a.outcome IN ('confirmed', 'false')), 0) AS precision
FROM alerts a WHERE {ALERT_CHOSEN} AND $__timeFilter(a.fired_at)
"""

OPEN_BY_PRIORITY = f"""
SELECT p.priority, count(o.work_order_id) AS open,
    count(o.work_order_id) FILTER (WHERE o.due_at < {TO}) AS overdue,
    count(o.work_order_id) FILTER (WHERE o.assigned_at IS NULL OR o.assigned_at > {TO}) AS unassigned,
    min(o.due_at) AS "next due"
FROM (VALUES ('P1'), ('P2'), ('P3'), ('P4')) p (priority)
LEFT JOIN work_orders o ON o.priority = p.priority AND {order_is_open(TO)} AND {CHOSEN}
GROUP BY 1 ORDER BY 1
"""

OPEN_ORDERS = f"""
SELECT o.priority, o.number, o.kind, o.device_id AS device, d.model, o.subsystem,
    CASE WHEN o.started_at <= {TO} THEN 'in_progress' WHEN o.assigned_at <= {TO} THEN 'assigned' ELSE 'open' END
        AS state,
    o.due_at AS due, greatest(extract(epoch FROM {TO} - o.due_at), 0)::float8 AS overdue,
    coalesce(t.name, 'suggested: ' || s.name, '') AS technician, array_to_string(o.part_ids, ', ') AS parts,
    c.name AS customer, c.customer_id, o.opened_at AS opened
FROM work_orders o
JOIN devices d ON d.device_id = o.device_id
JOIN customers c ON c.customer_id = o.customer_id
LEFT JOIN technicians t ON t.technician_id = o.technician_id
LEFT JOIN technicians s ON s.technician_id = o.suggested_technician_id
WHERE {CHOSEN} AND {order_is_open(TO)}
ORDER BY o.priority, o.due_at LIMIT 500
"""

BACKLOG = f"""
SELECT s.step AS time,
    count(*) FILTER (WHERE o.priority = 'P1') AS "P1", count(*) FILTER (WHERE o.priority = 'P2') AS "P2",
    count(*) FILTER (WHERE o.priority = 'P3') AS "P3", count(*) FILTER (WHERE o.priority = 'P4') AS "P4"
FROM generate_series({FROM}, {TO}, {STEP}) s (step)
LEFT JOIN work_orders o ON {order_is_open("s.step")} AND {CHOSEN}
GROUP BY 1 ORDER BY 1
"""

FLOW = f"""
SELECT $__timeGroupAlias(m.at, $__interval), m.metric, count(*)::float8 AS value
FROM (
    SELECT o.opened_at AS at, 'opened' AS metric FROM work_orders o WHERE {CHOSEN}
    UNION ALL SELECT o.done_at, 'done' FROM work_orders o WHERE {CHOSEN} AND o.done_at IS NOT NULL
    UNION ALL SELECT o.due_at, 'missed their due time' FROM work_orders o
        WHERE {CHOSEN} AND o.due_at < {TO} AND (o.done_at IS NULL OR o.done_at > o.due_at)
) m
WHERE $__timeFilter(m.at)
GROUP BY 1, 2 ORDER BY 1, 2
"""

CYCLE_BY_PRIORITY = f"""
SELECT $__timeGroupAlias(o.done_at, '7d'), o.priority AS metric,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM o.done_at - o.opened_at)::float8) AS value
FROM work_orders o WHERE {CHOSEN} AND $__timeFilter(o.done_at)
GROUP BY 1, 2 ORDER BY 1, 2
"""

ORDER_OUTCOMES = f"""
SELECT count(*) FILTER (WHERE o.outcome = 'confirmed') AS confirmed,
    count(*) FILTER (WHERE o.outcome = 'part_replaced') AS "part replaced",
    count(*) FILTER (WHERE o.outcome = 'no_fault_found') AS "no fault found"
FROM work_orders o WHERE {CHOSEN} AND $__timeFilter(o.done_at)
"""

ALERTS_BY_DETECTOR = f"""
SELECT $__timeGroupAlias(a.fired_at, $__interval), a.detector AS metric, count(*)::float8 AS value
FROM alerts a WHERE {ALERT_CHOSEN} AND $__timeFilter(a.fired_at)
GROUP BY 1, 2 ORDER BY 1, 2
"""

DETECTORS = f"""
SELECT a.detector, count(*) AS fired,
    100.0 * count(*) FILTER (WHERE a.outcome = 'confirmed')
        / nullif(count(*) FILTER (WHERE a.outcome IN ('confirmed', 'false')), 0) AS precision,
    count(*) FILTER (WHERE a.outcome = 'confirmed') AS confirmed, count(*) FILTER (WHERE a.outcome = 'false') AS false,
    count(*) FILTER (WHERE a.outcome = 'unclear') AS unclear, count(*) FILTER (WHERE a.outcome = '') AS "not judged",
    (percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM a.acknowledged_at - a.fired_at)))::float8
        AS "time to acknowledge",
    (percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM a.resolved_at - a.fired_at)))::float8
        AS "time up"
FROM alerts a WHERE {ALERT_CHOSEN} AND $__timeFilter(a.fired_at)
GROUP BY 1 ORDER BY 2 DESC
"""

TECHNICIANS = f"""
SELECT t.name AS technician, t.region, array_to_string(t.skills, ', ') AS skills,
    count(*) FILTER (WHERE {order_is_open(TO)}) AS open,
    count(*) FILTER (WHERE {order_is_open(TO)} AND o.due_at < {TO}) AS overdue,
    count(*) FILTER (WHERE $__timeFilter(o.done_at)) AS done,
    (avg(extract(epoch FROM o.done_at - o.opened_at)) FILTER (WHERE $__timeFilter(o.done_at)))::float8 AS "cycle time"
FROM technicians t LEFT JOIN work_orders o ON o.technician_id = t.technician_id AND {CHOSEN}
GROUP BY t.technician_id ORDER BY open DESC, done DESC, technician
"""

PARTS = f"""
SELECT p.part_id AS part, p.name, p.subsystem,
    count(*) FILTER (WHERE p.part_id = ANY (o.used_part_ids) AND $__timeFilter(o.done_at)) AS used,
    count(*) FILTER (WHERE p.part_id = ANY (o.part_ids) AND {order_is_open(TO)}) AS "asked for"
FROM parts p JOIN work_orders o ON p.part_id = ANY (o.part_ids || o.used_part_ids) AND {CHOSEN}
GROUP BY 1 HAVING bool_or($__timeFilter(o.done_at) OR {order_is_open(TO)})
ORDER BY used DESC, "asked for" DESC, part
"""
