-- What devices said. Raw rows have no unique key: duplicates are found in the partition's state, before the insert.
CREATE TABLE readings (
    device_id text NOT NULL,
    metric    text NOT NULL,
    ts        timestamptz NOT NULL,
    value     double precision NOT NULL,
    boot      bigint NOT NULL
);
CREATE INDEX readings_by_device ON readings (device_id, metric, ts);

CREATE TABLE faults (
    device_id text NOT NULL,
    ts        timestamptz NOT NULL,
    code      text NOT NULL,
    severity  text NOT NULL,
    subsystem text NOT NULL,
    text      text NOT NULL,
    boot      bigint NOT NULL,
    seq       bigint NOT NULL
);
CREATE INDEX faults_by_device ON faults (device_id, ts);

-- One row a bucket; late data is merged into the bucket it belongs to and counted in revisions.
CREATE TABLE rollup_1m (
    device_id text NOT NULL,
    metric    text NOT NULL,
    bucket    timestamptz NOT NULL,
    count     bigint NOT NULL,
    sum       double precision NOT NULL,
    min       double precision NOT NULL,
    max       double precision NOT NULL,
    increase  double precision,
    revisions integer NOT NULL DEFAULT 0,
    PRIMARY KEY (device_id, metric, bucket)
);
CREATE TABLE rollup_1h (LIKE rollup_1m INCLUDING ALL);
CREATE TABLE rollup_1d (LIKE rollup_1m INCLUDING ALL);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        PERFORM create_hypertable('readings', by_range('ts', interval '7 days'), create_default_indexes => false);
        PERFORM create_hypertable('faults', by_range('ts', interval '30 days'), create_default_indexes => false);
        PERFORM create_hypertable('rollup_1m', by_range('bucket', interval '7 days'), create_default_indexes => false);
        PERFORM create_hypertable('rollup_1h', by_range('bucket', interval '60 days'), create_default_indexes => false);
        PERFORM create_hypertable('rollup_1d', by_range('bucket', interval '360 days'), create_default_indexes => false);
    END IF;
END
$$;

CREATE TABLE quarantine (
    quarantine_id uuid PRIMARY KEY,
    topic         text NOT NULL,
    sha256        text NOT NULL,
    received_at   timestamptz NOT NULL,
    reason        text NOT NULL,
    detail        text NOT NULL,
    length        bigint NOT NULL,
    payload       bytea NOT NULL,
    replayed_at   timestamptz,
    UNIQUE (topic, sha256)
);
