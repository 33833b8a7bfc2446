"""A pipeline from data: every setting of it is used, and nothing that it says is ignored."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    Bulkhead,
    CircuitBreaker,
    ConfigurationError,
    CountWindow,
    Effect,
    Ok,
    Pipeline,
    PipelineConfig,
    RateLimiter,
    Retry,
    SlidingWindow,
    Timeout,
    TimeWindow,
    TokenBucket,
    current_key,
)
from finresilience.policies.config import _BACKOFFS
from tests.laws.worlds import still

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """
[pipelines."acme.charge"]
deadline = 8.0
effect = "idempotent"
marks_sent = true
inner_attempts = 3

[pipelines."acme.charge".circuit_breaker]
name = "acme"
window = {seconds = 30, buckets = 6}
failure_rate = 0.4
minimum_calls = 7
failure_count = 50
consecutive_failures = 9
slow_rate = 0.9
slow_after = 1.5
open_for = 12
half_open_calls = 2
probe_lease = 11.5

[pipelines."acme.charge".retry]
name = "again"
attempts = 4
backoff = {kind = "full", base = 0.1, cap = 5.0, factor = 3}
max_elapsed = 7
max_retry_after = 6

[pipelines."acme.charge".timeout]
name = "limit"
seconds = 2
exact = true
thread_limit = 5

[pipelines.other.timeout]
seconds = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "resilience.toml"
    path.write_text(WHOLE, encoding="utf-8")
    return path


def test_every_setting_of_the_file_reaches_its_policy(file: Path) -> None:
    pipeline = Pipeline.from_toml(str(file), "acme.charge")
    breaker, retry, timeout = pipeline.policies
    assert isinstance(breaker, CircuitBreaker)
    assert isinstance(retry, Retry)
    assert isinstance(timeout, Timeout)
    plan, settings = pipeline._plan, breaker.core.settings
    assert (pipeline.name, plan.deadline, plan.effect, plan.marks_sent) == ("acme.charge", 8.0, Effect.IDEMPOTENT, True)
    assert (breaker.name, repr(settings.window), len(settings.rules)) == ("acme", repr(TimeWindow(30, buckets=6)), 4)
    rules: Any = settings.rules
    assert (rules[0].rate, rules[0].minimum_calls) == (0.4, 7)
    assert (rules[1].rate, rules[1].after, rules[1].minimum_calls) == (0.9, 1.5, 7)
    assert (rules[2].failures, rules[3].failures) == (50, 9)
    assert (settings.open_for.base, settings.half_open_calls, settings.probe_lease, breaker.slow_after) == (12.0, 2, 11.5, 1.5)
    assert (retry.name, retry.settings.attempts, retry.settings.max_elapsed, retry.settings.max_retry_after) == ("again", 4, 7.0, 6.0)
    assert repr(retry.settings.backoff) == "FullJitter(base=0.1, cap=5)"
    assert retry.settings.backoff.wait(1, 1.0, 0.0)[0] == pytest.approx(0.3)
    assert (timeout.name, timeout.seconds, timeout.exact) == ("limit", 2.0, True)
    assert timeout.threads is not None
    assert timeout.threads.limit == 5
    assert pipeline.explain().attempts == 4 * 3


def test_the_gates_of_the_file_stand_in_their_places() -> None:
    data = {
        "bulkhead": {"limit": 20, "queue": 50, "max_wait": 0.5, "name": "room"},
        "quota": {"limit": 100, "per": 1.0, "burst": 20, "max_wait": 0.25},
        "retry": {"attempts": 2},
        "rate_limit": {"limit": 10, "per": 60, "sliding": True, "name": "turns"},
    }
    limiter, _, quota, bulkhead = PipelineConfig("acme", data).build().policies
    assert isinstance(limiter, RateLimiter)
    assert isinstance(quota, RateLimiter)
    assert isinstance(bulkhead, Bulkhead)
    assert (limiter.name, limiter.rule, limiter.max_wait) == ("turns", SlidingWindow(10, per=60), 0.0)
    assert (quota.name, quota.rule, quota.max_wait) == ("quota", TokenBucket(100, per=1.0, burst=20), 0.25)
    assert (bulkhead.name, bulkhead.limit, bulkhead.queue, bulkhead.max_wait) == ("room", 20, 50, 0.5)
    assert [type(policy) for policy in PipelineConfig("acme", {"quota": {"limit": 1, "per": 1}}).build().policies] == [RateLimiter]


def test_another_table_of_the_same_file_is_another_pipeline(file: Path) -> None:
    assert [type(policy) for policy in Pipeline.from_toml(str(file), "other").policies] == [Timeout]


