"""Known-bad stores, each with the law that must kill it: a contract that lets one of them live is asleep.

for row in saboteurs.catalogue():
print(row.name, "breaks", row.contract, "by", row.law, "-", row.sentence)
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Row", "Saboteur", "catalogue", "saboteur"]

T = TypeVar("T", bound=type[Any])


class Saboteur(Protocol):
    """A class that breaks one law. Its docstring says what it does wrong."""

    contract: ClassVar[str]
    kills: ClassVar[str]  # the law that must kill it


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One saboteur.

    Args:
        name: of its class.
        contract: the name, in `finresilience.testing.contracts`, of the contract that must notice it.
        law: the name of the test that must kill it.
        sentence: what it does wrong.
        make: the class itself; what it takes is what the store takes that it stands in for.
    """

    name: str
    contract: str
    law: str
    sentence: str
    make: type[Any]


def saboteur(contract: str, *, kills: str) -> Callable[[T], T]:
    """Mark a class as a saboteur of `contract` that the law `kills` must kill."""

    def marked(broken: T) -> T:
        broken.contract, broken.kills = contract, kills
        return broken

    return marked


def catalogue(contract: str | None = None) -> tuple[Row, ...]:
    """Return every saboteur, or those of one contract, in the order they are written in."""
    rows: list[Row] = []
    for home in sorted(found.name for found in iter_modules(__path__)):
        module = import_module(f"{__name__}.{home}")
        mine = [thing for thing in vars(module).values() if isinstance(thing, type) and thing.__module__ == module.__name__]
        rows += [_row(broken) for broken in mine if "kills" in vars(broken)]
    return tuple(row for row in rows if contract in {None, row.contract})


def _row(broken: Any) -> Row:
    return Row(broken.__name__, broken.contract, broken.kills, (broken.__doc__ or "").strip().splitlines()[0], broken)
