"""Resilience for financial services: money moves once, or you know exactly why not.

The front door. Names load when they are first used, so that importing the library costs what you use of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finresilience.classify import http_classifier, payments_classifier, sql_classifier
    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock, SystemClock
    from finresilience.context import (
        attempt_budget,
        current_attempt,
        current_key,
        current_reference,
        deadline,
        derive_key,
        idempotency_key,
        mark_sent,
        outbound_headers,
        remaining,
    )
    from finresilience.cores.backoff import (
        Backoff,
        Constant,
        Custom,
        DecorrelatedJitter,
        DecorrelatedJitterV2,
        EqualJitter,
        Exponential,
        FullJitter,
        Linear,
        SymmetricJitter,
    )
    from finresilience.cores.breaker import CircuitState
    from finresilience.cores.budget import Budget, RatioBudget, TokenBudget
    from finresilience.cores.interval import OpenFor
    from finresilience.cores.trip import ConsecutiveFailures, FailureCount, FailureRate, SlowRate, TripRule
    from finresilience.cores.window import CountWindow, Tally, TimeWindow
    from finresilience.errors import (
        CircuitOpenError,
        ConfigurationError,
        CurrencyMismatchError,
        DeadlineExceededError,
        DecorationError,
        ExpiredError,
        FinresilienceError,
        InvalidMoneyError,
        MissingKeyError,
        RefusedError,
        ResultError,
        ThreadLimitError,
        UnknownOutcomeError,
    )
    from finresilience.events import (
        CallAbandoned,
        CallRefused,
        CircuitChanged,
        Event,
        InquiryAnswered,
        LateResult,
        Listener,
        OutcomeUnknown,
        ProbeLost,
        RetriesExhausted,
        RetryScheduled,
        ThresholdCrossed,
    )
    from finresilience.money import Money
    from finresilience.outcome import (
        NON_RETRYABLE,
        RETRYABLE,
        UNKNOWN,
        Classification,
        Declined,
        Effect,
        Failed,
        Found,
        NotFound,
        Ok,
        Outcome,
        Refused,
        StillUnknown,
        Unknown,
        Verdict,
    )
    from finresilience.policies.breaker import CircuitBreaker
    from finresilience.policies.config import PipelineConfig
    from finresilience.policies.pipeline import Pipeline
    from finresilience.policies.registry import Registry
    from finresilience.policies.retry import Retry
    from finresilience.policies.timeout import Timeout

__all__ = [
    "NON_RETRYABLE",
    "RETRYABLE",
    "UNKNOWN",
    "Backoff",
    "Budget",
    "CallAbandoned",
    "CallRefused",
    "CircuitBreaker",
    "CircuitChanged",
    "CircuitOpenError",
    "CircuitState",
    "Classification",
    "Clock",
    "ConfigurationError",
    "ConsecutiveFailures",
    "Constant",
    "CountWindow",
    "CurrencyMismatchError",
    "Custom",
    "DeadlineExceededError",
    "Declined",
    "DecorationError",
    "DecorrelatedJitter",
    "DecorrelatedJitterV2",
    "Effect",
    "EqualJitter",
    "ErrorClassifier",
    "Event",
    "ExpiredError",
    "Exponential",
    "Failed",
    "FailureCount",
    "FailureRate",
    "FinresilienceError",
    "Found",
    "FullJitter",
    "InquiryAnswered",
    "InvalidMoneyError",
    "LateResult",
    "Linear",
    "Listener",
    "MissingKeyError",
    "Money",
    "NotFound",
    "Ok",
    "OpenFor",
    "Outcome",
    "OutcomeUnknown",
    "Pipeline",
    "PipelineConfig",
    "ProbeLost",
    "RatioBudget",
    "Refused",
    "RefusedError",
    "Registry",
    "ResultError",
    "RetriesExhausted",
    "Retry",
    "RetryScheduled",
    "SlowRate",
    "StillUnknown",
    "SymmetricJitter",
    "SystemClock",
    "Tally",
    "ThreadLimitError",
    "ThresholdCrossed",
    "TimeWindow",
    "Timeout",
    "TokenBudget",
    "TripRule",
    "Unknown",
    "UnknownOutcomeError",
    "Verdict",
    "attempt_budget",
    "current_attempt",
    "current_key",
    "current_reference",
    "deadline",
    "derive_key",
    "http_classifier",
    "idempotency_key",
    "mark_sent",
    "outbound_headers",
    "payments_classifier",
    "remaining",
    "sql_classifier",
]

_HOMES = {
    "Backoff": "cores.backoff",
    "Budget": "cores.budget",
    "CallAbandoned": "events",
    "CallRefused": "events",
    "CircuitBreaker": "policies.breaker",
    "CircuitChanged": "events",
    "CircuitOpenError": "errors",
    "CircuitState": "cores.breaker",
    "Classification": "outcome",
    "Clock": "clock",
    "ConfigurationError": "errors",
    "ConsecutiveFailures": "cores.trip",
    "Constant": "cores.backoff",
    "CountWindow": "cores.window",
    "CurrencyMismatchError": "errors",
    "Custom": "cores.backoff",
    "DeadlineExceededError": "errors",
    "Declined": "outcome",
    "DecorationError": "errors",
    "DecorrelatedJitter": "cores.backoff",
    "DecorrelatedJitterV2": "cores.backoff",
    "Effect": "outcome",
    "EqualJitter": "cores.backoff",
    "ErrorClassifier": "classify.classifier",
    "Event": "events",
    "ExpiredError": "errors",
    "Exponential": "cores.backoff",
    "Failed": "outcome",
    "FailureCount": "cores.trip",
    "FailureRate": "cores.trip",
    "FinresilienceError": "errors",
    "Found": "outcome",
    "FullJitter": "cores.backoff",
    "InquiryAnswered": "events",
    "InvalidMoneyError": "errors",
    "LateResult": "events",
    "Linear": "cores.backoff",
    "Listener": "events",
    "MissingKeyError": "errors",
    "Money": "money",
    "NON_RETRYABLE": "outcome",
    "NotFound": "outcome",
    "Ok": "outcome",
    "OpenFor": "cores.interval",
    "Outcome": "outcome",
    "OutcomeUnknown": "events",
    "Pipeline": "policies.pipeline",
    "PipelineConfig": "policies.config",
    "ProbeLost": "events",
    "RETRYABLE": "outcome",
    "RatioBudget": "cores.budget",
    "Refused": "outcome",
    "RefusedError": "errors",
    "Registry": "policies.registry",
    "ResultError": "errors",
    "RetriesExhausted": "events",
    "Retry": "policies.retry",
    "RetryScheduled": "events",
    "SlowRate": "cores.trip",
    "StillUnknown": "outcome",
    "SymmetricJitter": "cores.backoff",
    "SystemClock": "clock",
    "Tally": "cores.window",
    "ThreadLimitError": "errors",
    "ThresholdCrossed": "events",
    "TimeWindow": "cores.window",
    "Timeout": "policies.timeout",
    "TokenBudget": "cores.budget",
    "TripRule": "cores.trip",
    "UNKNOWN": "outcome",
    "Unknown": "outcome",
    "UnknownOutcomeError": "errors",
    "Verdict": "outcome",
    "attempt_budget": "context",
    "current_attempt": "context",
    "current_key": "context",
    "current_reference": "context",
    "deadline": "context",
    "derive_key": "context",
    "http_classifier": "classify",
    "idempotency_key": "context",
    "mark_sent": "context",
    "outbound_headers": "context",
    "payments_classifier": "classify",
    "remaining": "context",
    "sql_classifier": "classify",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
