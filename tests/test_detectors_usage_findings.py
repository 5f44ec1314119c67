"""When a partition says what it thinks of a device's usage: with the day's last hour."""

from schema.catalogue import load_catalogue
from schema.findings import Finding
from schema.messages import Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.partition import Partition

CATALOGUE = load_catalogue()
METRIC = CATALOGUE["ct"].usage_metric
DAYS = 36
STOP_DAY, LOST_DAY = 30, 27


class Heard(Partition):
    """A partition that lets us look on."""

    def __init__(self) -> None:
        super().__init__(0, CATALOGUE)
        self.found: list[Finding] = []

    def observe(self, finding: Finding) -> None:
        """Note what is found."""
        if finding.detector == "usage_drop":
            self.found.append(finding)
        super().observe(finding)


#     usual   |X| usual |    stop
# 0          27        30         36     X: nothing is heard after 21 h
def test_a_days_finding_comes_with_its_last_hour_and_carries_the_days_end() -> None:
    partition = Heard()
    device = Device(device_id="d", model="ct", site_id="s", customer_id="c", installed_ms=0)
    partition.apply((Customer(customer_id="c", name="c"), Site(site_id="s", customer_id="c", name="s"), device))
    partition.apply(Tick("test", DAY_MS, "joined"))
    uses, said = 0, {}
    for hour in range(24, 24 * DAYS + 1):
        at_ms, day = hour * HOUR_MS, hour // 24
        if day == LOST_DAY and hour % 24 > 21:
            continue
        uses += 4 if day < STOP_DAY else 0
        message = Message("d", "telemetry", 1, hour, at_ms, at_ms, (Reading(at_ms, METRIC, uses),), ())
        partition.apply(decode(encode_telemetry([message], source="test", receive_ms=at_ms)))
        partition.apply(Tick("test", at_ms + 60_000))
        partition.effects.clear()
        if partition.found:
            (said[at_ms],) = partition.found
            partition.found.clear()
    # before, it is not known which hours are watched; after the gap no window is whole before 1 h
    lost_ms = (LOST_DAY + 1) * DAY_MS
    ends = {day * DAY_MS: day * DAY_MS for day in range(16, DAYS + 1) if day not in (LOST_DAY + 1, LOST_DAY + 2)}
    ends |= {lost_ms + 2 * HOUR_MS: lost_ms + HOUR_MS, lost_ms + DAY_MS + HOUR_MS: lost_ms + DAY_MS}
    assert {at_ms: found.at_ms for at_ms, found in said.items() if at_ms >= 16 * DAY_MS} == ends
    last = said[DAYS * DAY_MS]
    assert last.score > 0.5
    assert last.evidence["window"] == [STOP_DAY * DAY_MS, DAYS * DAY_MS]
    assert last.onset_ms == STOP_DAY * DAY_MS
