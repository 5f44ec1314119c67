"""What a partition knows beforehand: customers, sites, devices and technicians."""

from bisect import insort

from schema.registry import Customer, Device, RegistryEntry, Site, Technician


class Directory:
    """The registry as alerting needs it; entries replace those with the same id."""

    def __init__(self) -> None:
        self.customers: dict[str, Customer] = {}
        self.sites: dict[str, Site] = {}
        self.devices: dict[str, Device] = {}
        self.technicians: dict[str, Technician] = {}
        self._at_site: dict[str, list[str]] = {}

    def register(self, entry: RegistryEntry) -> None:
        """Take over an entry; parts and calendars are not kept here."""
        match entry:
            case Customer():
                self.customers[entry.customer_id] = entry
            case Site():
                self.sites[entry.site_id] = entry
            case Device():
                self._place(entry)
            case Technician():
                self.technicians[entry.technician_id] = entry
            case _:
                pass

    def _place(self, device: Device) -> None:
        before = self.devices.get(device.device_id)
        if before is not None:
            self._at_site[before.site_id].remove(device.device_id)
        self.devices[device.device_id] = device
        insort(self._at_site.setdefault(device.site_id, []), device.device_id)

    def left(self, device_id: str) -> None:
        """The device is another partition's now, or begins a new life."""
        device = self.devices.pop(device_id, None)
        if device is not None:
            self._at_site[device.site_id].remove(device_id)

    def at_site(self, site_id: str) -> list[str]:
        """Ids of the site's devices, sorted."""
        return self._at_site.get(site_id, [])

    def region_of(self, site_id: str, customer_id: str) -> str:
        """Region of the site, else of the customer, else empty."""
        site = self.sites.get(site_id)
        if site is not None and site.region:
            return site.region
        customer = self.customers.get(customer_id)
        return customer.region if customer is not None else ""

    def country_of(self, site_id: str) -> str:
        """Country of the site, else empty."""
        site = self.sites.get(site_id)
        return site.country if site is not None else ""

    def name_of(self, customer_id: str) -> str:
        """Name of the customer, else its id."""
        customer = self.customers.get(customer_id)
        return customer.name if customer is not None else customer_id
