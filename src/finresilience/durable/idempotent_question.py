"""Which key is this call for, whose is it, and which request does it belong to? Asked once for each call, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, final

from finresilience._checks import refuse
from finresilience.context import checked_key, derive_key
from finresilience.durable.fingerprints import fingerprint_of
from finresilience.errors import MissingKeyError
from finresilience.policies.decorate import Kind, kind_of, not_a_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature

NOTHING_SENT: Final = "nothing was sent, so no money moved"


@final
@dataclass(frozen=True, slots=True)
class Question:
    """What the store is asked for."""

    key: str = field(repr=False)
    fingerprint: str = field(repr=False)


@final
class Asker:
    """Ask the three functions of one operation.

    Args:
        name: the operation.
        key: from the arguments to the client's key.
        scope: from the arguments to whose key it is.
        fingerprint: from the arguments to what makes two requests one.
        fn: whose arguments they are.
    """

    __slots__ = ("_fingerprint", "_key", "_name", "_scope", "_signature")

    def __init__(
        self,
        name: str,
        key: Callable[..., str | None],
        scope: Callable[..., str],
        fingerprint: Callable[..., object],
        fn: Callable[..., Any],
    ) -> None:
        self._name = name
        self._key = key
        self._scope = scope
        self._fingerprint = fingerprint
        self._signature = _signature_of(fn)

    def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question:
        """Return the question, or raise: a call without a key, or of nobody, is not made."""
        if kwargs and self._signature is not None:
            bound = self._signature.bind(*args, **kwargs)  # pay(req) and pay(req=req) are one request
            args, kwargs = bound.args, bound.kwargs
        key = self._asked("key", self._key, args, kwargs)
        if key is None:
            raise MissingKeyError(
                f"{self._name} is idempotent by its key, and key= gave none for this call.\n"
                "  Nothing was sent, so no money moved.\n"
                "  Refuse the request, or let key= take the id of the payment in your own records."
            )
        scope = self._asked("scope", self._scope, args, kwargs)
        fingerprint = fingerprint_of(self._asked("fingerprint", self._fingerprint, args, kwargs))
        return Question(derive_key(self._checked("key", key), self._checked("scope", scope)), fingerprint)

    def _checked(self, argument: str, value: object) -> str:
        try:
            return checked_key(value)
        except Exception as error:
            error.add_note(f"finresilience: it came from {argument}= of {self._name}; {NOTHING_SENT}")
            raise

    def _asked(self, argument: str, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        try:
            answer = function(*args, **kwargs)
            if hasattr(type(answer), "__await__"):
                raise not_a_value(f"{argument}= of {self._name}", answer)
        except Exception as error:
            error.add_note(f"finresilience: raised by {argument}= of {self._name}; {NOTHING_SENT}")
            raise
        return answer


def _signature_of(fn: Callable[..., Any]) -> Signature | None:
    try:
        return signature(fn)
    except (TypeError, ValueError):  # a builtin has none
        return None


def checked_question(argument: str, function: Any) -> Any:
    """Return `function` if it can be asked about a call's arguments: it is there, and not async."""
    wanted = "a plain function of the call's arguments, such as lambda req: "
    examples = {"key": "req.payment_id", "scope": "req.account", "fingerprint": "(req.amount, req.to), or fingerprint_of for all of them"}
    if not callable(function) or kind_of(function) is not Kind.SYNC:
        refuse(argument, function, wanted + examples[argument])
    return function
