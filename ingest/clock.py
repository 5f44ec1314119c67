"""The simulator's clock, as it comes over MQTT."""

import msgspec

from ingest.refusal import Problems
from ingest.usual import EARLIEST_MS
from ingest.wire import DECODING_ERRORS
from schema.registry import LATEST_MS


class _ClockMessage(msgspec.Struct):
    at: int


_decoder = msgspec.json.Decoder(_ClockMessage)


def read_clock(payload: bytes, problems: Problems) -> int:
    """Return the time that a clock tells, in ms; what stands against it goes to `problems`, and the time is 0 then."""
    try:
        at_ms = _decoder.decode(payload).at
    except DECODING_ERRORS as error:
        problems.add("invalid_payload", f"clock: {error}")
        return 0
    if not EARLIEST_MS <= at_ms < LATEST_MS:
        problems.add("timestamp_implausible", f"clock: at {at_ms}")
        return 0
    return at_ms
