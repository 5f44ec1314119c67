"""Catalogues of device models: metrics, fault codes, parts and service intervals, read from TOML files.

A customer adds a model by adding a file; no code changes. `budgets.toml` beside them says which alert budgets hold for
all models (`[all.DETECTOR]`) and for single ones (`[MODEL.DETECTOR]`). `load_catalogue` checks what it reads and names
file and field of what it refuses.
"""

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Literal

import msgspec

from schema.findings import Severity

BUDGETS_FILE = "budgets.toml"
ALL_MODELS = "all"
"""Instead of a model in `BUDGETS_FILE`: what holds for all that it says nothing else about."""
SERVICE = "service"
"""What is due every `service_interval_days`, as the subsystem of alerts and orders."""
DATES = frozenset({SERVICE, "calibration", "warranty", "contract"})
"""What comes due by date, as the subsystem of its alerts and orders: no subsystem and no limit is called so."""
BUDGETED = frozenset(
    {"usage_drop", "failure_risk", "sensor_anomaly", "level_shift", "fault_rule", "fault_pattern"}
)
"""Detectors that raise under an alert budget."""
MOST_DAYS = 36_500
"""Between two services; what is further away has no date."""
MOST_STEPS = 2**53
"""Below that every whole number of steps is a floating-point number too."""


class CatalogueError(ValueError):
    """A catalogue file that cannot be used; the message names file and field."""


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a metric is: counters are cumulative, gauges are levels, states are small whole numbers."""

    kind: Literal["counter", "gauge", "state"]
    unit: str
    """UCUM, e.g. `{exam}`, `Cel`, `K`, `kPa`."""
    min: float
    max: float
    """Plausible range, both ends included; readings outside it are refused."""
    resolution: float = 1.0
    """Power of ten, at most 1; values travel and are summed as whole steps of it."""
    subsystem: str = ""
    """Subsystem whose health a gauge tells."""
    wrap: int | None = None
    """For counters: the value at which the device's register starts again from 0."""
    usage: bool = False
    """The counter that tells how much the device is used; exactly one a model."""

    @property
    def steps_per_unit(self) -> int:
        """Whole steps of the resolution in one unit."""
        return round(1 / self.resolution)

    def quantise(self, value: float) -> int:
        """Nearest whole number of steps to `value` (in the metric's unit)."""
        return round(value * self.steps_per_unit)

    def value(self, n: float) -> float:
        """Value in the metric's unit of `n` steps."""
        return n / self.steps_per_unit


class FaultCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a fault code means and what its repair needs."""

    severity: Severity
    subsystem: str
    text: str
    text_zh: str = ""
    parts: tuple[str, ...] = ()
    skill: str = ""
    stops_device: bool = False
    """A hard failure: the device does no work until it is repaired and boots again."""


class PartEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A spare part that fault codes may ask for."""

    name: str
    subsystem: str


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is due whenever a counter has grown by so much: a service, a part that wears, a consumable."""

    metric: str
    """The counter."""
    every: float
    """In the metric's unit."""
    lead_days: int = 21
    """How long before it is to be known: to plan a visit and order parts."""
    text: str = ""
    text_zh: str = ""
    parts: tuple[str, ...] = ()
    """What the work needs; replacing one of them counts as the work."""
    skill: str = ""


