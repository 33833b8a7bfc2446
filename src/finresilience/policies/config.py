"""A pipeline from data. What the data says must be known and usable; nothing is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

from finresilience._checks import refuse
from finresilience.cores import backoff
from finresilience.cores.window import CountWindow, TimeWindow
from finresilience.errors import ConfigurationError
from finresilience.outcome import Effect
from finresilience.policies.breaker import CircuitBreaker
from finresilience.policies.pipeline import Pipeline
from finresilience.policies.retry import Retry
from finresilience.policies.timeout import Timeout

if TYPE_CHECKING:
    from finresilience.policies.base import Policy

_SECTIONS = ("rate_limit", "circuit_breaker", "retry", "quota", "bulkhead", "timeout")
_PLAIN = ("deadline", "effect", "marks_sent", "inner_attempts")
_NO_DATA = frozenset({"budget", "chance", "classify", "clock", "effect", "listeners", "retry_result", "rules"})  # these are objects
_BACKOFFS = {
    "constant": backoff.Constant,
    "linear": backoff.Linear,
    "exponential": backoff.Exponential,
    "symmetric": backoff.SymmetricJitter,
    "full": backoff.FullJitter,
    "equal": backoff.EqualJitter,
    "decorrelated": backoff.DecorrelatedJitter,
    "decorrelated_v2": backoff.DecorrelatedJitterV2,
}


@final
class PipelineConfig:
    """The settings of one pipeline as data: `deadline`, `effect`, and a table each for the policies.

    The tables are `rate_limit` (asked once for a call), `circuit_breaker`, `retry`, `quota` (asked for each attempt), `bulkhead` and
    `timeout`.

    Args:
        name: the operation.
        data: the settings. `retry.backoff` is a table with `kind` and that schedule's arguments; `circuit_breaker.window` is
            `{seconds = 60}` or `{calls = 100}`. A limiter is `{limit = 100, per = 1.0, burst = 20, max_wait = 0.5}`, or, with
            `sliding = true`, one without `burst`.

    Raises:
        ConfigurationError: if anything in it is unknown or unusable.
    """

    __slots__ = ("data", "name")

    def __init__(self, name: str, data: Mapping[str, Any]) -> None:
        self.name: str = name
        self.data: dict[str, Any] = _table("pipeline", data)
        unknown = sorted(set(self.data) - {*_SECTIONS, *_PLAIN})
        if unknown:
            message = f"pipeline {name!r} has unknown settings {unknown}: it takes {', '.join((*_SECTIONS, *_PLAIN))}"
            raise ConfigurationError(message)
        self.build()

    @classmethod
    def from_toml(cls, path: str, name: str) -> PipelineConfig:
        """Read `[pipelines."name"]` of a TOML file."""
        import tomllib

        try:
            tables: Any = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("pipelines", {})
        except (OSError, ValueError) as error:  # not there, not UTF-8, or not TOML
            message = f"{path} cannot be read as TOML: {error}"
            raise ConfigurationError(message) from error
        if not isinstance(tables, dict) or not isinstance(tables.get(name), dict):
            message = f'{path} has no [pipelines."{name}"]'
            raise ConfigurationError(message)
        return cls(name, tables[name])

    def build(self, **rules: Any) -> Pipeline:
        """Return a new pipeline with these settings, and `rules` for what data cannot say."""
        plain = {key: self.data[key] for key in _PLAIN if key in self.data}
        if "effect" in plain:
            plain["effect"] = _chosen("effect", plain["effect"], {effect.value: effect for effect in Effect})
        if not isinstance(plain.get("marks_sent", False), bool):
            refuse("marks_sent", plain["marks_sent"], "true or false")
        return Pipeline(self.name, *self._policies(), **{**plain, **rules})

    def _policies(self) -> list[Policy]:
        made: list[Policy] = []
        if "rate_limit" in self.data:
            made.append(_limiter("rate_limit", self.data["rate_limit"]))
            if not {"circuit_breaker", "retry"} & set(self.data):
                message = "rate_limit is asked once for a whole call, so it needs a circuit_breaker or a retry inside of it: take quota"
                raise ConfigurationError(message)
        if "circuit_breaker" in self.data:
            settings = _table("circuit_breaker", self.data["circuit_breaker"])
            if "window" in settings:
                settings["window"] = _window(_table("window", settings["window"]))
            made.append(_made(CircuitBreaker, "circuit_breaker", {"name": self.name, **settings}))
        if "retry" in self.data:
            settings = _table("retry", self.data["retry"])
            if "backoff" in settings:
                settings["backoff"] = _backoff(_table("backoff", settings["backoff"]))
            made.append(_made(Retry, "retry", settings))
        if "quota" in self.data:
            made.append(_limiter("quota", self.data["quota"]))
        if "bulkhead" in self.data:
            made.append(_made(_bulkhead(), "bulkhead", _table("bulkhead", self.data["bulkhead"])))
        if "timeout" in self.data:
            made.append(_made(Timeout, "timeout", _table("timeout", self.data["timeout"])))
        return made


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        message = f"{name} must be a table of settings, not a {type(value).__name__}"
        raise ConfigurationError(message)
    return dict(cast("Mapping[str, Any]", value))


def _chosen(name: str, value: object, choices: Mapping[str, Any]) -> Any:
    if not isinstance(value, str) or value not in choices:
        message = f"{name} must be one of {', '.join(choices)}"
        raise ConfigurationError(message)
    return choices[value]


def _made(kind: Any, name: str, settings: dict[str, Any]) -> Any:
    known = [setting for setting in signature(kind).parameters if setting not in _NO_DATA]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        message = f"{name} has unknown settings {unknown}: it takes {', '.join(known)}"
        raise ConfigurationError(message)
    try:
        return kind(**settings)
    except TypeError as error:  # an argument that is missing
        message = f"{name}: {error}"
        raise ConfigurationError(message) from error


def _bulkhead() -> Any:
    from finresilience.policies.bulkhead import Bulkhead

    return Bulkhead


def _limiter(name: str, value: object) -> Policy:
    """Return the limiter of a table: `limit`, `per`, and `burst` (a bucket) or `sliding = true`; `max_wait`."""
    from finresilience.cores.limiter import SlidingWindow, TokenBucket
    from finresilience.policies.limiter import RateLimiter

    settings = _table(name, value)
    sliding = settings.pop("sliding", False)
    if not isinstance(sliding, bool):
        refuse(f"{name}.sliding", sliding, "true or false")
    kind = SlidingWindow if sliding else TokenBucket
    own: dict[str, Any] = {key: settings.pop(key) for key in ("max_wait", "name") if key in settings}
    made: RateLimiter = _made(RateLimiter, name, {"rule": _made(kind, name, settings), "name": name.replace("_", " "), **own})
    return made


def _window(settings: dict[str, Any]) -> TimeWindow | CountWindow:
    made: TimeWindow | CountWindow = _made(CountWindow if "calls" in settings else TimeWindow, "window", settings)
    return made


def _backoff(settings: dict[str, Any]) -> Any:
    kind = _chosen("backoff.kind", settings.pop("kind", "full"), _BACKOFFS)
    return _made(kind, "backoff", settings)
