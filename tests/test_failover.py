"""Three brokers under load, one of them killed: nothing is lost, nothing comes twice, and it does not take long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fix_kafka import Cluster
from streaming_world import (
    assert_each_number_was_entered_once,
    entered,
    load,
    longest_stand,
    new_world,
    prepare,
    until,
)

from schema.migrate import migrate


def test_a_broker_that_is_killed_under_load_loses_and_repeats_nothing(
    tmp_path: Path, kafka_cluster: Cluster, database: str, record_property: pytest.RecordProperty
) -> None:
    migrate(database, {})
    prepare(database)
    with new_world(tmp_path, kafka_cluster.bootstrap, database_url=database, partitions=6) as world:
        with load(world) as said:
            worker = world.start()
            until(lambda: said[0] > 50)
            killed_s, killed_at = time.time(), said[0]
            kafka_cluster.brokers[1].kill()
            until(lambda: said[0] > killed_at + 100, within_s=40)
        assert_each_number_was_entered_once(world, said[0])
        assert worker.poll() is None
        stands = [longest_stand(rows, killed_s) for rows in entered(world).values()]
    shown = f"one of three brokers killed: partitions stood still for {', '.join(f'{each:.1f}' for each in stands)} s"
    print(shown)
    record_property("killed", shown)
