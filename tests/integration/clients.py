"""The five HTTP clients behind one face: send something, and see what comes back or is raised."""

from __future__ import annotations

import functools
import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import anyio.lowlevel
import httpx
import httpx2
import requests
import requests.adapters
import urllib3

from tests.integration.faulty_server import CERTIFICATE

if TYPE_CHECKING:
    from collections.abc import Callable

POOL_WAIT = 0.1  # seconds
BODY = b"amount=5000&currency=USD&" + b"x" * 200_000


@dataclass(frozen=True)
class How:
    """How a request is to be made. What a client does not know, it ignores."""

    method: str = "POST"
    connect: float = 10.0  # seconds; long where nothing is waited for, so that a busy machine changes nothing
    read: float = 10.0
    total: float | None = None  # for all together, where a client has such a limit
    follow: bool = False  # redirects
    trust: bool = False  # the server's certificate
    proxy: str | None = None
    retries: int = 0  # of the client's own
    raising: bool = False  # raise_for_status
    crowded: bool = False  # the only connection of the pool is in use
    again: bool = False  # a second request, on the connection that the first one left open


@functools.cache
def tls(*, trust: bool) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE) if trust else None)


def held(url: str) -> str:
    return url.replace("charges", "held")


def _httpx_settings(library: Any, how: How) -> dict[str, Any]:
    return {
        "timeout": library.Timeout(10.0, connect=how.connect, read=how.read, pool=POOL_WAIT),
        "limits": library.Limits(max_connections=1),
        "follow_redirects": how.follow,
        "verify": tls(trust=how.trust),
        "trust_env": False,
        "proxy": how.proxy,
    }


def httpx_sync(library: Any, url: str, how: How) -> object:
    with library.Client(**_httpx_settings(library, how)) as client:
        if how.crowded:
            client.send(client.build_request("GET", held(url)), stream=True)
        if how.again:
            client.request(how.method, url, content=BODY)
        response = client.request(how.method, url, content=BODY)
        return response.raise_for_status() if how.raising else response


async def httpx_async(library: Any, url: str, how: How) -> object:
    async with library.AsyncClient(**_httpx_settings(library, how)) as client:
        if how.crowded:
            await client.send(client.build_request("GET", held(url)), stream=True)
        if how.again:
            await client.request(how.method, url, content=BODY)
        response = await client.request(how.method, url, content=BODY)
        return response.raise_for_status() if how.raising else response


async def aiohttp_async(url: str, how: How) -> object:
    limit = functools.partial(aiohttp.ClientTimeout, total=how.total, sock_connect=how.connect, sock_read=how.read)
    connector = aiohttp.TCPConnector(limit=1, ssl=tls(trust=how.trust))
    async with aiohttp.ClientSession(connector=connector, timeout=limit(), proxy=how.proxy) as session:
        in_use = [await session.get(held(url))] if how.crowded else []
        try:
            if how.again:
                async with session.request(how.method, url, data=BODY) as earlier:
                    await earlier.read()
            patience = limit(connect=POOL_WAIT) if how.crowded else limit()  # "connect" includes the wait for the pool
            options = {"timeout": patience, "allow_redirects": how.follow, "raise_for_status": how.raising}
            async with session.request(how.method, url, data=BODY, **options) as response:
                await response.read()
                return response
        finally:
            for one in in_use:
                one.close()
            await connector.close(abort_ssl=True)
            await anyio.lowlevel.checkpoint()  # what asyncio puts off to the next turn is done before the loop ends


class _Impatient(requests.adapters.HTTPAdapter):
    """`requests` waits for its pool for ever; urllib3 below it need not."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.urlopen = functools.partial(type(pool).urlopen, pool, pool_timeout=POOL_WAIT)
        return pool


def requests_sync(url: str, how: How) -> object:
    with ExitStack() as stack:
        session = stack.enter_context(requests.Session())
        session.trust_env = False
        session.verify = str(CERTIFICATE) if how.trust else True
        session.proxies = {"http": how.proxy, "https": how.proxy} if how.proxy else {}
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Impatient(pool_maxsize=1, pool_block=True, max_retries=how.retries))
        patience = (how.connect, how.read)
        if how.crowded:
            stack.enter_context(session.get(held(url), stream=True, timeout=patience))
        if how.again:
            session.request(how.method, url, data=BODY, timeout=patience)
        response = session.request(how.method, url, data=BODY, timeout=patience, allow_redirects=how.follow)
        if how.raising:
            response.raise_for_status()
        return response


def urllib3_sync(retries: object, url: str, how: How) -> object:
    settings: dict[str, Any] = {"maxsize": 1, "block": True, "cert_reqs": "CERT_REQUIRED"}
    settings["timeout"] = urllib3.Timeout(connect=how.connect, read=how.read)
    if how.trust:
        settings["ca_certs"] = str(CERTIFICATE)
    if how.follow:
        retries = urllib3.Retry(total=None, connect=0, read=0, redirect=5)
    if how.retries:
        retries = urllib3.Retry(how.retries)
    with ExitStack() as stack:
        manager = urllib3.ProxyManager(how.proxy, **settings) if how.proxy else urllib3.PoolManager(**settings)
        stack.enter_context(manager)
        if how.crowded:
            stack.callback(manager.request("GET", held(url), preload_content=False).close)
        if how.again:
            manager.request(how.method, url, body=BODY, retries=retries)
        return manager.request(how.method, url, body=BODY, retries=retries, redirect=how.follow, pool_timeout=POOL_WAIT)


@dataclass(frozen=True)
class Client:
    """One client, on one backend."""

    name: str
    send: Callable[[str, How], object]

    def __call__(self, url: str, **how: Any) -> object:
        return self.send(url, How(**how))


def _on(backend: str, function: Callable[..., Any], *first: object) -> Callable[[str, How], object]:
    return lambda url, how: anyio.run(function, *first, url, how, backend=backend)


CLIENTS = [
    Client("httpx", functools.partial(httpx_sync, httpx)),
    Client("httpx on asyncio", _on("asyncio", httpx_async, httpx)),
    Client("httpx on trio", _on("trio", httpx_async, httpx)),
    Client("httpx2", functools.partial(httpx_sync, httpx2)),
    Client("httpx2 on asyncio", _on("asyncio", httpx_async, httpx2)),
    Client("httpx2 on trio", _on("trio", httpx_async, httpx2)),
    Client("aiohttp", _on("asyncio", aiohttp_async)),
    Client("requests", requests_sync),
    Client("urllib3", functools.partial(urllib3_sync, False)),
    Client("urllib3 with retries", functools.partial(urllib3_sync, 0)),  # the same, inside a MaxRetryError
]
