"""Boot and number of a message that was refused whole: its refusal is in the log, so its number can be confirmed too.

What is confirmed wrongly may be lost, so nothing is guessed. A document says it by its own fields; of bytes that are no
JSON (cut off, say) only the leading members count, up to the first that is neither a number nor a plain text.
"""

import re

import msgspec

from ingest.wire import DECODING_ERRORS, Format, Numbered

MAX_NUMBER = 2**63 - 1
MEMBERS = 16
"""Leading members that are looked at."""
NOWHERE = (0, 0)

_MEMBER = re.compile(rb'\s*"([a-z_]{1,32})"\s*:\s*(?:"([^"\\\x00-\x1f]{0,200})"|(0|[1-9][0-9]{0,18}))\s*([,}])')
_BEGIN = re.compile(rb"\s*\{")


def place_in(form: Format, payload: bytes, device_id: str) -> tuple[int, int]:
    """Return boot and number that a telemetry message says it has; `NOWHERE` if that cannot be told.

    One that names another device than its topic, `device_id`, has that one's numbers: of no use here.
    """
    try:
        numbered = form.numbered(payload)
    except DECODING_ERRORS:
        if form.envelope is None:
            return NOWHERE
        try:
            numbered = msgspec.convert(_leading(payload), Numbered, strict=False)
        except msgspec.ValidationError:
            return NOWHERE
    if isinstance(numbered.device, str) and numbered.device != device_id:
        return NOWHERE
    if not (0 <= numbered.boot <= MAX_NUMBER and 1 <= numbered.seq <= MAX_NUMBER):
        return NOWHERE
    return numbered.boot, numbered.seq


def _leading(payload: bytes) -> dict[str, str]:
    """The members with which bytes begin that should be a JSON object; of the same name the last, as in JSON."""
    found: dict[str, str] = {}
    before = _BEGIN.match(payload)
    for _ in range(MEMBERS):
        match = None if before is None else _MEMBER.match(payload, before.end())
        if match is None:
            break
        found[match[1].decode()] = (match[2] or match[3] or b"").decode(errors="replace")
        before = match if match[4] == b"," else None
    return found
