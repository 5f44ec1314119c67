"""Work orders: one for each problem, with what it needs, who could do it, and what people found out."""

from alerting_help import DAY, HOUR, command_ids, finding, hospital, orders, risk, told, transitions, tube_failure

from alerting.desk import Desk
from schema.commands import AssignWorkOrder, CloseWorkOrder, Command, RepairOutcome, StartWorkOrder
from schema.findings import Severity
from schema.rows import AlertRow, AuditRow, Row, WorkOrderEventRow, WorkOrderRow


def assign(order: WorkOrderRow, technician_id: str) -> Command:
    return AssignWorkOrder(
        command_id=next(command_ids), actor="dee", work_order_id=order.work_order_id, technician_id=technician_id
    )


def start(order: WorkOrderRow) -> Command:
    return StartWorkOrder(command_id=next(command_ids), actor="tina", work_order_id=order.work_order_id)


def close(order: WorkOrderRow, outcome: RepairOutcome) -> Command:
    return CloseWorkOrder(
        command_id=next(command_ids),
        actor="tina",
        comment="done",
        work_order_id=order.work_order_id,
        outcome=outcome,
        part_ids=("tube",),
    )


def failed(desk: Desk, at_ms: int, device_id: str = "ct-1") -> WorkOrderRow:
    """The order for a failed tube."""
    desk.observe(tube_failure(at_ms, device_id), at_ms)
    (order,) = orders(desk.tick(at_ms))
    return order


def audit(rows: list[Row]) -> tuple[str, str]:
    last = rows[-1]
    assert isinstance(last, AuditRow)
    return last.result, last.detail


def test_a_hard_failure_opens_an_order_with_part_skill_deadline_and_technician() -> None:
    order = failed(hospital(), 10 * HOUR)
    assert (order.number, order.kind, order.priority, order.state) == ("WO-2-000001", "corrective", "P1", "open")
    assert (order.part_ids, order.skill) == (["tube"], "ct")
    assert (order.opened_at, order.due_at) == (10 * HOUR, 18 * HOUR)
    assert order.suggested_technician_id == "tina"


def test_orders_are_numbered_in_the_order_of_firing_and_spread_over_technicians_of_the_region() -> None:
    desk = hospital()
    for at_ms, device_id in ((3, "ct-3"), (1, "ct-2"), (2, "ct-1")):
        desk.observe(tube_failure(at_ms, device_id), 0)
    found = orders(desk.tick(HOUR))
    assert [order.device_id for order in found] == ["ct-2", "ct-1", "ct-3"]
    assert [order.suggested_technician_id for order in found] == ["tina", "tom", "tina"]


def test_a_prediction_opens_an_inspection_with_the_parts_of_its_subsystem() -> None:
    desk = hospital()
    desk.observe(risk(0, 0.8), 0)
    (order,) = orders(desk.tick(HOUR))
    assert (order.kind, order.priority, order.part_ids) == ("inspection", "P3", ["tube"])
    assert order.due_at == HOUR + 3 * DAY


def test_a_warning_and_a_usage_drop_open_nothing() -> None:
    desk = hospital()
    for detector, severity in (("fault_rule", "warning"), ("usage_drop", "error")):
        level: Severity = "warning" if severity == "warning" else "error"
        desk.observe(finding(detector, 0, severity=level, subsystem="tube"), 0)
    assert orders(desk.tick(HOUR)) == []


def test_a_warning_that_becomes_an_error_opens_an_order() -> None:
    desk = hospital()
    desk.observe(finding("fault_rule", 0, severity="warning", subsystem="gantry"), 0)
    assert orders(desk.tick(HOUR)) == []
    desk.observe(finding("fault_rule", 2 * HOUR, severity="error", subsystem="gantry"), 2 * HOUR)
    assert [order.priority for order in orders(desk.tick(2 * HOUR))] == ["P2"]


def test_a_failure_before_the_visit_turns_the_inspection_into_an_urgent_repair() -> None:
    desk = hospital()
    desk.observe(risk(0, 0.8), 0)
    (inspection,) = orders(desk.tick(HOUR))
    desk.observe(tube_failure(DAY), DAY)
    rows = desk.tick(DAY)
    (repair,) = orders(rows)
    assert repair.number == inspection.number
    assert (repair.kind, repair.priority, repair.due_at) == ("corrective", "P1", DAY + 8 * HOUR)
    assert len(repair.alert_ids) == 2
    assert told(rows) == []
    assert [row.reason for row in rows if isinstance(row, WorkOrderEventRow)] == ["it failed before the visit"]


def test_an_order_goes_from_open_to_done_and_its_alert_follows() -> None:
    desk = hospital()
    order = failed(desk, 0)
    rows = desk.command(assign(order, "tom"), HOUR)
    assert transitions(rows) == [("firing", "acknowledged", "WO-2-000001 assigned")]
    assert audit(desk.command(start(order), 2 * HOUR)) == ("applied", "work began")
    rows = desk.command(close(order, "part_replaced"), 3 * HOUR)
    assert transitions(rows) == [("acknowledged", "resolved", "WO-2-000001 done: part_replaced")]
    (done,) = orders(rows)
    assert (done.state, done.assigned_at, done.started_at, done.done_at) == ("done", HOUR, 2 * HOUR, 3 * HOUR)
    assert (done.technician_id, done.used_part_ids, done.note) == ("tom", ["tube"], "done")


def test_closing_an_order_judges_every_alert_of_it_even_one_that_is_over() -> None:
    desk = hospital()
    desk.observe(risk(0, 0.8), 0)
    desk.tick(HOUR)
    order = failed(desk, DAY)
    desk.repaired("ct-1", 2 * DAY)
    desk.tick(60 * DAY)
    rows = desk.command(close(order, "confirmed"), 60 * DAY)
    assert {row.outcome for row in rows if isinstance(row, AlertRow)} == {"confirmed"}
    assert [(label.detector, label.outcome, label.order_kind) for label in desk.labels()] == [
        ("failure_risk", "confirmed", "corrective"),
        ("fault_rule", "confirmed", "corrective"),
    ]
    assert desk.labels() == []


def test_no_fault_found_is_a_false_alert() -> None:
    desk = hospital()
    desk.observe(risk(0, 0.8), 0)
    (order,) = orders(desk.tick(HOUR))
    rows = desk.command(close(order, "no_fault_found"), DAY)
    assert [row.outcome for row in rows if isinstance(row, AlertRow)] == ["false"]
    assert [(label.outcome, label.order_kind, label.raised_ms) for label in desk.labels()] == [
        ("false", "inspection", 0)
    ]


def test_a_fresh_fault_after_the_order_is_done_opens_another() -> None:
    desk = hospital()
    first = failed(desk, 0)
    desk.command(close(first, "confirmed"), DAY)
    assert desk.observe(tube_failure(DAY - HOUR), DAY) == []  # it was delivered late: the work took care of it
    second = failed(desk, DAY + HOUR)
    assert (second.number, second.work_order_id == first.work_order_id) == ("WO-2-000002", False)


def test_steps_out_of_order_are_refused_with_the_reason() -> None:
    desk = hospital()
    order = failed(desk, 0)
    assert audit(desk.command(start(order), HOUR)) == ("refused", "WO-2-000001 is open; it starts from assigned")
    assert audit(desk.command(assign(order, "nobody"), HOUR)) == ("refused", "unknown technician nobody")
    desk.command(close(order, "confirmed"), HOUR)
    assert audit(desk.command(assign(order, "tom"), HOUR)) == ("refused", f"no open work order {order.work_order_id}")
