"""The alert budget in a partition: what devices, people and failures say of rules reaches their threshold."""

from collections.abc import Callable

import pytest

from detectors.alert_threshold import Threshold
from detectors.budget import AlertBudget
from schema.catalogue import load_catalogue
from schema.commands import CloseAlert, Outcome
from schema.messages import Fault, Message
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from schema.rows import AlertRow
from streams.pane_rows import HOUR_MS
from streams.partition import Partition


class Clinic:
    """One CT that speaks every hour; what it says can carry faults of its tube."""

    def __init__(self) -> None:
        self.partition = Partition(0, load_catalogue())
        site = Site(site_id="s", customer_id="c", name="s")
        device = Device(device_id="d", model="ct", site_id="s", customer_id="c", installed_ms=0)
        self.partition.apply((Customer(customer_id="c", name="c"), site, device))
        self.hour = 24
        self.partition.apply(Tick("bridge", self.now_ms, "joined"))
        self.alerts: dict[str, AlertRow] = {}

    @property
    def now_ms(self) -> int:
        return self.hour * HOUR_MS

    def say(self, *faults: tuple[str, str]) -> None:
        """The next hour, with faults (code, severity)."""
        self.hour += 1
        told = tuple(Fault(self.now_ms - 1, code, severity, "tube", "") for code, severity in faults)
        message = Message("d", "telemetry", 1, self.hour, self.now_ms, self.now_ms, (), told)
        self.partition.apply(decode(encode_telemetry([message], source="bridge", receive_ms=self.now_ms)))
        self.partition.apply(Tick("bridge", self.now_ms))
        self.alerts |= {row.detector: row for row in self.partition.effects.rows.values() if isinstance(row, AlertRow)}
        self.partition.effects.clear()

    def burst(self) -> None:
        """Five different warnings: what a rule reports."""
        for code in ("A-1", "A-2", "A-3", "A-4", "A-5"):
            self.say((code, "warning"))

    def live(self, days: float) -> None:
        for _ in range(round(24 * days)):
            self.say()

    @property
    def rules(self) -> Threshold:
        return self.partition.shared.fleet.of(AlertBudget, "ct").thresholds["fault_rule"]

    def counted(self) -> float:
        """Alerts of rules at the level in use, learnt and of the running day."""
        return self.rules.onsets[self.rules.level] + self.rules.day.onsets[self.rules.level]

    def close(self, outcome: Outcome) -> None:
        alert_id = self.alerts["fault_rule"].alert_id
        command = CloseAlert(command_id="1", actor="li", alert_id=alert_id, outcome=outcome)
        self.partition.apply((command,))

    def fail(self) -> None:
        self.say(("XR-900", "critical"))


def test_what_is_only_informative_offers_no_candidate_again() -> None:
    # burst   info  info  info
    # |||||     |     |     |     one alert, not four
    clinic = Clinic()
    clinic.burst()
    before = clinic.counted()
    for _ in range(3):
        clinic.live(1.5)
        clinic.say(("OK", "info"))
    assert before == 1
    assert clinic.counted() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("happens", "days", "false"),
    [
        (lambda clinic: clinic.close("false"), 3, 1),
        (lambda clinic: clinic.close("confirmed"), 3, 0),
        (Clinic.fail, 3, 0),
        (lambda _: None, 18, 1),
    ],
    ids=["people say so", "people confirm", "the tube fails", "nothing happens"],
)
def test_what_becomes_of_a_rules_alert_is_learnt(
    happens: Callable[[Clinic], None], days: int, false: float
) -> None:
    clinic = Clinic()
    clinic.burst()
    clinic.live(0.5)
    happens(clinic)
    clinic.live(days)
    assert clinic.rules.claimed == pytest.approx(1, rel=0.1)
    assert clinic.rules.false == pytest.approx(false, rel=0.1)
