"""The guarded clients behind one face: each is opened once, sends any number of requests, and has a pool of one connection."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio.from_thread
import httpx
import httpx2
import requests
import requests.adapters

from finresilience.integrations import CallNotes, httpx as guarding_httpx, httpx2 as guarding_httpx2, notes_of
from finresilience.integrations.aiohttp import resilient_middleware
from finresilience.integrations.requests import ResilientAdapter
from tests.integration.clients import POOL_WAIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

CLIENT_ERRORS = (httpx.HTTPError, httpx2.HTTPError, aiohttp.ClientError, requests.RequestException)
PATIENCE = 10.0  # seconds; long where nothing is waited for, so that a busy machine changes nothing


@dataclass(frozen=True)
class Answer:
    """What a caller gets."""

    status: int
    body: bytes
    notes: CallNotes | None
    seconds: float | None = None


Send = "Callable[..., Answer]"


@contextmanager
def _httpx(library: Any, guarding: Any, *guard: Any, pool: int = 1, **rules: Any) -> Iterator[Any]:
    inner = library.HTTPTransport(limits=library.Limits(max_connections=pool), trust_env=False, verify=False)
    timeout = library.Timeout(PATIENCE, pool=POOL_WAIT)
    with library.Client(transport=guarding.ResilientTransport(*guard, transport=inner, **rules), timeout=timeout) as client:

        def send(method: str, url: str, **request: Any) -> Answer:
            response = client.request(method, url, **request)
            return Answer(response.status_code, response.content, notes_of(response), response.elapsed.total_seconds())

        yield send


@asynccontextmanager
async def _async_httpx(library: Any, guarding: Any, *guard: Any, pool: int = 1, **rules: Any) -> AsyncIterator[Any]:
    inner = library.AsyncHTTPTransport(limits=library.Limits(max_connections=pool), trust_env=False, verify=False)
    timeout = library.Timeout(PATIENCE, pool=POOL_WAIT)
    async with library.AsyncClient(transport=guarding.AsyncResilientTransport(*guard, transport=inner, **rules), timeout=timeout) as client:

        async def send(method: str, url: str, **request: Any) -> Answer:
            response = await client.request(method, url, **request)
            return Answer(response.status_code, response.content, notes_of(response), response.elapsed.total_seconds())

        yield send


@asynccontextmanager
async def _aiohttp(*guard: Any, pool: int = 1, **rules: Any) -> AsyncIterator[Any]:
    middlewares = (resilient_middleware(*guard, **rules),)
    timeout = aiohttp.ClientTimeout(total=None, connect=POOL_WAIT, sock_read=PATIENCE)
    connector = aiohttp.TCPConnector(limit=pool)
    async with aiohttp.ClientSession(connector=connector, middlewares=middlewares, timeout=timeout) as session:

        async def send(method: str, url: str, *, content: Any = None, **request: Any) -> Answer:
            async with session.request(method, url, data=content, **request) as response:
                return Answer(response.status, await response.read(), notes_of(response))

        yield send


class _Impatient(requests.adapters.HTTPAdapter):
    """`requests` waits for its pool for ever; urllib3 below it need not."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.urlopen = functools.partial(type(pool).urlopen, pool, pool_timeout=POOL_WAIT)
        return pool


@contextmanager
def _requests(*guard: Any, pool: int = 1, **rules: Any) -> Iterator[Any]:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", ResilientAdapter(*guard, adapter=_Impatient(pool_maxsize=pool, pool_block=True), **rules))

        def send(method: str, url: str, *, content: Any = None, **request: Any) -> Answer:
            response = session.request(method, url, data=content, timeout=PATIENCE, **request)
            return Answer(response.status_code, response.content, notes_of(response), response.elapsed.total_seconds())

        yield send


@contextmanager
def _in_portal(backend: str, opened: Callable[..., Any], *guard: Any, **rules: Any) -> Iterator[Any]:
    """Open an async client in a loop of its own thread; every call of it is made there."""
    with anyio.from_thread.start_blocking_portal(backend) as portal:
        with portal.wrap_async_context_manager(opened(*guard, **rules)) as asend:

            def send(method: str, url: str, **request: Any) -> Answer:
                return portal.call(functools.partial(asend, method, url, **request))

            yield send


@dataclass(frozen=True)
class Guarded:
    """One guarded client, on one backend."""

    name: str
    open: Callable[..., AbstractContextManager[Any]]

    @property
    def is_async(self) -> bool:
        return " on " in self.name or self.name == "aiohttp"


GUARDED = [
    Guarded("httpx", functools.partial(_httpx, httpx, guarding_httpx)),
    Guarded("httpx on asyncio", functools.partial(_in_portal, "asyncio", functools.partial(_async_httpx, httpx, guarding_httpx))),
    Guarded("httpx on trio", functools.partial(_in_portal, "trio", functools.partial(_async_httpx, httpx, guarding_httpx))),
    Guarded("httpx2", functools.partial(_httpx, httpx2, guarding_httpx2)),
    Guarded("httpx2 on asyncio", functools.partial(_in_portal, "asyncio", functools.partial(_async_httpx, httpx2, guarding_httpx2))),
    Guarded("httpx2 on trio", functools.partial(_in_portal, "trio", functools.partial(_async_httpx, httpx2, guarding_httpx2))),
    Guarded("aiohttp", functools.partial(_in_portal, "asyncio", _aiohttp)),
    Guarded("requests", _requests),
]
