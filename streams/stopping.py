"""A worker's end: asked for by a signal, with time for last cuts, and hurried where time would be wasted.

A partition's last cut takes seconds for every ten thousand devices, and without it the next start recomputes, which
only the same version can do. So a worker that is asked to stop takes the time that its cuts need. It ends soon when the
database does not answer, when the partitions are about to be handed to others, and when it is asked a second time.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

LAST_CUTS_WITHIN_S = 60.0
"""For draining and the last cuts of all partitions, while the database answers."""
SOON_S = 4.0
"""For the same where the database does not answer, or nobody can say."""
SAME_SIGNAL_S = 1.0
"""Terminals and programs that run programs may send a signal twice: what comes within this time is one request."""
ASK_EVERY_S = 0.5

Answers = Callable[[], Awaitable[bool]]
"""Whether what processors write to answers; it may take its time, which counts as silence."""


class Ending:
    """`asked` to stop in order; `hurried` to leave what is not done."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self._asked_at_s = 0.0

    def ask(self) -> None:
        """Stop in order; asked again, at once."""
        now_s = asyncio.get_running_loop().time()
        if not self.asked.is_set():
            self._asked_at_s = now_s
            self.asked.set()
        elif now_s - self._asked_at_s >= SAME_SIGNAL_S:
            self.hurried.set()

    def hurry_in(self, seconds: float) -> None:
        """Hurry, unless it has ended by then."""
        asyncio.get_running_loop().call_later(seconds, self.hurried.set)

    async def patient(self, work: Awaitable[None], answers: Answers) -> bool:
        """Whether `work` was done, and not broken off as somebody hurried or `answers` was silent for `SOON_S`."""
        working = asyncio.ensure_future(work)
        reasons = [asyncio.create_task(self.hurried.wait()), asyncio.create_task(_silence(answers))]
        try:
            await asyncio.wait([working, *reasons], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            return working.done()
        finally:
            for task in (working, *reasons):
                task.cancel()
            await asyncio.gather(working, *reasons, return_exceptions=True)


async def _silence(answers: Answers) -> None:
    loop = asyncio.get_running_loop()
    silent_at_s = loop.time() + SOON_S
    try:
        while True:
            async with asyncio.timeout_at(silent_at_s):
                if await answers():
                    silent_at_s = loop.time() + SOON_S
                await asyncio.sleep(ASK_EVERY_S)
    except TimeoutError:
        return


@asynccontextmanager
async def ending(stop: asyncio.Event | None) -> AsyncIterator[Ending]:
    """Yield what ends a worker: the caller's event, or SIGTERM and SIGINT."""
    asked = Ending()
    if stop is not None:
        asked.asked = stop
        yield asked
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.ask)
    try:
        yield asked
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
