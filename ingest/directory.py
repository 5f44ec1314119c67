"""The devices that may speak, and where they belong: a copy of the committed registry, kept by whoever feeds it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from schema.registry import Device
from schema.topics import partition_of

REFRESH_INTERVAL_MS = 1_000


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A registered device or gateway; `model` names a catalogue entry."""

    device_id: str
    model: str
    customer_id: str
    partition: int


class DeviceDirectory:
    """Looks devices up; safe to be filled from one thread while another looks up.

    `refresh` reads the whole registry as it is committed now. It is called before a device is refused as unknown, at
    most once in `REFRESH_INTERVAL_MS` of receive time (so in simulated time it does not depend on the pace), and may
    raise: then the lookup raises too, for nobody can say that the device is unknown.
    """

    def __init__(
        self, partitions: int, devices: Iterable[Device] = (), *, refresh: Callable[[], Iterable[Device]] | None = None
    ) -> None:
        self.partitions = partitions
        self._refresh = refresh
        self._refreshed_ms: int | None = None
        self._devices: dict[str, KnownDevice] = {}
        self.replace(devices)

    def __len__(self) -> int:
        return len(self._devices)

    def replace(self, devices: Iterable[Device]) -> None:
        """Know exactly these devices from now on."""
        self._devices = {device.device_id: self._known(device) for device in devices}

    def put(self, device: Device) -> None:
        """Add a device, or replace what was known of it."""
        self._devices[device.device_id] = self._known(device)

    def known(self, device_id: str) -> KnownDevice | None:
        """Return what is known of a device as far as the registry was read."""
        return self._devices.get(device_id)

    def read(self) -> None:
        """Read the whole registry now; raises what reading raises."""
        if self._refresh is not None:
            self.replace(self._refresh())

    def find(self, device_id: str, *, receive_ms: int) -> KnownDevice | None:
        """Return what is known of a device; None if the registry, read afresh where that is due, does not have it."""
        known = self._devices.get(device_id)
        if known is not None or self._refresh is None:
            return known
        if self._refreshed_ms is not None and receive_ms - self._refreshed_ms < REFRESH_INTERVAL_MS:
            return None
        self.replace(self._refresh())
        self._refreshed_ms = receive_ms
        return self._devices.get(device_id)

    def _known(self, device: Device) -> KnownDevice:
        partition = partition_of(device.customer_id, self.partitions)
        return KnownDevice(device.device_id, device.model, device.customer_id, partition)
