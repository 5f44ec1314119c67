"""How far a run is, and what was published."""

from dataclasses import dataclass

import msgspec

from simulator.scenario import Publication
from simulator.truth import Totals


class Progress(msgspec.Struct, frozen=True):
    """How far a run is."""

    at_ms: int
    """Virtual time."""
    messages: int
    readings: int
    waiting_for: str = ""
    """What keeps the run from going on for more than a second, in words; empty if nothing does."""
    waiting_s: float = 0.0


@dataclass(slots=True)
class Tally:
    """Counts what is published."""

    messages: int = 0
    readings: int = 0
    faults: int = 0
    births: int = 0
    wills: int = 0
    duplicates: int = 0
    malformed: int = 0
    sent_again: int = 0

    def count(self, publication: Publication) -> None:
        """Count one publication; what is sent twice counts once."""
        match publication.kind:
            case "telemetry":
                self.messages += 1
                self.readings += publication.readings
                self.faults += publication.readings == 0
            case "birth":
                self.births += 1
            case "cut":
                self.wills += 1
            case "duplicate":
                self.duplicates += 1
            case "malformed":
                self.malformed += 1

    def totals(self, until_ms: int) -> Totals:
        """The last line of the truth, for a run that went to `until_ms`."""
        return Totals(
            until_ms=until_ms,
            messages=self.messages,
            readings_published_unique=self.readings,
            faults=self.faults,
            births=self.births,
            wills=self.wills,
            duplicates=self.duplicates,
            malformed_sent=self.malformed,
            sent_again=self.sent_again,
        )
