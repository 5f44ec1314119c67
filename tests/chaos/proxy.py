"""A TCP proxy on loopback that breaks all its connections on demand, as a failing network does."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wardwatch.local.process import LOOPBACK, free_port

CHUNK = 1 << 16


class Proxy:
    """Passes connections to `port` (a free one, if none is given) on to `target`, another loopback port."""

    def __init__(self, target: int, port: int | None = None) -> None:
        self.target = target
        self.port = free_port(port)
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()

    def reset(self) -> int:
        """Break all connections at once, both sides by a TCP reset; return how many that were."""
        return asyncio.run_coroutine_threadsafe(self._reset(), self._loop).result(10)

    async def _reset(self) -> int:
        broken = list(self._open)
        for writer in broken:
            raw: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):  # closed in this very moment
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return len(broken) // 2

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        try:
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        finally:
            self._open -= {writer, far_writer}
            for each in (writer, far_writer):
                each.transport.abort()

    async def _run(self, stopping: asyncio.Event, listening: threading.Event) -> None:
        async with await asyncio.start_server(self._serve, LOOPBACK, self.port):
            listening.set()
            await stopping.wait()
            await self._reset()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen for the time of the context."""
        listening, stopping = threading.Event(), asyncio.Event()

        def serve() -> None:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._run(stopping, listening))

        thread = threading.Thread(target=serve, name=f"proxy {self.port}", daemon=True)
        thread.start()
        assert listening.wait(10)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(stopping.set)
            thread.join(10)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction until it ends; then end both, as clients here never close one half."""
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
