"""A registry file: what could stop a worker for good is refused at the door."""

import pytest
from msgspec.structs import replace

from schema.registry import Calendar, Customer, Device, Registry, RegistryError, Site, check_registry

GOOD = Registry(
    customers=(Customer(customer_id="c", name="St. Mary"),),
    sites=(Site(site_id="s", customer_id="c", name="Main building"),),
    devices=(Device(device_id="ct-1", model="ct", site_id="s", customer_id="c", installed_ms=0),),
    calendars=(Calendar(calendar_id="k", kind="holiday", name="n", from_ms=0, until_ms=1),),
)


def test_a_sound_registry_passes() -> None:
    check_registry(GOOD)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (replace(GOOD, customers=(Customer(customer_id="c", name="a\0b"),)), "NUL"),
        (replace(GOOD, customers=()), "no customer c"),
        (replace(GOOD, sites=()), "no site s"),
        (replace(GOOD, devices=(replace(GOOD.devices[0], installed_ms=10**17),)), "installed_ms"),
        (replace(GOOD, devices=(replace(GOOD.devices[0], device_id="d/+#"),)), "device_id"),
        (replace(GOOD, calendars=(replace(GOOD.calendars[0], until_ms=0),)), "calendar k"),
    ],
    ids=["NUL", "no customer", "no site", "a time far off", "wildcards in an id", "an empty stretch"],
)
def test_what_no_table_can_hold_or_refers_to_nothing_is_refused(bad: Registry, named: str) -> None:
    with pytest.raises(RegistryError, match=named):
        check_registry(bad)
