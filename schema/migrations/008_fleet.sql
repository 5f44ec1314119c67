-- What a partition adds to the models that the fleet shares: a row for each day it closes, which never changes.
CREATE TABLE fleet_contributions (
    partition    smallint NOT NULL,
    day          integer NOT NULL,
    contribution bytea NOT NULL,
    missed       jsonb NOT NULL,
    PRIMARY KEY (partition, day)
);
COMMENT ON COLUMN fleet_contributions.day IS 'UTC days since the epoch';
COMMENT ON COLUMN fleet_contributions.missed IS
    'by partition whose contributions were gone without when this day was closed: the last day taken in of it';
-- It is compressed already.
ALTER TABLE fleet_contributions ALTER contribution SET STORAGE EXTERNAL;

-- The first day whose contributions the newest cut may ask for when it is recomputed from.
ALTER TABLE partition_progress ADD COLUMN fleet_since integer;

GRANT SELECT, INSERT, DELETE ON fleet_contributions TO wardwatch_writer;
