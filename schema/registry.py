"""Registry entries and calendars: what the engine must know beforehand, each a record in the log."""

import re
from typing import Literal

import msgspec

LATEST_MS = 4_102_444_800_000
"""2100-01-01."""
_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Entry(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    pass


class Customer(_Entry, frozen=True, kw_only=True, tag="customer"):
    """A hospital or operator; everything that belongs to it lives in one partition."""

    customer_id: str
    name: str
    segment: Literal["group", "clinic", "dealer"] = "clinic"
    region: str = ""
    account_manager: str = ""


class Site(_Entry, frozen=True, kw_only=True, tag="site"):
    """A building of a customer with one or more gateways."""

    site_id: str
    customer_id: str
    name: str
    region: str = ""
    country: str = ""
    timezone: str = "UTC"


class Device(_Entry, frozen=True, kw_only=True, tag="device"):
    """A device in the field (or a gateway, model `gateway`). `model` names a catalogue entry."""

    device_id: str
    model: str
    site_id: str
    customer_id: str
    installed_ms: int
    udi_di: str = ""
    udi_pi: str = ""
    firmware: str = ""
    calibration_due_ms: int = 0
    """0 where nothing is known, as below."""
    warranty_until_ms: int = 0
    contract_until_ms: int = 0


class Technician(_Entry, frozen=True, kw_only=True, tag="technician"):
    """A service technician; belongs to no customer, so every partition knows all of them."""

    technician_id: str
    name: str
    skills: tuple[str, ...] = ()
    region: str = ""


class Part(_Entry, frozen=True, kw_only=True, tag="part"):
    """A spare part of the catalogue; belongs to no customer."""

    part_id: str
    name: str
    subsystem: str = ""


class Calendar(_Entry, frozen=True, kw_only=True, tag="calendar"):
    """A public holiday or planned maintenance: half-open [from_ms, until_ms), told beforehand.

    Exactly one of the scopes is set, or none: an entry without a scope concerns everybody.
    """

    calendar_id: str
    kind: Literal["holiday", "maintenance"]
    name: str
    from_ms: int
    until_ms: int
    country: str = ""
    customer_id: str = ""
    site_id: str = ""
    device_id: str = ""


RegistryEntry = Customer | Site | Device | Technician | Part | Calendar
"""Order matters on import: customers before sites before devices."""


class Registry(msgspec.Struct, frozen=True):
    """A registry file: what `wardwatch registry import FILE` reads (JSON)."""

    customers: tuple[Customer, ...] = ()
    sites: tuple[Site, ...] = ()
    devices: tuple[Device, ...] = ()
    technicians: tuple[Technician, ...] = ()
    parts: tuple[Part, ...] = ()
    calendars: tuple[Calendar, ...] = ()


class RegistryError(ValueError):
    """An entry that the engine could not live with: once in the log, it would stop a worker for good."""


def check_registry(registry: Registry) -> None:
    """Refuse what no table can hold or what refers to nothing.

    Raises:
        RegistryError: the message names entry and field.
    """
    for entries in (getattr(registry, name) for name in registry.__struct_fields__):
        for entry in entries:
            for field, value in msgspec.structs.asdict(entry).items():
                if field.endswith("_ms") and not 0 <= value < LATEST_MS:
                    raise RegistryError(f"{field} {value}: expected ms since the epoch, before 2100")
                texts = value if isinstance(value, tuple) else (value,)
                if any(isinstance(text, str) and "\0" in text for text in texts):
                    raise RegistryError(f"{field} {value!r}: NUL cannot be stored")
    customers = {entry.customer_id for entry in registry.customers}
    sites = {entry.site_id: entry.customer_id for entry in registry.sites}
    for site in registry.sites:
        if site.customer_id not in customers:
            raise RegistryError(f"site {site.site_id}: the file has no customer {site.customer_id}")
    for device in registry.devices:
        if sites.get(device.site_id) != device.customer_id:
            raise RegistryError(
                f"device {device.device_id}: the file has no site {device.site_id} of customer {device.customer_id}"
            )
        if not _DEVICE_ID.fullmatch(device.device_id):
            raise RegistryError(f"device_id {device.device_id!r}: expected letters, digits, '.', '_' and '-'")
    for calendar in registry.calendars:
        if calendar.from_ms >= calendar.until_ms:
            raise RegistryError(f"calendar {calendar.calendar_id}: from_ms must be before until_ms")
