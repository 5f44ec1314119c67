"""A worker that has warmed up compiles nothing any more, however long its partitions live."""

import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from multiprocessing import get_context

import numpy as np
from numba.core.registry import CPUDispatcher

from schema.catalogue import load_catalogue
from schema.record import Tick, decode, encode_telemetry
from schema.registry import RegistryEntry
from simulator.offline import messages
from simulator.scenario import CLOCK_MS, Scenario
from streams import snapshot
from streams.copyrows import TextTable, encode_rows
from streams.pane_rows import DAY_MS
from streams.partition import Partition
from streams.warm import warm_up

SCENARIO = Scenario(104, devices=8, customers=2, days=42)


def forms() -> set[tuple[str, str, str]]:
    """Module, name and argument types of every compiled function of the house, as far as it is in memory."""
    house = [module for name, module in sys.modules.items() if name.startswith(("schema.", "detectors.", "streams."))]
    return {
        (each.py_func.__module__, each.py_func.__name__, str(types))
        for module in house
        for each in vars(module).values()
        if isinstance(each, CPUDispatcher)
        for types in each.signatures
    }


def live() -> None:
    """Six weeks of a small fleet; in the middle the partition is loaded from a cut."""
    catalogue, known = load_catalogue(), SCENARIO.registry
    partition = Partition(0, catalogue)
    entries: tuple[RegistryEntry, ...] = (
        *known.technicians, *known.parts, *known.calendars, *known.customers, *known.sites, *known.devices
    )  # fmt: skip
    partition.apply(entries)
    partition.apply(Tick("bridge", SCENARIO.start_ms, "joined"))
    whole = True
    for receive_ms, sent in groupby(messages(SCENARIO), lambda message: message.receive_ms):
        partition.apply(decode(encode_telemetry(list(sent), source="bridge", receive_ms=receive_ms)))
        partition.apply(Tick("bridge", receive_ms + CLOCK_MS))
        partition.effects.clear()
        if whole and receive_ms > SCENARIO.start_ms + 20 * DAY_MS:
            whole = False
            partition = snapshot.load(0, catalogue, snapshot.dump(partition))
    for rows in (1, 2):
        numbers = np.arange(rows)
        texts = TextTable()
        texts.number("a"), texts.number("b")
        encode_rows(texts, np.stack([numbers, numbers], axis=1), np.stack([numbers, numbers, numbers], axis=1))


def compiled_late() -> tuple[set[tuple[str, str, str]], set[tuple[str, str, str]]]:
    """What the warm-up has made ready, and what is compiled or read from the cache after it."""
    warm_up()
    ready = forms()
    live()
    return ready, forms() - ready


def test_six_weeks_of_a_partition_compile_nothing_after_the_warm_up() -> None:
    # in a process of its own, where no other test has compiled anything
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ready, late = pool.submit(compiled_late).result()
    assert {"close_day", "keep_hours", "_learn", "close_span", "fold", "encode_into"} <= {name for _, name, _ in ready}
    assert late == set()
