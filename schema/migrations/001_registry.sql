-- What is known beforehand: customers, sites, devices, people, parts, calendars.
CREATE TABLE customers (
    customer_id     text PRIMARY KEY,
    name            text NOT NULL,
    segment         text NOT NULL,
    region          text NOT NULL,
    account_manager text NOT NULL,
    partition       smallint NOT NULL
);

CREATE TABLE sites (
    site_id     text PRIMARY KEY,
    customer_id text NOT NULL,
    name        text NOT NULL,
    region      text NOT NULL,
    country     text NOT NULL,
    timezone    text NOT NULL
);

CREATE TABLE device_models (
    model                 text PRIMARY KEY,
    name                  text NOT NULL,
    name_zh               text NOT NULL,
    skill                 text NOT NULL,
    usage_metric          text,
    service_interval_days integer NOT NULL,
    catalogue             jsonb NOT NULL
);

CREATE TABLE devices (
    device_id    text PRIMARY KEY,
    model        text NOT NULL,
    site_id      text NOT NULL,
    customer_id  text NOT NULL,
    installed_at timestamptz NOT NULL,
    udi_di       text NOT NULL,
    udi_pi       text NOT NULL,
    firmware     text NOT NULL,
    partition    smallint NOT NULL
);
CREATE INDEX devices_by_customer ON devices (customer_id);

CREATE TABLE technicians (
    technician_id text PRIMARY KEY,
    name          text NOT NULL,
    skills        text[] NOT NULL,
    region        text NOT NULL
);

CREATE TABLE parts (
    part_id   text PRIMARY KEY,
    name      text NOT NULL,
    subsystem text NOT NULL
);

CREATE TABLE calendars (
    calendar_id text PRIMARY KEY,
    kind        text NOT NULL,
    name        text NOT NULL,
    from_at     timestamptz NOT NULL,
    until_at    timestamptz NOT NULL,
    country     text NOT NULL,
    customer_id text NOT NULL,
    site_id     text NOT NULL,
    device_id   text NOT NULL
);
