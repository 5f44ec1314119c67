-- How far each partition is, and what its owner needs to go on from there.
CREATE TABLE partition_progress (
    topic           text NOT NULL,
    partition       smallint NOT NULL,
    epoch           bigint NOT NULL,
    next_offset     bigint NOT NULL,
    snapshot_offset bigint NOT NULL,
    partition_time  timestamptz,
    written_by      text NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

-- One row a key, replaced in the transaction of each cut: together they are the newest cut, at snapshot_offset.
CREATE TABLE state_snapshots (
    topic     text NOT NULL,
    partition smallint NOT NULL,
    key       text NOT NULL,
    state     bytea NOT NULL,
    PRIMARY KEY (topic, partition, key)
);

CREATE TABLE model_metrics (
    partition smallint NOT NULL,
    at        timestamptz NOT NULL,
    model     text NOT NULL,
    metric    text NOT NULL,
    value     double precision NOT NULL,
    PRIMARY KEY (partition, at, model, metric)
);
