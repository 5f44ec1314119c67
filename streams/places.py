"""Who belongs where: devices by site and customer, calendars by what they concern. It follows from the state."""

from collections.abc import Iterable, Mapping

from schema.registry import Calendar, Device
from streams.device import DeviceState

Scope = tuple[str, str]


class Places:
    """Indices of a partition's registry; made anew when that has changed."""

    def __init__(
        self, devices: Mapping[str, DeviceState], customers: Iterable[str], calendars: Iterable[Calendar]
    ) -> None:
        self.at_site: dict[str, list[DeviceState]] = {}
        """Devices by site, sorted by id."""
        self.of_customer: dict[str, list[DeviceState]] = {customer_id: [] for customer_id in sorted(customers)}
        """Devices by customer, both sorted by id."""
        for _, device in sorted(devices.items()):
            self.at_site.setdefault(device.entry.site_id, []).append(device)
            if device.entry.customer_id in self.of_customer:
                self.of_customer[device.entry.customer_id].append(device)
        self._calendars: dict[Scope, list[Calendar]] = {}
        for each in calendars:
            self._calendars.setdefault(_narrowest(each), []).append(each)

    def excused(self, entry: Device, country: str, from_ms: int, until_ms: int) -> bool:
        """Tell whether a holiday or planned maintenance covers part of [from_ms, until_ms) for a device."""
        if not self._calendars:
            return False
        scopes = {
            "device": entry.device_id,
            "site": entry.site_id,
            "customer": entry.customer_id,
            "country": country,
            "": "",
        }
        return any(
            calendar.from_ms < until_ms
            and calendar.until_ms > from_ms
            and all(not named or scopes[scope] == named for scope, named in _scopes(calendar))
            for scope in scopes.items()
            for calendar in self._calendars.get(scope, ())
        )


def _scopes(calendar: Calendar) -> tuple[Scope, ...]:
    return (
        ("device", calendar.device_id),
        ("site", calendar.site_id),
        ("customer", calendar.customer_id),
        ("country", calendar.country),
    )


def _narrowest(calendar: Calendar) -> Scope:
    return next((scope for scope in _scopes(calendar) if scope[1]), ("", ""))
