-- What people act on. Ids are derived from natural key and onset; times are event time or the partition's time.
CREATE TABLE alerts (
    alert_id         uuid PRIMARY KEY,
    device_id        text NOT NULL,
    site_id          text NOT NULL,
    customer_id      text NOT NULL,
    detector         text NOT NULL,
    subsystem        text NOT NULL,
    severity         text NOT NULL,
    state            text NOT NULL,
    onset_at         timestamptz NOT NULL,
    pending_at       timestamptz NOT NULL,
    fired_at         timestamptz,
    acknowledged_at  timestamptz,
    acknowledged_by  text NOT NULL,
    resolved_at      timestamptz,
    reason           text NOT NULL,
    outcome          text NOT NULL,
    score            double precision NOT NULL,
    flaps            integer NOT NULL,
    suppressed_by    text NOT NULL,
    work_order_id    uuid,
    evidence         jsonb NOT NULL,
    partition        smallint NOT NULL
);
CREATE INDEX alerts_by_device ON alerts (device_id, pending_at);
CREATE INDEX alerts_open ON alerts (state) WHERE state <> 'resolved';

CREATE TABLE alert_events (
    event_id   uuid PRIMARY KEY,
    alert_id   uuid NOT NULL,
    at         timestamptz NOT NULL,
    from_state text NOT NULL,
    to_state   text NOT NULL,
    reason     text NOT NULL,
    actor      text NOT NULL,
    comment    text NOT NULL
);
CREATE INDEX alert_events_by_alert ON alert_events (alert_id, at);

CREATE TABLE work_orders (
    work_order_id uuid PRIMARY KEY,
    number        text NOT NULL UNIQUE,
    device_id     text NOT NULL,
    site_id       text NOT NULL,
    customer_id   text NOT NULL,
    kind          text NOT NULL,
    subsystem     text NOT NULL,
    priority      text NOT NULL,
    state         text NOT NULL,
    opened_at     timestamptz NOT NULL,
    due_at        timestamptz NOT NULL,
    assigned_at   timestamptz,
    started_at    timestamptz,
    done_at       timestamptz,
    suggested_technician_id text NOT NULL,
    technician_id text NOT NULL,
    skill         text NOT NULL,
    part_ids      text[] NOT NULL,
    used_part_ids text[] NOT NULL,
    outcome       text NOT NULL,
    note          text NOT NULL,
    alert_ids     text[] NOT NULL,
    partition     smallint NOT NULL
);
CREATE INDEX work_orders_by_device ON work_orders (device_id, opened_at);

CREATE TABLE work_order_events (
    event_id      uuid PRIMARY KEY,
    work_order_id uuid NOT NULL,
    at            timestamptz NOT NULL,
    from_state    text NOT NULL,
    to_state      text NOT NULL,
    reason        text NOT NULL,
    actor         text NOT NULL,
    comment       text NOT NULL
);
CREATE INDEX work_order_events_by_order ON work_order_events (work_order_id, at);

CREATE TABLE customer_health (
    customer_id  text NOT NULL,
    at           timestamptz NOT NULL,
    health       double precision NOT NULL,
    baseline     double precision NOT NULL,
    decline_pct  double precision NOT NULL,
    usage        double precision,
    service      double precision,
    known_weight double precision NOT NULL,
    level        text NOT NULL,
    evidence     jsonb NOT NULL,
    PRIMARY KEY (customer_id, at)
);

CREATE TABLE churn_flags (
    flag_id         uuid PRIMARY KEY,
    customer_id     text NOT NULL,
    state           text NOT NULL,
    level           text NOT NULL,
    raised_at       timestamptz NOT NULL,
    blue_at         timestamptz,
    yellow_at       timestamptz,
    orange_at       timestamptz,
    red_at          timestamptz,
    acknowledged_at timestamptz,
    closed_at       timestamptz,
    decline_pct     double precision NOT NULL,
    owner_role      text NOT NULL,
    owner           text NOT NULL,
    intervention    text NOT NULL,
    outcome         text NOT NULL,
    evidence        jsonb NOT NULL,
    partition       smallint NOT NULL
);
CREATE INDEX churn_flags_by_customer ON churn_flags (customer_id, raised_at);

CREATE TABLE silences (
    silence_id  uuid PRIMARY KEY,
    customer_id text NOT NULL,
    site_id     text NOT NULL,
    device_id   text NOT NULL,
    detector    text NOT NULL,
    from_at     timestamptz NOT NULL,
    until_at    timestamptz NOT NULL,
    created_by  text NOT NULL,
    comment     text NOT NULL
);

CREATE TABLE outbox (
    outbox_id       uuid PRIMARY KEY,
    created_at      timestamptz NOT NULL,
    audience        text NOT NULL,
    kind            text NOT NULL,
    subject         text NOT NULL,
    body            text NOT NULL,
    payload         jsonb NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    delivered_at    timestamptz,
    last_error      text NOT NULL DEFAULT ''
);
CREATE INDEX outbox_waiting ON outbox (created_at) WHERE delivered_at IS NULL;

CREATE TABLE audit_log (
    audit_id   uuid PRIMARY KEY,
    at         timestamptz NOT NULL,
    actor      text NOT NULL,
    action     text NOT NULL,
    target     text NOT NULL,
    result     text NOT NULL,
    detail     text NOT NULL
);
