"""Does the relay still talk to its store? Told over HTTP: `GET /healthz` and `GET /metrics`, and nothing else."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.durable.outbox import FencedError
from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from finresilience.clock import Clock
    from finresilience.durable.relay import Relay

_LONGEST_HEAD: Final = 8_192  # bytes
_PATIENCE: Final = 5.0  # seconds that one request may take
_AT_ONCE: Final = 32  # requests
_REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_HELP: Final = {
    "running": "Whether the relay runs.",
    "held_partitions": "Partitions that it owns.",
    "last_contact_age_seconds": "How long ago its store last answered.",
}


@final
class Contact:
    """A store that remembers when it last answered. Being refused by an epoch that is over is an answer too."""

    def __init__(self, store: Any, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._heard_at = clock.monotonic()

    @property
    def is_async(self) -> bool:
        """Whether its answers are awaited."""
        return iscoroutinefunction(self._store.claim)

    def silence(self) -> float:
        """Return the seconds since it last answered, or since it was first looked at."""
        return max(0.0, self._clock.monotonic() - self._heard_at)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found
        return self._awaited(found) if self.is_async and iscoroutinefunction(found) else self._called(found)

    def _called(self, deed: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(deed)
        def asked(*args: Any, **more: Any) -> Any:
            try:
                answer = deed(*args, **more)
            except FencedError:
                self._heard_at = self._clock.monotonic()
                raise
            self._heard_at = self._clock.monotonic()
            return answer

        return asked

    def _awaited(self, deed: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(deed)
        async def asked(*args: Any, **more: Any) -> Any:
            try:
                answer = await deed(*args, **more)
            except FencedError:
                self._heard_at = self._clock.monotonic()
                raise
            self._heard_at = self._clock.monotonic()
            return answer

        return asked


@final
class Health:
    """How a relay is, in numbers."""

    def __init__(self, relay: Relay, contact: Contact, *, stale: float) -> None:
        self._relay = relay
        self._contact = contact
        self._stale = stale
        self.state: str = "starting"  # then "running", "draining", "ended"

    @property
    def is_well(self) -> bool:
        """Whether it is at work, and its store has answered not too long ago. A relay that drains is well."""
        return self.state != "ended" and self._contact.silence() <= self._stale

    def as_dict(self) -> dict[str, Any]:
        """Return it as data."""
        counts = self._relay.statistics()
        return {
            "healthy": self.is_well,
            "state": self.state,
            "relay": self._relay.name,
            "held_partitions": counts.pop("held"),
            "last_contact_age": round(self._contact.silence(), 3),
            "stale_after": self._stale,
            "statistics": counts,
        }

    def metrics(self) -> str:
        """Return it as Prometheus reads it."""
        counts = self._relay.statistics()
        gauges = {
            "running": int(self.state in {"running", "draining"}),
            "held_partitions": counts.pop("held"),
            "last_contact_age_seconds": round(self._contact.silence(), 3),
        }
        name = self._relay.name.replace("\\", "\\\\").replace('"', '\\"')
        lines = [_metric(what, "gauge", value, name, _HELP[what]) for what, value in gauges.items()]
        lines += [_metric(f"{what}_total", "counter", value, name, f"Rows or events: {what}.") for what, value in counts.items()]
        return "".join(lines)


def _metric(what: str, kind: str, value: float, relay: str, about: str) -> str:
    name = f"finresilience_relay_{what}"
    return f'# HELP {name} {about}\n# TYPE {name} {kind}\n{name}{{relay="{relay}"}} {value}\n'


# --- over HTTP -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def served(health: Health, at: tuple[str, int] | None) -> AsyncGenerator[str]:
    """Answer at this address while the block runs; yield the address, "" without one."""
    if at is None:
        yield ""
        return
    open_ones: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(open_ones) >= _AT_ONCE:
            writer.transport.abort()
            return
        open_ones[task] = writer
        try:
            await _answered(health, reader, writer)
        finally:
            del open_ones[task]
            writer.close()

    try:
        server = await asyncio.start_server(on_connection, at[0], at[1], limit=_LONGEST_HEAD)
    except OSError as error:
        raise ConfigurationError(f"--health cannot listen there ({error.strerror}): give a host and port that are free") from None
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.close()
        for writer in open_ones.values():
            writer.transport.abort()  # not the task: asyncio would log that it was cancelled
        if open_ones:
            await asyncio.wait(list(open_ones), timeout=_PATIENCE)


async def _answered(health: Health, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_PATIENCE):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                head = b""
            writer.write(_response(health, head))
            await writer.drain()


def _response(health: Health, head: bytes) -> bytes:
    words = head.partition(b"\r\n")[0].split(b" ")
    path = words[1].partition(b"?")[0] if len(words) == 3 and words[2].startswith(b"HTTP/1.") else b""
    if not path:
        return _reply(400, "one request, of at most 8 KiB\n")
    if words[0] != b"GET":
        return _reply(405, "only GET\n", more="Allow: GET\r\n")
    if path == b"/healthz":
        told = health.as_dict()
        return _reply(200 if told["healthy"] else 503, json.dumps(told) + "\n", kind="application/json")
    if path == b"/metrics":
        return _reply(200, health.metrics(), kind="text/plain; version=0.0.4; charset=utf-8")
    return _reply(404, "there are /healthz and /metrics\n")


def _reply(status: int, body: str, *, kind: str = "text/plain; charset=utf-8", more: str = "") -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
        f"Cache-Control: no-store\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + content
