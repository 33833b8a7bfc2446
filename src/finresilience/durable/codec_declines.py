"""How is a decline kept so that its replay raises the same error? By the name of its class, among those you name, and its arguments."""

from __future__ import annotations

from json import loads
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

from finresilience._checks import refuse
from finresilience.durable.codecs import JsonCodec, as_bytes

if TYPE_CHECKING:
    from finresilience.durable.codecs import Codec

E = TypeVar("E", bound=Exception)


@final
class DeclineCodec:
    """Errors of named classes, made again from their `args`. Made by `decline_codec`."""

    __slots__ = ("_classes",)

    def __init__(self, classes: tuple[type[Exception], ...]) -> None:
        for kind in classes:
            if not isinstance(cast("object", kind), type) or not issubclass(kind, Exception):
                refuse("classes", kind, "classes of exceptions, such as decline_codec(CardDeclined)")
        self._classes = {kind.__qualname__: kind for kind in classes}
        if not classes or len(self._classes) != len(classes):
            refuse("classes", classes, "at least one class, each with a name of its own: it is kept by that name")

    def encode(self, value: Exception, /) -> bytes:
        """Return the name and the arguments, or raise `TypeError` if the error could not be made again from them."""
        kind, arguments = type(value), list(value.args)
        if self._classes.get(kind.__qualname__) is not kind:
            message = f"{kind.__qualname__} is not among the classes of this decline_codec"
            raise TypeError(message)
        told = JsonCodec().encode(arguments)
        if kind(*arguments).args != value.args:
            message = f"{kind.__qualname__}(*args) is another error than it was: let its __init__ hand its arguments to super().__init__"
            raise TypeError(message)
        return as_bytes({"class": kind.__qualname__, "args": loads(told)})

    def decode(self, data: bytes, /) -> Exception:
        """Return a new error like the one that was kept."""
        told: Any = loads(data)
        if not isinstance(told, dict) or told.get("class") not in self._classes or not isinstance(told.get("args"), list):
            message = "these bytes are no decline of the classes that this decline_codec was given"
            raise TypeError(message)
        return self._classes[told["class"]](*told["args"])

    def __repr__(self) -> str:
        return f"decline_codec({', '.join(self._classes)})"


def decline_codec(*classes: type[E]) -> Codec[E]:
    """Return the codec for declines of these classes, so that a replay raises what the first call raised.

    Their arguments must be plain JSON, and are kept: give no class whose message holds what a table must not.

    Args:
        *classes: exactly these, not their subclasses.

    Raises:
        ConfigurationError: if one of them is no exception, or two have one name.
    """
    codec: Any = DeclineCodec(classes)  # it encodes what it knows, and refuses the rest
    return codec  # type: ignore[no-any-return]  # as above
