"""Registry entries as rows of their tables."""

from schema.registry import Calendar, Customer, Device, Part, RegistryEntry, Site, Technician
from schema.rows import CalendarRow, CustomerRow, DeviceRow, PartRow, Row, SiteRow, TechnicianRow


def rows(entry: RegistryEntry, partition: int) -> list[Row]:
    """Return the row of an entry; none for what belongs to no customer, unless this is partition 0."""
    match entry:
        case Customer():
            return [
                CustomerRow(
                    entry.customer_id, entry.name, entry.segment, entry.region, entry.account_manager, partition
                )
            ]
        case Site():
            return [SiteRow(entry.site_id, entry.customer_id, entry.name, entry.region, entry.country, entry.timezone)]
        case Device():
            return [
                DeviceRow(
                    entry.device_id,
                    entry.model,
                    entry.site_id,
                    entry.customer_id,
                    entry.installed_ms,
                    entry.udi_di,
                    entry.udi_pi,
                    entry.firmware,
                    partition,
                )
            ]
    if partition != 0:
        return []
    match entry:
        case Technician():
            return [TechnicianRow(entry.technician_id, entry.name, list(entry.skills), entry.region)]
        case Part():
            return [PartRow(entry.part_id, entry.name, entry.subsystem)]
        case Calendar():
            return [
                CalendarRow(
                    calendar_id=entry.calendar_id,
                    kind=entry.kind,
                    name=entry.name,
                    from_at=entry.from_ms,
                    until_at=entry.until_ms,
                    country=entry.country,
                    customer_id=entry.customer_id,
                    site_id=entry.site_id,
                    device_id=entry.device_id,
                )
            ]
