"""What simulated staff do: they know the truth, but only up to now."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from schema.commands import AcknowledgeAlert, AssignWorkOrder, CloseWorkOrder, Command
from simulator.staff import OpenAlert, OpenOrder, decide, work
from simulator.truth import Failure, FalsePrecursor, Run, Truth

DAY_MS = 86_400_000
START_MS = 1_767_571_200_000


def day(n: float) -> int:
    return START_MS + round(n * DAY_MS)


FAILURE = Failure(
    device_id="mri-7",
    customer_id="hosp-07",
    subsystem="gradient",
    code="GRD-900",
    part_ids=("gradient_amp",),
    at_ms=day(10),
    repaired_ms=day(11.2),
    precursor_ms=day(5),
)
SIGNS = FalsePrecursor(
    device_id="ct-2", customer_id="hosp-02", subsystem="tube", from_ms=day(3), peak_ms=day(6), until_ms=day(7)
)
TRUTH = Truth([Run(seed=7, devices=2, customers=2, start_ms=START_MS, end_ms=day(20)), FAILURE, SIGNS])


def order(device_id: str = "mri-7", subsystem: str = "gradient", opened: float = 7, technician: str = "t") -> OpenOrder:
    return OpenOrder(f"order of {device_id} {subsystem}", device_id, subsystem, day(opened), technician, "tech-1")


def closes(orders: Sequence[OpenOrder], at: float) -> list[CloseWorkOrder]:
    return [command for command in decide(orders, [], TRUTH, day(at)) if isinstance(command, CloseWorkOrder)]


@pytest.mark.parametrize("at", [8, 9.99, 10.5, 11.1])
def test_an_inspection_stays_open_until_what_it_foresaw_is_repaired(at: float) -> None:
    #  opened 7      failed 10   repaired 11.2
    #  |----?----?-------x----?----------|
    assert closes([order()], at) == []


def test_a_repaired_failure_closes_its_order_with_the_part() -> None:
    (close,) = closes([order()], 11.4)
    assert (close.outcome, close.part_ids) == ("part_replaced", ("gradient_amp",))


def test_an_order_opened_by_the_failure_itself_is_closed_the_same_way() -> None:
    assert [close.outcome for close in closes([order(opened=10.01)], 12)] == ["part_replaced"]


def test_planned_work_is_done_within_days_whatever_fails_meanwhile() -> None:
    planned = replace(order("ct-2", "service", opened=3), kind="preventive")
    assert closes([planned], 7.9) == []
    assert [close.outcome for close in closes([planned], 8.1)] == ["confirmed"]


def test_an_order_for_the_whole_device_is_about_any_of_its_failures() -> None:
    assert [close.outcome for close in closes([order(subsystem="")], 12)] == ["part_replaced"]


def test_signs_that_came_to_nothing_leave_nothing_to_find() -> None:
    about = [order("ct-2", "tube", opened=5)]
    assert closes(about, 11.9) == []
    assert [close.outcome for close in closes(about, 12)] == ["no_fault_found"]


def test_a_failure_of_another_subsystem_confirms_nothing() -> None:
    assert [close.outcome for close in closes([order(subsystem="rf", opened=8)], 15)] == ["no_fault_found"]


def test_decisions_never_depend_on_what_comes_later() -> None:
    without = Truth([fact for fact in TRUTH.facts if fact is not FAILURE])
    orders = [order(), order("ct-2", "tube", opened=2, technician="")]
    assert decide(orders, [], TRUTH, day(9.9)) == decide(orders, [], without, day(9.9))


def test_firing_alerts_are_acknowledged_and_new_orders_given_to_whom_the_engine_suggests() -> None:
    alerts = [OpenAlert("a-2", "mri-7", "s", "silence", ""), OpenAlert("a-1", "ct-2", "s", "failure_risk", "tube")]
    commands = decide([order(technician="")], alerts, TRUTH, day(8))
    assert [(type(command), command.comment) for command in commands] == [
        (AcknowledgeAlert, "seen"),
        (AcknowledgeAlert, "seen"),
        (AssignWorkOrder, ""),
    ]
    assert [command.alert_id for command in commands if isinstance(command, AcknowledgeAlert)] == ["a-1", "a-2"]


def test_commands_do_not_depend_on_the_order_in_which_rows_are_read() -> None:
    alerts = [OpenAlert(f"a-{n}", f"ct-{n}", "s", "silence", "") for n in range(5)]
    orders = [order(f"ct-{n}", "tube", opened=n, technician="") for n in range(5)]
    assert decide(orders, alerts, TRUTH, day(9)) == decide(orders[::-1], alerts[::-1], TRUTH, day(9))


def test_ids_of_commands_differ_by_day_and_target_and_repeat_in_a_second_run() -> None:
    orders = [order(technician=""), order(subsystem="rf", technician="")]
    ids = [command.command_id for at in (8, 9) for command in decide(orders, [], TRUTH, day(at))]
    assert len(set(ids)) == 4
    assert ids[:2] == [command.command_id for command in decide(orders, [], TRUTH, day(8))]


class Office:
    """A workplace that notes what happens in it."""

    def __init__(self) -> None:
        self.happened: list[str] = []

    def wait_committed(self, at_ms: int) -> None:
        self.happened.append(f"committed {at_ms}")

    def open_alerts(self) -> list[OpenAlert]:
        return []

    def open_orders(self) -> list[OpenOrder]:
        return [order()]

    def send(self, commands: Sequence[Command]) -> None:
        self.happened += [type(command).__name__ for command in commands]


def test_staff_look_only_after_the_worker_has_committed() -> None:
    office = Office()
    work(office, TRUTH, day(12))
    work(office, TRUTH, day(8))
    assert office.happened == [f"committed {day(12)}", "CloseWorkOrder", f"committed {day(8)}"]
