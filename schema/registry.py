"""Registry entries and calendars: what the engine must know beforehand, each a record in the log."""

from typing import Literal

import msgspec


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
