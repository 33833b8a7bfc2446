"""How does each type of a dataclass look in JSON? One shape for each annotation, checked when the codec is made."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from inspect import Parameter, signature
from json import loads
from math import isfinite
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Union, cast, final, get_args, get_origin, get_type_hints
from uuid import UUID

from finresilience._checks import refuse
from finresilience.durable.codecs import Json, as_bytes, money_from_json, money_to_json
from finresilience.errors import ConfigurationError
from finresilience.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable


class Shape:
    """One type in JSON. `write` raises `TypeError` for a value of another type, and `read` for JSON of another shape."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: str = name

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        raise NotImplementedError

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        raise NotImplementedError

    def wrong(self, what: object) -> NoReturn:
        """Say what stands in the wrong place, by its class only."""
        message = f"a {type(what).__name__} stands where a {self.name} belongs"
        raise TypeError(message)


@final
class Plain(Shape):
    """A type that JSON knows: exactly it, so that a bool is no int."""

    __slots__ = ("_kind",)

    def __init__(self, kind: type[Any]) -> None:
        super().__init__(kind.__name__)
        self._kind = kind

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        if type(value) is not self._kind or (self._kind is float and not isfinite(value)):
            self.wrong(value)
        return cast("Json", value)

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        return self.write(data)


@final
class Spelt(Shape):
    """A type that is kept as text."""

    __slots__ = ("_kind", "_read", "_write")

    def __init__(self, kind: type[Any], write: Callable[[Any], str], read: Callable[[str], Any]) -> None:
        super().__init__(kind.__name__)
        self._kind = kind
        self._write = write
        self._read = read

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        if type(value) is not self._kind:
            self.wrong(value)
        return self._write(value)

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        return self._read(data) if isinstance(data, str) else self.wrong(data)


@final
class OfMoney(Shape):
    """Money, whose amount is text and never a number."""

    __slots__ = ()

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        return money_to_json(value) if type(value) is Money else self.wrong(value)

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        return money_from_json(data)


@final
class OneOf(Shape):
    """A member of an enum, kept by its value."""

    __slots__ = ("_kind",)

    def __init__(self, kind: type[Enum]) -> None:
        super().__init__(kind.__name__)
        self._kind = kind
        if not all(type(member.value) is str or type(member.value) is int or isinstance(member.value, str) for member in kind):
            message = f"{kind.__name__} has members whose values are neither text nor whole numbers: their values must be one or the other"
            raise ConfigurationError(message)

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        return cast("Json", value.value) if type(value) is self._kind else self.wrong(value)

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        if type(data) not in {str, int}:
            self.wrong(data)
        return self._kind(data)


@final
class OneOfThese(Shape):
    """`Literal["paid", "pending"]`: one of the values that are written there."""

    __slots__ = ("_values",)

    def __init__(self, values: tuple[Any, ...]) -> None:
        super().__init__("Literal")
        self._values = values

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        if not any(value == known and type(value) is type(known) for known in self._values):
            self.wrong(value)
        return cast("Json", value)

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        return self.write(data)


