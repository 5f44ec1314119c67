"""A scenario as the pipeline would see it, without broker and bridge: for tests and benchmarks of what comes behind."""

from collections.abc import Iterator

from schema.messages import Fault, Message, Reading
from simulator.scenario import CLOCK_MS, Publication, Scenario
from simulator.track import Track
from simulator.wire import Telemetry


def clock_before(scenario: Scenario, at_ms: int) -> int:
    """The clock at or before `at_ms`: the receive time of what is published then."""
    return at_ms - (at_ms - scenario.start_ms) % CLOCK_MS


def messages(scenario: Scenario) -> Iterator[Message]:
    """Telemetry, births and wills in the order of publishing, decoded; malformed messages and duplicates left out."""
    for publication in scenario.publications():
        receive_ms = clock_before(scenario, publication.at_ms)
        if publication.kind == "telemetry":
            yield _telemetry(scenario, scenario.track_of[publication.device_id], publication, receive_ms)
        elif publication.kind == "birth":
            yield Message(publication.device_id, "birth", publication.boot, 0, receive_ms, receive_ms)
        elif publication.kind == "cut":
            yield Message(publication.device_id, "will", publication.boot, 0, receive_ms, receive_ms)


def _telemetry(scenario: Scenario, track: Track, publication: Publication, receive_ms: int) -> Message:
    body = publication.body
    assert isinstance(body, Telemetry)
    metrics = scenario.catalogue[track.machine.model].metrics
    readings = sorted(
        Reading(ts_ms, name, metrics[name].quantise(value))
        for name, pairs in body.series.items()
        for ts_ms, value in pairs
    )
    faults = tuple(Fault(fault.ts, fault.code, fault.severity, fault.subsystem, fault.text) for fault in body.faults)
    return Message(body.device, "telemetry", body.boot, body.seq, body.sent, receive_ms, tuple(readings), faults)
