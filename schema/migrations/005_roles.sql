-- Least privilege: boards read, workers write, only the owner changes tables. Roles belong to the whole cluster.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wardwatch_reader') THEN
        CREATE ROLE wardwatch_reader NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wardwatch_writer') THEN
        CREATE ROLE wardwatch_writer NOLOGIN;
    END IF;
END
$$;
GRANT USAGE ON SCHEMA public TO wardwatch_reader, wardwatch_writer;
GRANT SELECT ON customers, sites, devices, device_models, technicians, parts, calendars, readings, faults, rollup_1m,
    rollup_1h, rollup_1d, alerts, alert_events, work_orders, work_order_events, customer_health, churn_flags, silences,
    model_metrics, partition_progress TO wardwatch_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO wardwatch_writer;
-- Append-only: what was done stays on record.
REVOKE UPDATE, DELETE ON audit_log FROM wardwatch_writer;
