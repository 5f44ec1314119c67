"""What only a worker on Kafka meets: brokers that are not there yet, or go away and come back."""

from __future__ import annotations

import logging
import signal

from fix_kafka import Broker
from streaming_world import World, until

from streams.damping import DAMP_FOR_S, Damping


def test_a_worker_waits_for_its_broker_and_can_be_stopped_meanwhile(
    kafka_world: World, kafka_to_break: Broker
) -> None:
    kafka_world.append(10)
    kafka_to_break.kill()
    stopped, waits = (kafka_world.start(wait=False, instance=None) for _ in range(2))
    for worker in (stopped, waits):
        until(lambda worker=worker: "no broker answers at kafka://127.0.0.1:" in kafka_world.said(worker))  # type: ignore[misc]
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=8) == 0
    kafka_to_break.start()
    until(lambda: "ready" in kafka_world.said(waits))
    kafka_world.assert_each_record_was_seen_once_and_in_order()


def test_a_worker_outlives_its_broker_with_few_words_and_can_be_stopped_while_it_is_away(
    kafka_world: World, kafka_to_break: Broker
) -> None:
    worker = kafka_world.start()
    kafka_world.append(500)
    until(kafka_world.caught_up)
    kafka_to_break.kill()
    until(lambda: "aiokafka" in kafka_world.said())
    kafka_to_break.start()
    kafka_world.append(500)
    kafka_world.assert_each_record_was_seen_once_and_in_order()
    kafka_to_break.kill()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=8) == 0
    assert f"gave up {kafka_world.main} 0 True" in kafka_world.said()
    assert kafka_world.said().count("\n") < 80


def test_the_same_complaint_is_heard_once_a_while_with_how_often_it_was_made() -> None:
    now_s = 100.0
    damping, heard = Damping(lambda: now_s), []
    for _ in range(70):
        record = logging.LogRecord("aiokafka.conn", logging.ERROR, "", 0, "no answer from %s", ("a",), None)
        if damping.filter(record):
            heard.append(record.getMessage())
        now_s += DAMP_FOR_S / 50
    assert heard == ["no answer from a", "no answer from a (and 49 like it)"]
