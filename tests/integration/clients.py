"""The five HTTP clients behind one face: post something, with or without patience, and see what comes back or is raised."""

from __future__ import annotations

import functools
import ssl
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import httpx
import httpx2
import requests
import requests.adapters
import urllib3

from tests.integration.faulty_server import CERTIFICATE

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = b"amount=5000&currency=USD&" + b"x" * 500_000  # more than the buffers of both kernels hold at once


@dataclass(frozen=True)
class How:
    """How a request is to be made."""

    method: str = "POST"
    patience: float = 10.0  # each phase; long, so that a busy machine changes nothing
    follow: bool = False
    trust: bool = False
    proxy: str | None = None
    raising: bool = False  # raise_for_status
    pool: int = 0  # how many connections are held open by others, of one that there are
    total: float | None = None
    retries: int = 0
    twice: bool = False  # once before, on the same connection


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


def httpx_kwargs(library: Any, how: How) -> dict[str, Any]:
    return {
        "timeout": library.Timeout(how.patience),
        "limits": library.Limits(max_connections=1),
        "follow_redirects": how.follow,
        "verify": trusting() if how.trust else True,
        "trust_env": False,
        "proxy": how.proxy,
    }


def httpx_sync(library: Any, url: str, how: How) -> object:
    with ExitStack() as stack:
        client = stack.enter_context(library.Client(**httpx_kwargs(library, how)))
        for _ in range(how.pool):
            stack.enter_context(client.stream("GET", url.replace("charges", "held")))
        for _ in range(how.twice):
            client.request(how.method, url, content=BODY)
        response = client.request(how.method, url, content=BODY)
        return response.raise_for_status() if how.raising else response


async def httpx_async(library: Any, url: str, how: How) -> object:
    async with library.AsyncClient(**httpx_kwargs(library, how)) as client:
        for _ in range(how.pool):
            held = client.build_request("GET", url.replace("charges", "held"))
            await client.send(held, stream=True)
        for _ in range(how.twice):
            await client.request(how.method, url, content=BODY)
        response = await client.request(how.method, url, content=BODY)
        return response.raise_for_status() if how.raising else response


async def aiohttp_async(url: str, how: How) -> object:
    limits = aiohttp.ClientTimeout(total=how.total, connect=how.patience, sock_connect=how.patience, sock_read=how.patience)
    if how.total:
        limits = aiohttp.ClientTimeout(total=how.total)
    connector = aiohttp.TCPConnector(limit=1, ssl=trusting() if how.trust else True)
    async with aiohttp.ClientSession(connector=connector, timeout=limits, proxy=how.proxy) as session:
        held = [await session.get(url.replace("charges", "held")) for _ in range(how.pool)]
        try:
            for _ in range(how.twice):
                async with session.request(how.method, url, data=BODY) as earlier:
                    await earlier.read()
            async with session.request(how.method, url, data=BODY, allow_redirects=how.follow, raise_for_status=how.raising) as response:
                await response.read()
                return response
        finally:
            for one in held:
                one.close()


class PatientAdapter(requests.adapters.HTTPAdapter):
    """`requests` has no limit on the wait for its pool; urllib3 below it has."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.urlopen = functools.partial(type(pool).urlopen, pool, pool_timeout=0.1)
        return pool


def requests_sync(url: str, how: How) -> object:
    with requests.Session() as session:
        session.trust_env = False
        adapter = PatientAdapter if how.pool else requests.adapters.HTTPAdapter
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter(pool_maxsize=1, pool_block=True, max_retries=how.retries))
        session.verify = str(CERTIFICATE) if how.trust else True
        session.proxies = {"http": how.proxy, "https": how.proxy} if how.proxy else {}
        patience = (how.patience, how.patience)
        held = [session.get(url.replace("charges", "held"), stream=True, timeout=patience) for _ in range(how.pool)]
        try:
            response = session.request(how.method, url, data=BODY, timeout=patience, allow_redirects=how.follow)
            if how.raising:
                response.raise_for_status()
            return response
        finally:
            for one in held:
                one.close()


def urllib3_sync(url: str, how: How, *, retries: object = None) -> object:
    settings: dict[str, Any] = {"maxsize": 1, "block": True, "timeout": urllib3.Timeout(connect=how.patience, read=how.patience)}
    if how.trust:
        settings["ca_certs"] = str(CERTIFICATE)
    manager = urllib3.ProxyManager(how.proxy, **settings) if how.proxy else urllib3.PoolManager(**settings)
    with manager:
        retries = urllib3.Retry(total=how.retries, redirect=5) if how.retries or how.follow else retries
        if how.follow and not how.retries:
            retries = urllib3.Retry(total=None, connect=0, read=0, redirect=5)
        held = [manager.request("GET", url.replace("charges", "held"), preload_content=False) for _ in range(how.pool)]
        try:
            return manager.request(how.method, url, body=BODY, retries=retries, redirect=how.follow, pool_timeout=0.1)
        finally:
            for one in held:
                one.close()


@dataclass(frozen=True)
class Client:
    """One client, on one backend."""

    name: str
    send: Callable[[str, How], object]
    can_raise: bool = True

    def post(self, url: str, how: How | None = None, **changes: Any) -> object:
        return self.send(url, replace(how or How(), **changes))


def on(backend: str, function: Callable[..., Any], *first: object) -> Callable[[str, How], object]:
    return lambda url, how: anyio.run(function, *first, url, how, backend=backend)


CLIENTS = [
    Client("httpx", functools.partial(httpx_sync, httpx)),
    Client("httpx-asyncio", on("asyncio", httpx_async, httpx)),
    Client("httpx-trio", on("trio", httpx_async, httpx)),
    Client("httpx2", functools.partial(httpx_sync, httpx2)),
    Client("httpx2-asyncio", on("asyncio", httpx_async, httpx2)),
    Client("httpx2-trio", on("trio", httpx_async, httpx2)),
    Client("aiohttp", on("asyncio", aiohttp_async)),
    Client("requests", requests_sync),
    Client("urllib3", functools.partial(urllib3_sync, retries=False), can_raise=False),
    Client("urllib3-retries", functools.partial(urllib3_sync, retries=0), can_raise=False),
]
