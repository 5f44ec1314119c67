"""How well a customer is served: its work orders against its own history."""

import math
from collections import deque

import msgspec

from alerting.orders import Order
from alerting.policy import DAY_MS

WINDOW_MS = 28 * DAY_MS
_USUAL_A_WINDOW = 1.0
"""Corrective orders of a customer in 28 days before anything is known."""
_USUAL_REPAIR_MS = DAY_MS
_LATE_MS = 3 * DAY_MS
"""An order counts as overdue when its deadline is so long past: before that it is late, not forgotten."""
_PREVENTIVE_LATE_MS = 30 * DAY_MS
"""The same for planned work, which nobody waits for at a device that stands still."""
_KEPT = 200


class ServiceScore(msgspec.Struct, frozen=True):
    """Service over the last 28 days.

    Penalties are 55 points together at most, and 37 are what it takes to bring the health of a customer whose use is
    as usual down to yellow: late, frequent, slow and repeated at once, not one of them.
    """

    score: float
    """0 to 100."""
    overdue: int
    requests: int
    """Corrective orders opened in the window, but for those where no fault was found."""
    requests_usual: float
    """The customer's own number in as much time, before the window."""
    requests_excess: float
    """How many standard deviations more than usual."""
    repair_ms: float | None
    """Mean time from opening to done of repairs finished in the window; an order without a fault was no repair."""
    slower: float
    """That time over the customer's own before; 1 while unknown."""
    repeats: int
    """Corrective orders for a device and subsystem that had one in the window already."""


class ServiceRecord:
    """Work orders of one customer. Inspections count only when they are late: the customer did not ask for them.

    Memory: open orders and the last 200 closed.
    """

    def __init__(self) -> None:
        self._open: dict[str, Order] = {}
        self._predicted: set[str] = set()
        """Open orders that did not begin as repairs: they say nothing about how long a repair takes."""
        self._opened: deque[tuple[int, str, str, str]] = deque(maxlen=_KEPT)
        """(time, order, device, subsystem)"""
        self._repairs: deque[tuple[int, int]] = deque(maxlen=_KEPT)
        self._since_ms: int | None = None

    def note(self, order: Order) -> None:
        """Take over an order as it stands, after each of its steps."""
        known = self._open.get(order.work_order_id)
        if order.kind == "corrective" and (known is None or known.kind != "corrective") and order.state != "done":
            self._opened.append((order.opened_ms, order.work_order_id, order.device_id, order.subsystem))
        if known is None and order.kind != "corrective":
            self._predicted.add(order.work_order_id)
        if order.state != "done":
            self._open[order.work_order_id] = order
            return
        self._open.pop(order.work_order_id, None)
        predicted = order.work_order_id in self._predicted
        self._predicted.discard(order.work_order_id)
        if order.outcome == "no_fault_found":
            kept = [each for each in self._opened if each[1] != order.work_order_id]
            self._opened = deque(kept, maxlen=_KEPT)
        elif not predicted and order.done_ms is not None:
            self._repairs.append((order.done_ms, order.done_ms - order.opened_ms))

    def score(self, at_ms: int) -> ServiceScore:
        """The score at `at_ms`; the first call begins the customer's history."""
        self._since_ms = at_ms if self._since_ms is None else self._since_ms
        from_ms = at_ms - WINDOW_MS
        overdue = sum(_late_from_ms(order) < at_ms for order in self._open.values())
        recent = [opened for opened in self._opened if opened[0] >= from_ms]
        earlier_windows = max(0.0, (from_ms - self._since_ms) / WINDOW_MS)
        earlier = sum(self._since_ms <= opened[0] < from_ms for opened in self._opened)
        usual = (earlier + _USUAL_A_WINDOW) / (earlier_windows + 1)
        excess = (len(recent) - usual) / math.sqrt(usual + 1)
        repair_ms, slower = self._repair_times(from_ms)
        repeats = len(recent) - len({opened[2:] for opened in recent})
        penalty = (
            min(15.0, 5.0 * overdue)
            + min(15.0, 6 * max(0.0, excess - 1))
            + min(15.0, 7 * max(0.0, math.log2(slower)))
            + min(10.0, 5.0 * repeats)
        )
        return ServiceScore(100 - penalty, overdue, len(recent), usual, excess, repair_ms, slower, repeats)

    def _repair_times(self, from_ms: int) -> tuple[float | None, float]:
        recent = [length_ms for done_ms, length_ms in self._repairs if done_ms >= from_ms]
        earlier = [length_ms for done_ms, length_ms in self._repairs if done_ms < from_ms]
        if not recent:
            return None, 1.0
        usual_ms = (sum(earlier) + 2 * _USUAL_REPAIR_MS) / (len(earlier) + 2)
        return sum(recent) / len(recent), (sum(recent) + 2 * usual_ms) / (len(recent) + 2) / usual_ms


def _late_from_ms(order: Order) -> int:
    return order.due_ms + (_PREVENTIVE_LATE_MS if order.kind == "preventive" else _LATE_MS)