def test_what_data_cannot_say_is_given_beside_it(file: Path) -> None:
    pipeline = Pipeline.from_toml(str(file), "acme.charge", key=lambda pay: pay, clock=still(), listeners=[])
    assert pipeline(lambda pay: current_key())("pay_1") == "pay_1:acme.charge"


def test_data_without_a_policy_is_a_pipeline_of_none() -> None:
    pipeline = PipelineConfig("acme", {}).build(clock=still(), listeners=[])
    assert (pipeline.policies, pipeline.outcome(lambda: "ok").unwrap()) == ((), "ok")


def test_a_breaker_without_a_name_takes_the_pipelines() -> None:
    assert PipelineConfig("acme.charge", {"circuit_breaker": {}}).build().policies[0].name == "acme.charge"


def test_each_build_makes_new_policies_and_leaves_the_data_as_it_was() -> None:
    data: dict[str, Any] = {
        "retry": {"attempts": 2, "backoff": {"kind": "constant", "base": 1}},
        "circuit_breaker": {"window": {"calls": 9}},
    }
    config = PipelineConfig("acme", data)
    first, second = config.build(), config.build()
    assert not set(first.policies) & set(second.policies)
    assert data["retry"]["backoff"] == {"kind": "constant", "base": 1}
    assert isinstance(first.outcome(lambda: "ok"), Ok)


@pytest.mark.parametrize("kind", _BACKOFFS)
def test_every_schedule_can_be_named(kind: str) -> None:
    retry: Any = PipelineConfig("acme", {"retry": {"attempts": 2, "backoff": {"kind": kind, "base": 0.5}}}).build().policies[0]
    assert type(retry.settings.backoff) is _BACKOFFS[kind]


def test_a_schedule_without_a_kind_has_full_jitter() -> None:
    retry: Any = PipelineConfig("acme", {"retry": {"attempts": 2, "backoff": {"base": 0.5}}}).build().policies[0]
    assert type(retry.settings.backoff) is _BACKOFFS["full"]


def test_a_window_is_by_time_or_by_count() -> None:
    breaker: Any = PipelineConfig("acme", {"circuit_breaker": {"window": {"calls": 100}}}).build().policies[0]
    assert repr(breaker.core.settings.window) == repr(CountWindow(100))


# --- nothing is ignored --------------------------------------------------------------------------------------------

BREAKER, RETRY, TIMEOUT = "circuit_breaker", "retry", "timeout"
RATE_LIMIT, QUOTA, BULKHEAD = "rate_limit", "quota", "bulkhead"


