"""What does a command work on? The stores of a service, as the service itself hands them over."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, final

from finresilience._checks import refuse
from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from finresilience.durable.idempotency import AsyncIdempotencyStore, IdempotencyStore
    from finresilience.durable.inbox import AsyncInboxStore, InboxStore
    from finresilience.durable.outbox import AsyncOutboxStore, OutboxStore
    from finresilience.durable.relay import Relay
    from finresilience.policies.pipeline import Pipeline
    from finresilience.sql import Tables


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class App:
    """What `--app module:object` names: whatever the service has of these, sync or async.

    Args:
        outbox: the store of its outbox.
        idempotency: the store of its idempotency keys.
        inbox: the store of its inbox.
        relay: what `finresilience relay` runs.
        pipelines: what `finresilience explain` explains.
        tables: its tables, with `engine`: then the stores above need not be given, the schema is checked before every command, and what
            would be purged is counted.
        engine: over which they are.

    Raises:
        ConfigurationError: if one of them cannot be what it should.
    """

    outbox: OutboxStore[Any] | AsyncOutboxStore[Any] | None = None
    idempotency: IdempotencyStore[Any] | AsyncIdempotencyStore[Any] | None = None
    inbox: InboxStore[Any] | AsyncInboxStore[Any] | None = None
    relay: Relay | None = None
    pipelines: Sequence[Pipeline] = ()
    tables: Tables | None = None
    engine: Engine | AsyncEngine | None = None

    def __post_init__(self) -> None:
        for name, deed, wanted in _LOOKS:
            given = getattr(self, name)
            if given is not None and not callable(getattr(given, deed, None)):
                refuse(name, given, wanted)
        for one in self.pipelines:
            if not callable(getattr(one, "explain", None)):
                refuse("pipelines", one, "a list of Pipelines")
        if (self.tables is None) is not (self.engine is None):
            refuse("tables" if self.tables is None else "engine", None, "both tables= and engine=, or neither")
        if self.tables is not None:
            for name in ("outbox", "idempotency", "inbox"):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, getattr(self.tables, name).store(self.engine))

    def part(self, name: str) -> Any:
        """Return the part that a command needs.

        Raises:
            ConfigurationError: if the service has none.
        """
        found = getattr(self, name)
        if found is None or found == ():
            missing = f"the object that --app names has no {name}: give App({name}=...)"
            raise ConfigurationError(missing)
        return found

    def __repr__(self) -> str:
        """Name what there is; an engine would show where."""
        return f"<App of {', '.join(one.name for one in fields(self) if getattr(self, one.name))}>"


_LOOKS = (
    ("outbox", "dead_letters", "an OutboxStore or an AsyncOutboxStore, such as tables.outbox.store(engine)"),
    ("idempotency", "unsettled", "an IdempotencyStore or an AsyncIdempotencyStore, such as tables.idempotency.store(engine)"),
    ("inbox", "parked", "an InboxStore or an AsyncInboxStore, such as tables.inbox.store(engine)"),
    ("relay", "run_sync", "a Relay"),
    ("tables", "ddl", "the Tables of the service"),
    ("engine", "dispose", "an Engine or an AsyncEngine"),
)
