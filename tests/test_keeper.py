"""A service that ends by itself is started again; one that is stopped on purpose is left alone."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from wardwatch.local.account import Account
from wardwatch.local.errors import PartFailedError
from wardwatch.local.keeper import kept
from wardwatch.local.process import Service, wait_until

SLEEP = "import time; time.sleep(1000)"
Make = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Service] = []
    with ThreadPoolExecutor(1) as spawner:

        def service(program: str = SLEEP, **further: object) -> Service:
            fields: dict[str, object] = {"ready": lambda: True} | further
            made.append(
                Service(
                    name=f"service {len(made)}",
                    command=[sys.executable, "-c", program],
                    folder=tmp_path,
                    log=tmp_path / "log",
                    account=Account(),
                    stop_signal=signal.SIGTERM,
                    abrupt_signal=signal.SIGKILL,
                    spawner=spawner,
                    **fields,  # type: ignore[arg-type]
                )
            )
            return made[-1]

        yield service
        for each in made:
            each.stop(1.0)


def test_a_service_that_is_killed_is_started_again(make: Make) -> None:
    service = make()
    service.start()
    with kept([service]) as keepers:
        for restarts in (1, 2):
            before = service.pid
            service.kill()
            assert wait_until(lambda before=before: service.pid not in (None, before), 10)  # type: ignore[misc]
            assert keepers[service.name].restarts == restarts


def test_a_service_that_is_stopped_on_purpose_stays_stopped_until_it_is_started(make: Make) -> None:
    service, other = make(), make()
    service.start()
    other.start()
    with kept([service, other]):
        service.stop(5.0)
        other.kill()
        assert wait_until(lambda: other.pid is not None, 10)
        assert service.pid is None
        service.start()
        assert service.pid is not None


def test_a_service_that_ends_at_once_is_started_again_later_and_later(make: Make, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.touch()
    program = f"import time; open({str(begun)!r}, 'a').write(str(time.monotonic()) + chr(10))"
    service = make(program, ready=lambda: False)
    with pytest.raises(PartFailedError, match="ended at its start"):
        service.start()
    assert not service.wanted
    service._wanted = True
    with kept([service]):
        assert wait_until(lambda: len(begun.read_text().split()) == 4, 20)
    times = [float(each) for each in begun.read_text().split()][1:]
    first_s, second_s = (after - before for before, after in pairwise(times))
    assert second_s > first_s + 0.2


def test_nothing_is_started_again_once_nobody_keeps_it(make: Make) -> None:
    service = make()
    service.start()
    with kept([service]) as keepers:
        pass
    service.kill()
    assert not wait_until(lambda: service.pid is not None, 0.5)
    assert keepers[service.name].restarts == 0


def test_two_who_start_a_service_at_once_start_one_process(make: Make) -> None:
    prepared: list[int] = []

    def prepare() -> None:
        prepared.append(1)
        time.sleep(0.1)

    service = make(prepare=prepare)
    starters = [threading.Thread(target=service.start) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(10)
    assert len(prepared) == 1
    assert service.pid is not None


def test_a_stop_does_not_wait_for_a_start_that_is_still_clearing_up(make: Make) -> None:
    clearing, cleared = threading.Event(), threading.Event()

    def prepare() -> None:
        clearing.set()
        cleared.wait(10)

    service = make(prepare=prepare)
    service._wanted = True
    reviving = threading.Thread(target=service.revive)
    reviving.start()
    assert clearing.wait(10)
    service.stop(5.0)
    cleared.set()
    reviving.join(10)
    assert service.pid is None