@pytest.mark.parametrize(
    ("data", "way_out"),
    [
        (
            {"dedline": 3},
            r"unknown settings \['dedline'\]: it takes rate_limit, circuit_breaker, retry, quota, bulkhead, timeout, deadline, effect",
        ),
        ({"key": "x"}, "unknown settings"),
        ({BREAKER: {"failure_rat": 0.5}}, r"circuit_breaker has unknown settings \['failure_rat'\]: it takes name, window, failure_rate"),
        (
            {RETRY: {"attempts": 2, "tries": 3, "budgets": 1}},
            r"retry has unknown settings \['budgets', 'tries'\]: it takes attempts, backoff",
        ),
        ({TIMEOUT: {"second": 2}}, r"timeout has unknown settings \['second'\]: it takes seconds, exact, thread_limit, name"),
        ({BREAKER: {"window": {"second": 2}}}, r"window has unknown settings \['second'\]: it takes seconds, buckets"),
        ({BREAKER: {"window": {"calls": 2, "seconds": 2}}}, r"window has unknown settings \['seconds'\]: it takes calls"),
        ({RETRY: {"attempts": 2, "backoff": {"step": 2}}}, r"backoff has unknown settings \['step'\]: it takes base, cap, factor"),
        ({RETRY: {}}, "retry: .*'attempts'"),
        ({BULKHEAD: {}}, "bulkhead: .*'limit'"),
        ({BULKHEAD: {"limit": 2, "size": 3}}, r"bulkhead has unknown settings \['size'\]: it takes limit, queue, max_wait"),
        ({QUOTA: {"per": 1}}, "quota: .*'limit'"),
        ({QUOTA: {"limit": 1, "per": 1, "burst": 2, "sliding": True}}, r"quota has unknown settings \['burst'\]: it takes limit, per"),
        ({RATE_LIMIT: {"limit": 1, "per": 1}}, "rate_limit is asked once for a whole call"),
        ({TIMEOUT: {}}, "timeout: .*'seconds'"),
        ({BREAKER: {"window": {}}}, "window: .*'seconds'"),
        ({RETRY: {"attempts": 2, "backoff": {}}}, "backoff: .*'base'"),
    ],
    ids=str,
)
def test_what_is_unknown_or_missing_is_refused_with_the_way_out(data: dict[str, Any], way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        PipelineConfig("acme", data)


@pytest.mark.parametrize("name", ["clock", "chance", "listeners", "classify"])
@pytest.mark.parametrize("section", [{BREAKER: {}}, {RETRY: {"attempts": 2}}, {TIMEOUT: {"seconds": 2}}], ids=str)
def test_what_only_an_object_can_say_is_refused_in_data(section: dict[str, dict[str, Any]], name: str) -> None:
    data = {policy: {**settings, name: "x"} for policy, settings in section.items()}
    with pytest.raises(ConfigurationError, match=rf"unknown settings \['{name}'\]"):
        PipelineConfig("acme", data)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"deadline": "8 s"}, r"^deadline="),
        ({"deadline": -1}, r"^deadline=-1"),
        ({"deadline": 0}, r"^deadline=0"),
        ({"deadline": True}, r"^deadline="),
        ({"deadline": float("nan")}, r"^deadline=nan"),
        ({"effect": "safe"}, "^effect must be one of read, idempotent, idempotent_by_nature, unsafe"),
        ({"effect": 5}, "^effect must be one of"),
        ({"marks_sent": "no"}, r"^marks_sent="),
        ({"marks_sent": 1}, r"^marks_sent="),
        ({"inner_attempts": 0}, r"^inner_attempts=0"),
        ({BREAKER: 5}, "circuit_breaker must be a table of settings, not a int"),
        ({RETRY: [1]}, "retry must be a table of settings, not a list"),
        ({TIMEOUT: 2.0}, "timeout must be a table of settings, not a float"),
        ({TIMEOUT: {"seconds": "2"}}, r"^seconds="),
        ({BULKHEAD: {"limit": 0}}, r"^limit=0"),
        ({BULKHEAD: 3}, "bulkhead must be a table of settings, not a int"),
        ({QUOTA: {"limit": 1, "per": 0}}, r"^per=0"),
        ({QUOTA: {"limit": 1, "per": 1, "sliding": "yes"}}, r"^quota.sliding="),
        ({QUOTA: {"limit": 1, "per": 1, "max_wait": -1}}, r"^max_wait=-1"),
        ({TIMEOUT: {"seconds": 2, "exact": "no"}}, r"^exact="),
        ({BREAKER: {"window": 60}}, "window must be a table of settings, not a int"),
        ({BREAKER: {"open_for": {"base": 1}}}, r"^open_for="),
        ({RETRY: {"attempts": 2, "backoff": 1}}, "backoff must be a table of settings, not a int"),
        ({RETRY: {"attempts": 2, "backoff": {"kind": "fast"}}}, r"^backoff.kind must be one of constant, linear"),
        ({RETRY: {"attempts": 2, "backoff": {"base": -1}}}, r"^base=-1"),
    ],
    ids=str,
)
def test_what_is_unusable_is_refused_by_name(data: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        PipelineConfig("acme", data)


@pytest.mark.parametrize("data", [None, 5, "x", [("deadline", 3)]], ids=repr)
def test_what_is_no_table_is_refused(data: Any) -> None:
    with pytest.raises(ConfigurationError, match="pipeline must be a table"):
        PipelineConfig("acme", data)


@pytest.mark.parametrize("name", ["", 5, None, "a\nb"], ids=repr)
def test_an_unusable_name_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^name="):
        PipelineConfig(name, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"pipelines = 5", r'has no \[pipelines."acme"\]'),
        (b"[pipelines]\nacme = 5", r'has no \[pipelines."acme"\]'),
        (b"[pipelines.other]", r'has no \[pipelines."acme"\]'),
        (b"", r'has no \[pipelines."acme"\]'),
        (b"[pipelines", "cannot be read as TOML"),
        (b"\xff\xfe[pipelines]", "cannot be read as TOML"),
        (b"[pipelines.acme.timeout]\nseconds = 00:00:02", r"^seconds="),
    ],
    ids=repr,
)
def test_a_file_that_does_not_hold_the_pipeline_is_refused(tmp_path: Path, text: bytes, told: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigurationError, match=told):
        PipelineConfig.from_toml(str(path), "acme")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.toml cannot be read"):
        Pipeline.from_toml(str(tmp_path / "missing.toml"), "acme")


def test_settings_that_clash_are_refused_where_they_are_read() -> None:
    with pytest.raises(ConfigurationError, match="slow_rate and slow_after belong together"):
        PipelineConfig("acme", {BREAKER: {"slow_rate": 0.5}})
