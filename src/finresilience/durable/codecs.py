"""How is an answer kept so that its replay is the same answer? As JSON of a declared type, never as a pickle.

A codec has `encode(value) -> bytes` and `decode(bytes) -> value`, and `decode(encode(value)) == value`. What cannot come back as it was
is refused by `encode`, with a `TypeError`: a replay that is nearly right is worse than none.
"""

from __future__ import annotations

from json import dumps, loads
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast, final

from finresilience._checks import refuse
from finresilience.errors import ConfigurationError
from finresilience.money import Money

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


class Codec(Protocol[T]):
    """Turns an answer into bytes and back. Any object with these two methods is one."""

    def encode(self, value: T, /) -> bytes:
        """Return the bytes to keep, or raise `TypeError` if `decode` could not give the same value back."""
        ...

    def decode(self, data: bytes, /) -> T:
        """Return the value that was kept, or raise `ValueError` or `TypeError` if these bytes are of another type."""
        ...


_PICKLES = frozenset({"pickle", "_pickle", "cloudpickle", "dill", "marshal", "_marshal", "shelve"})


def checked_codec(codec: Codec[T]) -> Codec[T]:
    """Return `codec` if it can serve: both methods, and no pickle behind them, which would run whatever stands in the table."""
    methods: list[object] = [getattr(codec, name, None) for name in ("encode", "decode")]
    if not all(callable(method) for method in methods):
        refuse("codec", codec, "a codec with encode and decode, such as dataclass_codec(Payment) or msgspec_codec(Payment)")
    homes = {str(getattr(method, "__module__", "")).partition(".")[0] for method in methods}
    if homes & _PICKLES:
        refuse(
            "codec", codec, "a codec that is no pickle: reading one runs whatever somebody wrote into the table. Take dataclass_codec(...)"
        )
    return codec


def as_bytes(value: Json) -> bytes:
    """Return JSON in one spelling only: sorted, compact, ASCII."""
    return dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


# ---------------------------------------------------------------- money


def money_to_json(money: Money) -> dict[str, Json]:
    """Return money as text and currency; with its decimals where ISO 4217 gives it none."""
    told: dict[str, Json] = {"amount": str(money.amount), "currency": money.currency}
    if "exponent=" in repr(money):
        told["exponent"] = money.exponent
    return told


def money_from_json(data: object) -> Money:
    """Return the money, from text only: a float, or a bare number, is no amount."""
    if not isinstance(data, dict):
        message = f"money is kept as an object with amount and currency, not as a {type(data).__name__}"
        raise TypeError(message)
    told = cast("Mapping[str, Any]", data)
    amount, currency, exponent = told.get("amount"), told.get("currency"), told.get("exponent")
    if not isinstance(amount, str) or not isinstance(currency, str):
        message = f"the amount of money is kept as text, not as a {type(amount).__name__}"
        raise TypeError(message)
    return Money(amount, currency, exponent=exponent)


# ---------------------------------------------------------------- plain JSON


@final
class JsonCodec:
    """JSON as it is: objects with text for keys, lists, text, whole and finite numbers, true, false, null."""

    __slots__ = ()

    def encode(self, value: Any, /) -> bytes:
        """Return the JSON, or raise `TypeError` for what would come back as something else: a tuple, a Decimal."""
        return as_bytes(_same_in_json(value, 0))

    def decode(self, data: bytes, /) -> Any:
        """Return what was kept."""
        return loads(data)

    def __repr__(self) -> str:
        return "json_codec()"


_DEEPEST = 100


def _same_in_json(value: Any, depth: int) -> Any:
    kind = type(value)
    if depth > _DEEPEST:
        message = f"the answer is nested more than {_DEEPEST} deep, or contains itself"
        raise TypeError(message)
    if value is None or kind in {str, int, bool} or (kind is float and isfinite(value)):
        return value
    if kind is list:
        return [_same_in_json(part, depth + 1) for part in value]
    if kind is dict and all(type(name) is str for name in value):
        return {name: _same_in_json(part, depth + 1) for name, part in value.items()}
    message = f"a {kind.__name__} does not come back from JSON as it was: give json_codec() plain JSON, or take dataclass_codec(...)"
    raise TypeError(message)


