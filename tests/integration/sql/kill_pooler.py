"""A pooler between clients and PostgreSQL, as PgBouncer is in transaction mode: each transaction gets another server connection.

What a client sets in its session, a lock or a prepared statement that outlives its transaction, is not there in the next one.
"""

from __future__ import annotations

import asyncio
import struct
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, Self, final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

SERVERS: Final = 6
PROTOCOL: Final = 196_608
NO_ENCRYPTION: Final = (80_877_103, 80_877_104)
CANCEL: Final = 80_877_102
IN_NO_TRANSACTION: Final = b"I"
ENDS: Final = (b"Q", b"S")  # what is answered by "ready for query"


async def message_of(reader: StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    length = await reader.readexactly(4)
    return kind, await reader.readexactly(struct.unpack("!i", length)[0] - 4)


def framed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


@final
class Link:
    """A client, and the server that it has for as long as its transaction lasts."""

    def __init__(self, writer: StreamWriter, idle: asyncio.Queue[tuple[StreamReader, StreamWriter]]) -> None:
        self._writer = writer
        self._idle = idle
        self._unanswered = 0
        self._answers: asyncio.Task[None] | None = None
        self.server: tuple[StreamReader, StreamWriter] | None = None

    async def send(self, kind: bytes, body: bytes) -> None:
        if self.server is None:
            self.server = await self._idle.get()
            self._answers = asyncio.create_task(self._answered(self.server))
        self._unanswered += kind in ENDS
        self.server[1].write(framed(kind, body))

    async def _answered(self, server: tuple[StreamReader, StreamWriter]) -> None:
        while self.server is not None:
            kind, body = await message_of(server[0])
            self._writer.write(framed(kind, body))
            if kind == b"Z":
                self._unanswered -= 1
                if not self._unanswered and body == IN_NO_TRANSACTION:
                    self.server = None
                    self._idle.put_nowait(server)

    def broken(self) -> bool:
        """Close the server if the client had it still, and return whether it did."""
        if self.server is None or self._answers is None:
            return False
        self._answers.cancel()
        self.server[1].close()
        return True


@final
class Pooler:
    """It listens for as long as its block lasts."""

    def __init__(self, dsn: str) -> None:
        self._parts = urlsplit(dsn)
        self._ready = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._serve()))
        self.transactions = 0
        """How often a server connection changed hands."""

    @property
    def dsn(self) -> str:
        return urlunsplit(self._parts._replace(netloc=f"{self._parts.username}@127.0.0.1:{self._port}"))

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._idle: asyncio.Queue[tuple[StreamReader, StreamWriter]] = asyncio.Queue()
        self._greeting = b""
        for _ in range(SERVERS):
            await self._connect()
        async with await asyncio.start_server(self._client, "127.0.0.1", 0) as server:
            self._port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._over.wait()
        while not self._idle.empty():
            self._idle.get_nowait()[1].close()

    async def _connect(self) -> None:
        reader, writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        words = f"user\0{self._parts.username}\0database\0{self._parts.path.removeprefix('/')}\0\0".encode()
        writer.write(struct.pack("!ii", len(words) + 8, PROTOCOL) + words)
        kind = greeting = b""
        while kind != b"Z":
            kind, body = await message_of(reader)
            greeting += framed(kind, body)
        self._greeting = greeting
        self._idle.put_nowait((reader, writer))

    async def _client(self, reader: StreamReader, writer: StreamWriter) -> None:
        link = Link(writer, self._idle)
        try:
            while (asked := await self._asked_first(reader)) in NO_ENCRYPTION:
                writer.write(b"N")
            if asked == CANCEL:  # it names a server connection that may be another client's by now
                return
            writer.write(self._greeting)
            while True:
                kind, body = await message_of(reader)
                if kind == b"X":
                    break
                self.transactions += link.server is None
                await link.send(kind, body)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
            if link.broken():  # it left in the middle of a transaction
                await self._connect()

    async def _asked_first(self, reader: StreamReader) -> int:
        length, code = struct.unpack("!ii", await reader.readexactly(8))
        await reader.readexactly(length - 8)
        return int(code)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)
