-- What the engine noticed, counted by the hour: for boards.
CREATE TABLE noticed (
    partition smallint NOT NULL,
    at        timestamptz NOT NULL,
    what      text NOT NULL,
    count     bigint NOT NULL,
    PRIMARY KEY (partition, at, what)
);

-- Messages that had come before. A bridge that crashed sends some twice, so two runs of the same telemetry differ here.
ALTER TABLE partition_progress ADD COLUMN repeated bigint NOT NULL DEFAULT 0;

-- How much was refused and what waits for delivery, without what it says.
CREATE VIEW refusals AS
SELECT date_bin('1 hour', received_at, 'epoch') AS at, reason, count(*) AS messages, sum(length)::bigint AS bytes
FROM quarantine GROUP BY 1, 2;

CREATE VIEW deliveries AS
SELECT audience, count(*) FILTER (WHERE delivered_at IS NULL) AS waiting,
    count(*) FILTER (WHERE delivered_at IS NULL AND last_error <> '') AS failing,
    min(created_at) FILTER (WHERE delivered_at IS NULL) AS waiting_since, count(delivered_at) AS delivered
FROM outbox GROUP BY 1;

GRANT SELECT ON noticed, refusals, deliveries TO wardwatch_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON noticed TO wardwatch_writer;
