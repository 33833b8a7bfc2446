"""How are the requests of a client guarded? Whose pipeline, what happens if one is sent twice, and under which key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from finresilience._checks import positive_count, refuse
from finresilience.context import current
from finresilience.errors import ConfigurationError, NoRouteError
from finresilience.integrations._exchange import KEY_HEADER, Exchange
from finresilience.outcome import Effect
from finresilience.policies.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable

Hosts: TypeAlias = Mapping[str, Pipeline] | Callable[[str], Pipeline | None]
EffectOf: TypeAlias = Callable[[Any], Effect | None]  # of the client's own request object

READ_UP_TO: Final = 1_048_576  # bytes of an answer that are read inside the guard

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # they move nothing (RFC 9110, 9.2.1)
_BY_NATURE: Final = frozenset({"PUT", "DELETE"})  # RFC 9110, 9.2.2: idempotent, if the server keeps its word
_KEYED: Final = frozenset({"POST", "PATCH"})  # for these, a key that is in the air is taken for theirs


def needs(extra: str, missing: ModuleNotFoundError) -> ImportError:
    """Return the error that says what to install; something else that is missing is told as it is."""
    if missing.name != extra:
        return missing
    return ImportError(f"finresilience.integrations.{extra} needs {extra}: pip install 'finresilience[{extra}]'", name=extra)


@final
class Rules:
    """How the requests of one client are guarded. Immutable.

    Args:
        owner: the class that speaks, for messages.
        kind: the class of the client's responses.
        guard: guards each host that `by_host` does not name.
        by_host: pipelines by host, or by "host:port"; or a function of the host. Without `guard`, other hosts are refused.
        effect: what happens if this request is carried out twice, where you know better than its method; None for "do not know".
        by_nature: of PUT and DELETE, those that your provider lets repeat without harm.
        key_header: the header that the provider takes the idempotency key in; None if it takes none.
        send_headers: whether to tell the provider the time left and the number of earlier attempts.
        read_up_to: bytes of an answer that are read inside the guard.
    """

    __slots__ = ("_by_nature", "_effect", "_guard", "_hosts", "_owner", "key_header", "kind", "read_up_to", "send_headers")

    def __init__(
        self,
        owner: str,
        guard: Pipeline | None,
        *,
        kind: type[Any],
        by_host: Hosts | None = None,
        effect: EffectOf | None = None,
        by_nature: Iterable[str] = (),
        key_header: str | None = KEY_HEADER,
        send_headers: bool = True,
        read_up_to: int = READ_UP_TO,
    ) -> None:
        self._owner = owner
        self.kind: type[Any] = kind
        self._guard = None if guard is None else _checked(guard)
        self._hosts = _checked_hosts(by_host)
        if self._guard is None and self._hosts is None:
            message = f"{owner} guards nothing: give it a Pipeline, or by_host={{'api.acme.test': acme}}"
            raise ConfigurationError(message)
        if effect is not None and not callable(effect):
            refuse("effect", effect, "a function of the request that returns an Effect, or None")
        if key_header is not None and not (isinstance(key_header, str) and key_header.strip()):
            refuse("key_header", key_header, "the name of a header, or None if the provider takes no key")
        if not isinstance(send_headers, bool):
            refuse("send_headers", send_headers, "True or False")
        self._effect = effect
        self._by_nature = _checked_methods(by_nature)
        self.key_header: str | None = key_header
        self.send_headers: bool = send_headers
        self.read_up_to: int = positive_count("read_up_to", read_up_to, least=0)

    def pipelines(self) -> list[Pipeline]:
        """Return the pipelines that can be known beforehand."""
        named = list(self._hosts.values()) if isinstance(self._hosts, dict) else []
        return named if self._guard is None else [self._guard, *named]

    def pipeline(self, host: str, port: int | None) -> Pipeline:
        """Return the pipeline that guards this host.

        Raises:
            NoRouteError: if none does: nothing was sent.
        """
        host = host.lower()
        found = self._hosts(host) if callable(self._hosts) else None
        if isinstance(self._hosts, dict):
            found = self._hosts.get(f"{host}:{port}") or self._hosts.get(host)
        found = found or self._guard
        if found is None:
            raise NoRouteError(self._owner, f"no pipeline guards the host {host}")
        return found

    def call(
        self, request: object, *, method: str, host: str, port: int | None, path: str, headers: Mapping[str, str], stoppable: bool
    ) -> Exchange:
        """Return the guard of one request.

        Args:
            request: the client's own object; rules, keys and references of the pipeline are functions of it.
            method: of HTTP.
            host: that it goes to.
            port: that it goes to, None for the usual one.
            path: without the query; the step that a key is derived for.
            headers: as the caller gave them.
            stoppable: whether it may turn out that the request must not be sent again: its body may be used up.
        """
        pipeline = self.pipeline(host, port)
        given = headers.get(self.key_header) if self.key_header is not None else None
        key = given if given and given.strip() else None
        method = method.upper()
        effect = (self._effect(request) if self._effect is not None else None) or self._effect_of(pipeline, method, key)
        if not isinstance(effect, Effect):
            refuse("effect", effect, "a function that returns an Effect, or None")
        return Exchange(self, pipeline._with_effect(effect), effect, key=key, step=f"{method} {path}", stoppable=stoppable)

    def _effect_of(self, pipeline: Pipeline, method: str, key: str | None) -> Effect:
        if method in _SAFE:
            return Effect.READ
        plan = pipeline._plan
        if key is not None or plan.effect is Effect.IDEMPOTENT:
            return Effect.IDEMPOTENT
        context = current.get()
        in_the_air = context is not None and context.base_key is not None and method in _KEYED
        if self.key_header is not None and (in_the_air or plan.key_of is not None):
            return Effect.IDEMPOTENT
        return Effect.IDEMPOTENT_BY_NATURE if method in self._by_nature else Effect.UNSAFE


def warn_of_retries(pipelines: list[Pipeline], what: str, attempts: int) -> None:
    """Warn of a client that retries by itself: each attempt of ours may be several of its own. Told once, and by `explain()`."""
    if pipelines and all(pipeline._inner_attempts >= attempts for pipeline in pipelines):
        return
    for pipeline in pipelines:
        pipeline._inner_attempts = max(pipeline._inner_attempts, attempts)
    import logging

    names = ", ".join(dict.fromkeys(pipeline.name for pipeline in pipelines)) or "the pipeline"
    logging.getLogger("finresilience").warning(
        "%s: %s makes %d attempts by itself inside each of ours: switch its retries off", names, what, attempts
    )


def _checked(guard: object) -> Pipeline:
    if not isinstance(guard, Pipeline):
        refuse("guard", guard, "a Pipeline")
    if guard._plan.effect in {Effect.READ, Effect.IDEMPOTENT_BY_NATURE}:
        message = (
            f"{guard.name} says {guard._plan.effect.name} of every call, but a client makes calls of many kinds: leave its effect= out, "
            "and say by effect= or by_nature= here what you know of single requests"
        )
        raise ConfigurationError(message)
    return guard


def _checked_hosts(by_host: Hosts | None) -> dict[str, Pipeline] | Callable[[str], Pipeline | None] | None:
    if by_host is None:
        return None
    if isinstance(by_host, Mapping):
        return {str(host).lower(): _checked(pipeline) for host, pipeline in by_host.items()}
    if not callable(by_host):
        refuse("by_host", by_host, "a mapping of hosts to pipelines, or a function of the host")
    of_host = by_host

    def pipeline_of(host: str) -> Pipeline | None:
        found = of_host(host)
        return None if found is None else _checked(found)

    return pipeline_of


def _checked_methods(methods: Iterable[str]) -> frozenset[str]:
    told = frozenset({methods} if isinstance(methods, str) else methods)
    if not told <= _BY_NATURE:
        message = (
            f"by_nature={sorted(map(str, told))} cannot work: only PUT and DELETE are idempotent in HTTP. "
            "Give a POST or a PATCH an idempotency key, or say what you know of a single request by effect="
        )
        raise ConfigurationError(message)
    return told