class Allowance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people allow a detector for devices of a model: from it follows how sure it must be to raise an alert."""

    false_alerts_per_device_month: float = 0.02
    """At most so many alerts that turn out to be false, for each device and 30 days."""
    cost_of_false: float = 1.0
    """What following up a false alert costs, in any unit."""
    cost_of_miss: float = 1.0
    """What it costs, in the same unit, to hear nothing of what an alert would have told."""


class DeviceModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One catalogue file."""

    model: str
    name: str
    name_zh: str
    skill: str
    """Skill that a technician needs for this model unless a fault code asks for another."""
    service_interval_days: int
    """0 for a model without a periodic service."""
    message_interval_s: int
    """Expected time between two messages of a healthy, connected device; above 0 but for `GATEWAY`."""
    metrics: dict[str, Metric]
    faults: dict[str, FaultCode]
    parts: dict[str, PartEntry]
    limits: dict[str, Limit] = {}
    """By name, the `subsystem` of alert and work order; that of `service_interval_days` is `SERVICE`."""
    budgets: dict[str, Allowance] = {}
    """By detector; `budgets.toml` holds what is said for all models."""

    @cached_property
    def usage_metric(self) -> str:
        """Name of the counter that tells how much the device is used."""
        return next(name for name, metric in self.metrics.items() if metric.usage)

    @cached_property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics in the order of the file; an index into it is stable for one version."""
        return tuple(self.metrics)


Catalogue = Mapping[str, DeviceModel]

GATEWAY = DeviceModel(
    model="gateway",
    name="Hospital gateway",
    name_zh="医院网关",
    skill="it",
    service_interval_days=3650,
    message_interval_s=0,
    metrics={},
    faults={},
    parts={},
)
"""A gateway has births and wills but no telemetry, so it has no file."""


def load_catalogue(*extra: Path) -> dict[str, DeviceModel]:
    """Read the built-in models and those in the folders `extra` (which may replace built-in ones).

    Raises:
        CatalogueError: a file cannot be read or contradicts itself.
    """
    built_in = files("schema").joinpath("catalogue_data")
    models = {GATEWAY.model: GATEWAY}
    sources: list[tuple[str, str]] = [
        (entry.name, entry.read_text("utf-8"))
        for entry in sorted(built_in.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    ]
    for folder in extra:
        if not folder.is_dir():
            raise CatalogueError(f"{folder}: no folder with catalogue files")
        sources += [(str(path), path.read_text("utf-8")) for path in sorted(folder.glob("*.toml"))]
    budgets: dict[str, dict[str, Allowance]] = {}
    for name, text in sources:
        if Path(name).name == BUDGETS_FILE:
            for model_name, said in parse_budgets(name, text).items():
                budgets.setdefault(model_name, {}).update(said)
        else:
            model = parse_model(name, text)
            models[model.model] = model
    unknown = budgets.keys() - models.keys() - {ALL_MODELS}
    if unknown:
        raise CatalogueError(f"{BUDGETS_FILE}: unknown models {sorted(unknown)}")
    for_all = budgets.get(ALL_MODELS, {})
    return {
        name: msgspec.structs.replace(model, budgets=for_all | budgets.get(name, {}) | model.budgets)
        for name, model in models.items()
    }


def parse_budgets(name: str, text: str) -> dict[str, dict[str, Allowance]]:
    """Parse and check a file of alert budgets, by model and detector; `name` is what errors call it.

    Raises:
        CatalogueError: see the class.
    """
    try:
        budgets = msgspec.toml.decode(text, type=dict[str, dict[str, Allowance]])
    except msgspec.MsgspecError as error:
        raise CatalogueError(f"{name}: {error}") from error
    problems = [each for model, said in budgets.items() for each in _of_budgets(model, said)]
    if problems:
        raise CatalogueError(f"{name}: " + "; ".join(problems))
    return budgets


def parse_model(name: str, text: str) -> DeviceModel:
    """Parse and check one catalogue file; `name` is what errors call it.

    Raises:
        CatalogueError: see the class.
    """
    try:
        model = msgspec.toml.decode(text, type=DeviceModel)
    except msgspec.MsgspecError as error:
        raise CatalogueError(f"{name}: {error}") from error
    problems = list(_problems(model))
    if problems:
        raise CatalogueError(f"{name}: " + "; ".join(problems))
    return model


def _of_budgets(place: str, budgets: Mapping[str, Allowance]) -> Iterable[str]:
    for detector, allowance in budgets.items():
        if detector not in BUDGETED:
            yield f"{place}.{detector}: no detector with a budget; those are {sorted(BUDGETED)}"
        for field, value in msgspec.structs.asdict(allowance).items():
            if not 0 < value < math.inf:
                yield f"{place}.{detector}.{field}: must be above 0"


def _problems(model: DeviceModel) -> Iterable[str]:
    if not 0 <= model.service_interval_days <= MOST_DAYS:
        yield f"service_interval_days: must be 0 (none) to {MOST_DAYS}"
    if model.message_interval_s <= 0:
        yield "message_interval_s: must be above 0"
    usage = [name for name, metric in model.metrics.items() if metric.usage]
    if len(usage) != 1 or model.metrics[usage[0]].kind != "counter":
        yield f"exactly one counter must have usage = true, not {usage}"
    for name, metric in model.metrics.items():
        if not metric.min < metric.max:
            yield f"metrics.{name}: min must be below max"
        exponent = math.log10(metric.resolution) if metric.resolution > 0 else math.nan
        if not (exponent <= 0 and math.isclose(exponent, round(exponent), abs_tol=1e-9)):
            yield f"metrics.{name}: resolution must be a power of ten, at most 1"
        elif max(abs(metric.min), abs(metric.max)) / metric.resolution >= MOST_STEPS:
            yield f"metrics.{name}: min and max must be less than 2^53 steps of the resolution away from 0"
        if metric.wrap is not None and metric.kind != "counter":
            yield f"metrics.{name}: only a counter wraps"
    for code, fault in model.faults.items():
        missing = [part for part in fault.parts if part not in model.parts]
        if missing:
            yield f"faults.{code}: unknown parts {missing}"
        if fault.subsystem in DATES:
            yield f"faults.{code}.subsystem: {fault.subsystem!r} is the name of a date"
    for name, limit in model.limits.items():
        counter = model.metrics.get(limit.metric)
        missing = [part for part in limit.parts if part not in model.parts]
        if counter is None or counter.kind != "counter":
            yield f"limits.{name}.metric: {limit.metric!r} is no counter of the model"
        if not (0 < limit.every < math.inf and limit.lead_days > 0):
            yield f"limits.{name}: every and lead_days must be above 0"
        if missing:
            yield f"limits.{name}: unknown parts {missing}"
        if name in DATES:
            yield f"limits.{name}: the name is that of a date"
        elif name in {fault.subsystem for fault in model.faults.values()}:
            yield f"limits.{name}: the name is that of a subsystem"
    yield from _of_budgets("budgets", model.budgets)