@final
class Maybe(Shape):
    """A value of another shape, or None."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Shape) -> None:
        super().__init__(f"{inner.name} or None")
        self._inner = inner

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        return None if value is None else self._inner.write(value)

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        return None if data is None else self._inner.read(data)


@final
class Row(Shape):
    """A list, or a tuple: of one shape throughout, or of one for each place."""

    __slots__ = ("_each", "_kind", "_places")

    def __init__(self, kind: type[Any], each: Shape | None, places: tuple[Shape, ...] = ()) -> None:
        super().__init__(kind.__name__)
        self._kind = kind
        self._each = each
        self._places = places

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        if type(value) is not self._kind:
            self.wrong(value)
        return [shape.write(part) for shape, part in self._paired(value)]

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        if not isinstance(data, list):
            self.wrong(data)
        return self._kind(shape.read(part) for shape, part in self._paired(data))

    def _paired(self, parts: Any) -> list[tuple[Shape, Any]]:
        if self._each is not None:
            return [(self._each, part) for part in parts]
        if len(parts) != len(self._places):
            message = f"{len(parts)} values stand where {len(self._places)} belong"
            raise TypeError(message)
        return list(zip(self._places, parts, strict=True))


@final
class Book(Shape):
    """A dict with text for keys."""

    __slots__ = ("_each",)

    def __init__(self, each: Shape) -> None:
        super().__init__("dict")
        self._each = each

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        if type(value) is not dict or not all(type(name) is str for name in value):
            self.wrong(value)
        return {name: self._each.write(part) for name, part in value.items()}

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        if not isinstance(data, dict):
            self.wrong(data)
        return {name: self._each.read(part) for name, part in cast("dict[str, Any]", data).items()}


@final
class Record(Shape):
    """A dataclass: an object with its fields."""

    __slots__ = ("_kind", "_needed", "_shapes")

    def __init__(self, kind: type[Any]) -> None:
        super().__init__(kind.__name__)
        self._kind = kind
        self._shapes: dict[str, Shape] = {}
        self._needed: frozenset[str] = frozenset()

    def fill(self, known: dict[type[Any], Shape]) -> None:
        """Look at the fields. Apart from `__init__`, so that a dataclass may contain itself."""
        hints = _hints_of(self._kind)
        given = [field for field in fields(self._kind) if field.init]
        names = {field.name for field in given}
        for name, parameter in signature(self._kind).parameters.items():
            if name not in names and parameter.default is Parameter.empty:
                message = f"{self.name} cannot be made again from its fields alone: it also wants {name!r}"
                raise ConfigurationError(message)
        for field in given:
            self._shapes[field.name] = shape_of(hints[field.name], f"{self.name}.{field.name}", known)
        self._needed = frozenset(field.name for field in given if field.default is MISSING and field.default_factory is MISSING)

    def write(self, value: Any) -> Json:
        """Return the JSON of a value of this type."""
        if type(value) is not self._kind:
            self.wrong(value)
        return {name: _told(self, name, shape.write, getattr(value, name)) for name, shape in self._shapes.items()}

    def read(self, data: Any) -> Any:
        """Return the value that this JSON is of."""
        if not isinstance(data, dict):
            self.wrong(data)
        told = cast("dict[str, Any]", data)
        missing = self._needed - told.keys()
        if missing:
            message = f"{self.name} wants {', '.join(sorted(missing))}, which was not kept"
            raise TypeError(message)
        return self._kind(**{name: _told(self, name, self._shapes[name].read, part) for name, part in told.items() if name in self._shapes})


def _hints_of(kind: type[Any]) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:  # of a class inside a function, whose module does not know all the names
        module = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
    try:
        return get_type_hints(kind, {**{each.__name__: each for each in (*_SPELT, Money)}, kind.__name__: kind, **module})
    except NameError as error:
        message = f"the annotations of {kind.__name__} cannot be looked up ({error}): define what they name at the top of its module"
        raise ConfigurationError(message) from error


def _told(record: Record, name: str, function: Callable[[Any], Any], value: Any) -> Any:
    """Return what `function` makes of a field; where it cannot, the error says which field it was, and shows nothing of it."""
    try:
        return function(value)
    except Exception as error:
        message = f"{record.name}.{name}: {error}" if type(error) is TypeError else f"{record.name}.{name}: {type(error).__name__}"
        raise TypeError(message) from error


def _finite(value: Decimal) -> str:
    if not value.is_finite():
        message = "a Decimal that is no number is not equal to itself, and could not be replayed"
        raise TypeError(message)
    return str(value)


_SPELT: Final[dict[type[Any], tuple[Callable[[Any], str], Callable[[str], Any]]]] = {
    Decimal: (_finite, Decimal),
    datetime: (datetime.isoformat, datetime.fromisoformat),
    date: (date.isoformat, date.fromisoformat),
    UUID: (str, UUID),
    bytes: (lambda value: b64encode(value).decode(), lambda text: b64decode(text, validate=True)),
}


def shape_of(hint: Any, where: str, known: dict[type[Any], Shape]) -> Shape:
    """Return the shape of an annotation, or raise the `ConfigurationError` that names the field."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint in {str, int, bool, float, NoneType}:
        return Plain(hint)
    if hint is Money:
        return OfMoney("Money")
    if origin is Literal and all(type(value) in {str, int, bool, NoneType} for value in parts):
        return OneOfThese(parts)
    if origin in {Union, UnionType}:
        others = [part for part in parts if part is not NoneType]
        if len(others) == 1 and len(parts) == 2:
            return Maybe(shape_of(others[0], where, known))
    elif origin in {list, tuple, dict}:
        return _gathered(origin, parts, where, known)
    elif isinstance(hint, type):
        return _of_class(hint, where, known)
    message = f"{where} is a {hint}, which dataclass_codec cannot keep: annotate it with a type that it knows, or take msgspec_codec(...)"
    raise ConfigurationError(message)


def _of_class(kind: type[Any], where: str, known: dict[type[Any], Shape]) -> Shape:
    if kind in _SPELT:
        return Spelt(kind, *_SPELT[kind])
    if issubclass(kind, Enum):
        return OneOf(kind)
    if not is_dataclass(kind):
        message = (
            f"{where} is a {kind.__name__}, which dataclass_codec cannot keep: annotate it with a type that it knows, "
            "or take msgspec_codec(...), or give a codec of your own"
        )
        raise ConfigurationError(message)
    if kind not in known:
        record = Record(kind)
        known[kind] = record
        record.fill(known)
    return known[kind]


def _gathered(origin: Any, parts: tuple[Any, ...], where: str, known: dict[type[Any], Shape]) -> Shape:
    if origin is list:
        return Row(list, shape_of(parts[0], where, known))
    if origin is tuple:
        if len(parts) == 2 and parts[1] is ...:
            return Row(tuple, shape_of(parts[0], where, known))
        return Row(tuple, None, tuple(shape_of(part, where, known) for part in parts))
    if parts[0] is not str:
        message = f"{where} is a dict whose keys are not text, and JSON knows no other: use dict[str, ...]"
        raise ConfigurationError(message)
    return Book(shape_of(parts[1], where, known))


@final
class DataclassCodec:
    """Answers of one dataclass, as JSON. Made by `dataclass_codec`."""

    __slots__ = ("_shape",)

    def __init__(self, kind: type[Any]) -> None:
        if not isinstance(cast("object", kind), type) or not is_dataclass(kind):
            refuse("kind", kind, "a dataclass; json_codec() serves plain JSON, and msgspec_codec(...) other types")
        self._shape = _of_class(kind, kind.__name__, {})

    def encode(self, value: Any, /) -> bytes:
        """Return the JSON, or raise `TypeError` if a field holds something else than it declares."""
        return as_bytes(self._shape.write(value))

    def decode(self, data: bytes, /) -> Any:
        """Return the dataclass that was kept."""
        return self._shape.read(loads(data))

    def __repr__(self) -> str:
        return f"dataclass_codec({self._shape.name})"
