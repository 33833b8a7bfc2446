"""Is it the same request? A digest over one spelling of it, so that a key is not used for two."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast
from uuid import UUID

from finresilience.durable.codecs import Json, as_bytes, money_to_json
from finresilience.errors import ConfigurationError
from finresilience.money import Money

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = "v1"  # a digest of another version is of another request: change the spelling never, or with a version
_DEEPEST: Final = 50


def fingerprint_of(*parts: object, **named: object) -> str:
    """Return the digest of a request: equal for equal requests, in every process and on every day.

    `fingerprint=fingerprint_of` compares all the arguments; a function of your own says which fields count. Known are text, numbers,
    bytes, Decimal (50.0 is 50.00), datetime (as an instant), UUID, enums, `Money`, dataclasses, msgspec structs, lists, tuples, sets
    and dicts with text for keys. What merely differs from call to call, such as a trace id, must be left out.

    Raises:
        ConfigurationError: for anything else: a digest of an object's address would never be equal again.

    >>> fingerprint_of({"amount": Decimal("50.0"), "to": "acc_1"}) == fingerprint_of({"to": "acc_1", "amount": Decimal("50.00")})
    True
    """
    told: Json = [_spelt(list(parts), 0), _spelt(named, 0)]
    return f"{VERSION}:{sha256(as_bytes(told)).hexdigest()}"


def _spelt(value: Any, depth: int) -> Json:
    """Return one JSON for each value. What JSON does not know is an object with one key that begins with "$", which no other object has."""
    if depth > _DEEPEST:
        message = f"the request is nested more than {_DEEPEST} deep, or contains itself: let fingerprint= return the fields that count"
        raise ConfigurationError(message)
    kind = type(value)
    if value is None or kind in {str, int, bool}:
        return cast("Json", value)
    if isinstance(value, Enum):
        return {"$enum": _spelt(value.value, depth + 1)}
    if kind in {list, tuple}:
        return [_spelt(part, depth + 1) for part in value]
    if isinstance(value, dict):
        return _object(cast("Mapping[Any, Any]", value), depth)
    fields_of = _fields(value)
    return _atom(value, depth) if fields_of is None else _object(fields_of, depth)


def _fields(value: Any) -> dict[str, Any] | None:
    if isinstance(value, type):
        return None
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    names = getattr(type(value), "__struct_fields__", None)  # a msgspec struct
    return None if names is None else {name: getattr(value, name) for name in names}


def _object(value: Mapping[Any, Any], depth: int) -> Json:
    if not all(type(name) is str for name in value):
        _refuse("a dict whose keys are not all text")
    return {f"${name}" if name.startswith("$") else name: _spelt(part, depth + 1) for name, part in value.items()}


def _atom(value: Any, depth: int) -> Json:
    if isinstance(value, Money):
        return {"$money": money_to_json(value)}
    if isinstance(value, Decimal) and value.is_finite():
        return {"$decimal": _exact(value)}
    if isinstance(value, float) and isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, datetime):
        return {"$at": value.isoformat() if value.tzinfo is None else value.astimezone(UTC).isoformat()}
    if isinstance(value, date | time):
        return {"$date": value.isoformat()}
    if isinstance(value, timedelta):
        return {"$span": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, bytes | bytearray):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, UUID):
        return {"$uuid": value.hex}
    if isinstance(value, set | frozenset):
        told = [_spelt(part, depth + 1) for part in cast("frozenset[Any]", value)]
        return {"$set": sorted(told, key=as_bytes)}
    return _refuse(f"a {type(value).__name__}")


def _exact(value: Decimal) -> str:
    """Return the one spelling of a number, exactly: `normalize` would round it to the context's precision."""
    sign, digits, exponent = value.as_tuple()
    whole = int("".join(map(str, digits)))
    if whole == 0:
        return "0"
    power = int(exponent)
    text = str(whole)
    stripped = text.rstrip("0")
    return f"{'-' if sign else ''}{stripped}e{power + len(text) - len(stripped)}"


def _refuse(what: str) -> NoReturn:
    message = (
        f"a fingerprint cannot be made of {what}: let fingerprint= return the fields that count, as text, numbers, Money or a dataclass"
    )
    raise ConfigurationError(message)
