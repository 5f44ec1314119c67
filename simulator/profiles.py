"""How devices of each model are used and what their gauges look like when all is well.

Levels are plausible for the kind of machine, not measured at one; the week profile is relative and normalised.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.randomness import stream


@dataclass(frozen=True, slots=True)
class GaugeProfile:
    """A gauge in the metric's unit: level, how levels differ between devices, noise, daily swing and ageing."""

    level: float
    spread: float
    """Standard deviation of the level over devices."""
    sigma: float
    """Standard deviation of the noise of one device around its own level."""
    swing: float = 0.0
    """Amplitude of the daily cycle, warmest at 15 h local time."""
    load: float = 0.0
    """Rise at the busiest hour of the week."""
    per_day: float = 0.0
    """Slow drift a day."""
    fails: int = 1
    """Direction, 1 up or -1 down, in which the gauge goes before its subsystem fails."""
    tank: float = 0.0
    """For a consumable: what a day of average use takes; filled up again when a quarter is left."""


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Use of one model: units of the usage counter a day (range over devices), and the shape of day and week."""

    per_day: tuple[float, float]
    open_h: tuple[float, float]
    """Local hours between which the machine is mostly used."""
    night: float
    """Use outside these hours, relative to inside."""
    weekend: float
    """Use on Saturday and Sunday, relative to a weekday."""
    holiday: float
    """Use on a public holiday, relative to the same hour of an ordinary week."""
    volatile_counter: bool
    """The counter may start from 0 at a reboot."""
    gauges: dict[str, GaugeProfile]


PROFILES: dict[str, ModelProfile] = {
    "mri": ModelProfile(
        (14, 24), (7, 20), 0.05, 0.25, 0.2, False,
        {
            "coldhead_k": GaugeProfile(4.2, 0.08, 0.03, swing=0.01, load=0.02),
            "helium_pct": GaugeProfile(78, 6, 0.25, per_day=-0.03, fails=-1),
            "gradient_cel": GaugeProfile(31, 2.0, 0.9, swing=0.6, load=6.0),
            "rf_reflected_pct": GaugeProfile(4.0, 0.8, 0.35, load=0.4),
        },
    ),
    "ct": ModelProfile(
        (25, 40), (7, 19), 0.2, 0.45, 0.35, False,
        {
            "tube_cel": GaugeProfile(58, 5, 3.0, swing=1.0, load=18.0),
            "gantry_vibration_um": GaugeProfile(42, 6, 2.5, load=4.0),
            "detector_cel": GaugeProfile(36, 1.2, 0.4, swing=0.3, load=0.6),
        },
    ),
    "ultrasound": ModelProfile(
        (12, 25), (8, 18), 0.05, 0.12, 0.15, True,
        {
            "probe_cel": GaugeProfile(29, 1.5, 0.8, swing=0.4, load=4.0),
            "board_cel": GaugeProfile(47, 3.0, 1.2, swing=0.8, load=5.0),
        },
    ),
    "ventilator": ModelProfile(
        (11, 19), (0, 24), 1.0, 0.97, 0.95, False,
        {
            "turbine_cel": GaugeProfile(52, 3.0, 1.1, swing=0.5, load=1.0),
            "o2_cell_mv": GaugeProfile(46, 3.0, 0.6, per_day=-0.01, fails=-1),
            "battery_pct": GaugeProfile(95, 1.5, 0.8, fails=-1),
        },
    ),
    "infusion_pump": ModelProfile(
        (8, 20), (7, 22), 0.45, 0.85, 0.75, True,
        {
            "motor_ma": GaugeProfile(185, 14, 6.0, load=8.0),
            "pressure_kpa": GaugeProfile(42, 4.0, 1.8, load=2.0),
            "battery_pct": GaugeProfile(93, 2.0, 1.2, fails=-1),
        },
    ),
    "ivd": ModelProfile(
        (250, 700), (6, 16), 0.18, 0.45, 0.4, False,
        {
            "incubator_cel": GaugeProfile(37.0, 0.05, 0.03, swing=0.01),
            "pipette_kpa": GaugeProfile(24, 1.5, 0.7, load=0.6),
            "lamp_pct": GaugeProfile(97, 1.5, 0.5, per_day=-0.03, fails=-1),
            "reagent_ml": GaugeProfile(3200, 250, 6.0, tank=620),
        },
    ),
}  # fmt: skip


def week_profile(seed: int, device_index: int, model: str) -> npt.NDArray[np.float64]:
    """Relative use in each of the 168 local hours of the week, Monday 0 h first, mean 1.

    The edges of the day are soft, and opening times and weekends differ a little from device to device.
    """
    profile = PROFILES[model]
    rng = stream(seed, "week", device_index)
    opens, closes = profile.open_h
    hours: npt.NDArray[np.float64] = np.arange(168, dtype=np.float64) % 24 + 0.5
    shift = rng.uniform(-0.8, 0.8)
    inside = np.multiply(_rises(hours - opens - shift), _rises(closes + shift - hours))
    lunch = 1 - 0.25 * np.exp(-(((hours - 12.5 - shift) / 0.8) ** 2))
    shape = profile.night + (1 - profile.night) * (inside * lunch if closes - opens < 24 else np.ones(168))
    shape *= np.where(np.arange(168) < 120, 1.0, profile.weekend * rng.uniform(0.85, 1.15))
    shape *= np.repeat(rng.normal(1, 0.04, 7), 24)
    return np.asarray(shape / shape.mean(), np.float64)


def _rises(hours: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-2.5 * hours)), np.float64)
