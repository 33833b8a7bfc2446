"""What is kept of how a call ended, and what does its replay give? Bytes in, bytes out; a codec, a seal and a redaction between."""

from __future__ import annotations

from json import loads
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from finresilience.classify.extract import codes_of, status_of
from finresilience.durable.codecs import as_bytes
from finresilience.durable.idempotent_errors import ReplayedDeclineError, UnreadableReplayError
from finresilience.durable.records import KeyState

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.codecs import Codec
    from finresilience.durable.records import Record
    from finresilience.outcome import Declined

    Seal: TypeAlias = tuple[Callable[[bytes, bytes], bytes], Callable[[bytes, bytes], bytes]]

# How to read what was kept: the status of the record.
AS_VALUE: Final = "value"
AS_DECLINE: Final = "decline"  # our own words: class, code, HTTP status
AS_ERROR: Final = "error"  # by declines=


class NotKeptError(Exception):
    """The end cannot be kept as bytes; its cause says why. Internal."""


@final
class Answers:
    """Turn ends into bytes and back.

    Args:
        name: the operation.
        codec: of what the function returns.
        declines: of the errors that it raises for a no.
        seal: what encrypts and what decrypts; each is given the bytes, and what they belong to.
        redact: takes out of an answer what must not be kept.
    """

    __slots__ = ("_codec", "_declines", "_name", "_redact", "_seal")

    def __init__(
        self,
        name: str,
        codec: Codec[Any],
        declines: Codec[Any] | None,
        seal: Seal | None,
        redact: Callable[[Any], Any] | None,
    ) -> None:
        self._name = name
        self._codec = codec
        self._declines = declines
        self._seal = seal
        self._redact = redact

    def value(self, value: Any, at: tuple[str, str], most: int) -> bytes:
        """Return the bytes of an answer for the key `at`, at most so many, or raise `NotKeptError`."""
        try:
            data = self._codec.encode(value if self._redact is None else self._redact(value))
            return self._small(self.sealed(data, at), most)
        except Exception as error:
            raise NotKeptError from error

    def decline(self, outcome: Declined[Any], at: tuple[str, str], most: int) -> tuple[bytes, str]:
        """Return the bytes of a no and how to read them, or raise `NotKeptError`."""
        if outcome.value is not None:
            return self.value(outcome.value, at, most), AS_VALUE
        error = outcome.error
        if self._declines is not None:
            try:
                return self._small(self.sealed(self._declines.encode(error), at), most), AS_ERROR
            except Exception:  # noqa: S110 - of another class than the codec knows: its name and code are kept
                pass
        kind = type(error)
        code = next(iter(codes_of(error)), None)
        told = as_bytes({"kind": f"{kind.__module__}.{kind.__qualname__}", "code": code, "status": status_of(error)})
        try:
            return self._small(self.sealed(told, at), most), AS_DECLINE
        except Exception as trouble:
            raise NotKeptError from trouble

    def replayed(self, record: Record) -> Any:
        """Return the answer of a finished record, or raise the decline that it is.

        Raises:
            UnreadableReplayError: if what was kept cannot be read.
        """
        decline: Exception | None = None
        try:
            if record.state is KeyState.COMPLETED or record.status == AS_VALUE:
                return self._codec.decode(self.opened(record.response, (record.scope, record.key)))
            decline = self._decline(record)
        except Exception as error:
            raise UnreadableReplayError(self._name, record.state, record) from error
        try:
            raise decline
        finally:
            del decline  # the traceback keeps this frame

    def _decline(self, record: Record) -> Exception:
        if record.status not in {AS_ERROR, AS_DECLINE}:  # a person has settled it so, in words of their own
            return ReplayedDeclineError(self._name, "resolved")
        data = self.opened(record.response, (record.scope, record.key))
        if record.status == AS_DECLINE or self._declines is None:
            told: Any = loads(data)
            return ReplayedDeclineError(self._name, str(told["kind"]), told.get("code"), told.get("status"))
        error: Any = self._declines.decode(data)
        if not isinstance(error, Exception):
            message = f"declines= gave a {type(error).__name__}, which cannot be raised"
            raise TypeError(message)
        return error

    def sealed(self, data: bytes, at: tuple[str, str]) -> bytes:
        """Return the bytes as they may stand in a table."""
        if not isinstance(data, bytes):
            message = f"the codec gave a {type(data).__name__}, and only bytes can be kept"
            raise TypeError(message)
        return data if self._seal is None else self._seal[0](data, _about(at))

    def opened(self, data: bytes, at: tuple[str, str]) -> bytes:
        """Return the bytes as they were before they were sealed."""
        return data if self._seal is None or not data else self._seal[1](data, _about(at))

    @staticmethod
    def _small(data: bytes, most: int) -> bytes:
        if len(data) > most:
            message = (
                f"the answer takes {len(data):,} bytes and the store holds {most:,}: raise its max_response, or leave out with redact="
            )
            raise ValueError(message)
        return data


def _about(at: tuple[str, str]) -> bytes:
    """Return what sealed bytes belong to: no scope and no key has a NUL, so no two rows have the same."""
    return "\0".join(at).encode()