def json_codec() -> Codec[Any]:
    """Return the codec for answers that are plain JSON already."""
    return JsonCodec()


# ---------------------------------------------------------------- msgspec


@final
class MsgspecCodec:
    """Any type that msgspec knows, and `Money` in it. Made by `msgspec_codec`."""

    __slots__ = ("_decoder", "_encoder", "_name")

    def __init__(self, kind: Any) -> None:
        try:
            from msgspec import json
        except ImportError:
            message = "msgspec_codec needs msgspec: install finresilience[msgspec], or take dataclass_codec(...), which needs nothing"
            raise ConfigurationError(message) from None
        self._name = getattr(kind, "__name__", str(kind))
        self._encoder = json.Encoder(enc_hook=_money_out, order="deterministic")
        try:
            self._decoder: Any = json.Decoder(kind, dec_hook=_money_in)
        except TypeError as error:
            message = f"msgspec cannot read a {self._name} back from JSON, so no replay could return it: {error}"
            raise ConfigurationError(message) from error

    def encode(self, value: Any, /) -> bytes:
        """Return the JSON, having read it back: msgspec writes whatever it is given, also what is of another type."""
        try:
            data: bytes = self._encoder.encode(value)
            back: Any = self._decoder.decode(data)
            same = type(back) is type(value) and (bool(back == value) or self._alike(back, data))
        except Exception as error:
            message = f"a {type(value).__name__} does not come back as a {self._name}"
            raise TypeError(message) from error
        if not same:
            message = f"a {type(value).__name__} comes back as another {self._name} than it was"
            raise TypeError(message)
        return data

    def _alike(self, back: Any, data: bytes) -> bool:
        """Return whether two objects of a class without equality, which differ even when they were read from the same bytes, are alike."""
        return not bool(self._decoder.decode(data) == back) and bool(self._encoder.encode(back) == data)

    def decode(self, data: bytes, /) -> Any:
        """Return what was kept."""
        return self._decoder.decode(data)

    def __repr__(self) -> str:
        return f"msgspec_codec({self._name})"


def _money_out(value: object) -> object:
    if isinstance(value, Money):
        return money_to_json(value)
    message = f"a {type(value).__name__} cannot be kept as JSON"
    raise NotImplementedError(message)


def _money_in(kind: type[Any], data: object) -> object:
    if kind is Money:
        return money_from_json(data)
    message = f"a {kind.__name__} cannot be read from JSON"
    raise NotImplementedError(message)


def msgspec_codec(kind: type[T]) -> Codec[T]:
    """Return the codec for a type that msgspec knows: a `Struct`, a dataclass, a union of tagged structs; with `Money` anywhere in it.

    Args:
        kind: what the function returns.

    Raises:
        ConfigurationError: if msgspec is not installed, or cannot read such a type.
    """
    return MsgspecCodec(kind)


# ---------------------------------------------------------------- dataclasses


def dataclass_codec(kind: type[T]) -> Codec[T]:
    """Return the codec for a dataclass, by its own annotations and with nothing but the standard library.

    Its fields, and theirs: str, int, bool, float, None, bytes, Decimal, datetime, date, UUID, enums of text or whole numbers, `Money`,
    dataclasses, list, tuple, dict with text for keys, and `X | None`. A field with a default may be added later; one that was taken
    away is ignored in old answers.

    Args:
        kind: what the function returns.

    Raises:
        ConfigurationError: if it is no dataclass, or a field of it could not come back as it was; the message names the field.
    """
    from finresilience.durable.codec_shapes import DataclassCodec

    return DataclassCodec(kind)
