"""Who and what there is: hospitals, sites, gateways, devices, technicians and parts, as a registry.

Device `i` belongs to customer `i mod customers`; every customer has a mixture of models. Nothing about a device
depends on how many devices there are.
"""

from dataclasses import dataclass

from schema.catalogue import Catalogue
from schema.registry import Customer, Device, Part, Site, Technician
from simulator.profiles import PROFILES
from simulator.randomness import stream

DAY_MS = 86_400_000
MODELS = tuple(PROFILES)


@dataclass(frozen=True, slots=True)
class Country:
    """Where hospitals stand; one time zone each."""

    code: str
    timezone: str
    region: str
    weight: float
    cities: tuple[str, ...]


COUNTRIES = (
    Country("CN", "Asia/Shanghai", "east-asia", 0.4, ("Shanghai", "Chengdu", "Wuhan", "Hangzhou", "Xi'an", "Nanjing")),
    Country("DE", "Europe/Berlin", "central-europe", 0.25, ("Berlin", "Leipzig", "Ulm", "Essen", "Kiel", "Jena")),
    Country("FR", "Europe/Paris", "west-europe", 0.2, ("Lyon", "Nantes", "Lille", "Tours", "Dijon", "Rennes")),
    Country("JP", "Asia/Tokyo", "east-asia", 0.15, ("Osaka", "Sendai", "Nagoya", "Kobe", "Sapporo", "Kyoto")),
)
_MANAGERS = ("Li Na", "Anna Weber", "Claire Martin", "Sato Yui", "Wang Lei", "Jonas Krause")
_TECHNICIANS = (
    ("Zhang Wei", "east-asia", ("mri", "cryo", "ct")),
    ("Chen Jing", "east-asia", ("ultrasound", "ivd", "pump")),
    ("Liu Yang", "east-asia", ("ct", "ventilator", "it")),
    ("Tanaka Ken", "east-asia", ("mri", "ultrasound", "pump")),
    ("Petra Vogel", "central-europe", ("mri", "cryo", "ct")),
    ("Uwe Lorenz", "central-europe", ("ivd", "ventilator", "pump", "it")),
    ("Marc Dubois", "west-europe", ("mri", "ct", "ultrasound", "cryo")),
    ("Lea Moreau", "west-europe", ("ivd", "ventilator", "pump")),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """One device of the fleet and where it stands."""

    index: int
    device_id: str
    model: str
    customer_id: str
    site_id: str
    gateway_id: str
    country: str
    timezone: str
    firmware: str
    installed_ms: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that exists; `machines` in the order of their index, gateways among `devices` of the registry."""

    customers: tuple[Customer, ...]
    sites: tuple[Site, ...]
    machines: tuple[Machine, ...]
    devices: tuple[Device, ...]
    technicians: tuple[Technician, ...]
    parts: tuple[Part, ...]

    def gateways(self) -> tuple[str, ...]:
        """Ids of all gateways, one a site, in the order of the sites."""
        return tuple(gateway_of(site.site_id) for site in self.sites)


def gateway_of(site_id: str) -> str:
    """Id of the gateway of a site."""
    return f"gw-{site_id}"


def build_fleet(seed: int, devices: int, customers: int, start_ms: int, catalogue: Catalogue) -> Fleet:
    """Draw the fleet; a site stands in the registry only if it has a device."""
    countries = [_country(seed, index) for index in range(customers)]
    machines = tuple(_machine(seed, index, customers, countries, start_ms) for index in range(devices))
    used = {machine.site_id for machine in machines}
    owners: list[Customer] = []
    sites: list[Site] = []
    for index, (country, city) in enumerate(countries):
        customer_id = _customer_id(index)
        rng = stream(seed, "customer", index)
        owners.append(
            Customer(
                customer_id=customer_id,
                name=f"{city} Hospital {index + 1}",
                segment="group" if rng.random() < 0.4 else "clinic",
                region=country.region,
                account_manager=_MANAGERS[int(rng.integers(len(_MANAGERS)))],
            )
        )
        for wing in "ab":
            site_id = f"{customer_id}-{wing}"
            if site_id in used:
                sites.append(
                    Site(
                        site_id=site_id,
                        customer_id=customer_id,
                        name=f"{city} {'Main' if wing == 'a' else 'Annex'}",
                        region=country.region,
                        country=country.code,
                        timezone=country.timezone,
                    )
                )
    registered = [_registered(machine) for machine in machines]
    registered += [
        Device(
            device_id=gateway_of(site.site_id),
            model="gateway",
            site_id=site.site_id,
            customer_id=site.customer_id,
            installed_ms=start_ms - 400 * DAY_MS,
            firmware="2.4.1",
        )
        for site in sites
    ]
    technicians = tuple(
        Technician(technician_id=f"tech-{number}", name=name, region=region, skills=skills)
        for number, (name, region, skills) in enumerate(_TECHNICIANS, 1)
    )
    parts = {
        part_id: Part(part_id=part_id, name=part.name, subsystem=part.subsystem)
        for name in sorted(catalogue)
        for part_id, part in catalogue[name].parts.items()
    }
    return Fleet(tuple(owners), tuple(sites), machines, tuple(registered), technicians, tuple(parts.values()))


def _customer_id(index: int) -> str:
    return f"hosp-{index + 1:02d}"


def _country(seed: int, customer_index: int) -> tuple[Country, str]:
    rng = stream(seed, "country", customer_index)
    country = COUNTRIES[int(rng.choice(len(COUNTRIES), p=[country.weight for country in COUNTRIES]))]
    return country, country.cities[int(rng.integers(len(country.cities)))]


def _machine(seed: int, index: int, customers: int, countries: list[tuple[Country, str]], start_ms: int) -> Machine:
    owner, place = index % customers, index // customers
    country, _ = countries[owner]
    model = MODELS[(index + place) % len(MODELS)]
    two_sites = stream(seed, "sites", owner).random() < 0.25
    site_id = f"{_customer_id(owner)}-{'b' if two_sites and place % 5 >= 3 else 'a'}"
    rng = stream(seed, "machine", index)
    return Machine(
        index=index,
        device_id=f"{model}-{index + 1}".replace("infusion_pump", "pump"),
        model=model,
        customer_id=_customer_id(owner),
        site_id=site_id,
        gateway_id=gateway_of(site_id),
        country=country.code,
        timezone=country.timezone,
        firmware=f"{rng.integers(1, 4)}.{rng.integers(0, 9)}.{rng.integers(0, 20)}",
        installed_ms=start_ms - int(rng.uniform(60, 2500) * DAY_MS),
    )


def _registered(machine: Machine) -> Device:
    rng = stream(0, "udi", machine.device_id)
    serial = int(rng.integers(10**9, 10**10))
    return Device(
        device_id=machine.device_id,
        model=machine.model,
        site_id=machine.site_id,
        customer_id=machine.customer_id,
        installed_ms=machine.installed_ms,
        udi_di=f"0697{MODELS.index(machine.model):02d}0{10**6 + MODELS.index(machine.model) * 7919}",
        udi_pi=f"(21){serial}",
        firmware=machine.firmware,
    )
