"""Known-bad stores, each with the law that must kill it: a contract that lets one of them live is asleep.

    for row in saboteurs.catalogue():
        print(row.name, "breaks", row.contract, "by", row.law, "-", row.sentence)

A law of your own needs a saboteur of your own, marked as ours are; it stands in your tests, and is held against your contract:

    @saboteurs.saboteur(TestMyStore, kills="test_my_law")
    class Forgetful(MyStore):
        \"\"\"Forgets what it was told.\"\"\"
        ...

    def test_my_laws_are_awake():
        assert saboteurs.survivors(TestMyStore, within=[Forgetful]) == {}
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar, cast, final

from finresilience._checks import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finresilience.testing.contracts import Contract

__all__ = ["Row", "Saboteur", "catalogue", "saboteur", "survivors"]

T = TypeVar("T", bound=type[Any])

_SLIPS: Final = (TypeError, NameError, AttributeError, ImportError)  # of whoever wrote the saboteur, rather than its deed


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
        contract: the name of the contract that must notice it: one in `finresilience.testing.contracts`, or one of yours.
        law: the name of the test that must kill it.
        sentence: what it does wrong.
        make: the class itself; what it takes is what the store takes that it stands in for.
    """

    name: str
    contract: str
    law: str
    sentence: str
    make: type[Any]


def saboteur(contract: str | type[Contract], *, kills: str) -> Callable[[T], T]:
    """Mark a class as a saboteur of `contract`, given by its class or its name, that the law `kills` must kill."""

    def marked(broken: T) -> T:
        broken.contract, broken.kills = _name(contract), kills
        return broken

    return marked


def catalogue(contract: str | type[Contract] | None = None, *, within: Iterable[ModuleType | type[Any]] | None = None) -> tuple[Row, ...]:
    """Return every saboteur, or those of one contract, in the order they are written in.

    Args:
        contract: whose; of all by default.
        within: your own: classes, or modules that hold them. Ours, and none of yours, by default.

    Raises:
        ConfigurationError: if something in `within` is no saboteur, and no module.
    """
    wanted = None if contract is None else _name(contract)
    homes = _ours() if within is None else within
    return tuple(row for home in homes for row in _rows(home) if wanted in {None, row.contract})


def survivors(
    contract: type[Contract],
    *,
    within: Iterable[ModuleType | type[Any]] | None = None,
    held: Callable[[Row], type[Contract]] | None = None,
) -> dict[str, str]:
    """Hold saboteurs against the laws named for them, and return, by its name, why each that lives does: nothing, if all laws are awake.

        assert saboteurs.survivors(contracts.IdempotencyStoreContract) == {}

    Args:
        contract: whose saboteurs, and, without `held`, the contract itself. Each is made as `contracts.run` makes a store.
        within: your own, as in `catalogue`.
        held: returns the contract that a saboteur is held against, where to call its class does not make it: it needs an engine, or is
            no store. It is a subclass with a factory that makes `row.make`.

    Raises:
        ContractError: if a saboteur names a law that the contract does not have, or there is no saboteur at all.
    """
    from finresilience.testing.contracts import ContractError, run

    rows = catalogue(contract, within=within)
    if not rows:
        raise ContractError(f"there is no saboteur of {contract.__name__} to hold against it: mark one, and name it by within=")
    told: dict[str, str] = {}
    for row in rows:
        broken = run(contract, row.make, laws=[row.law]) if held is None else run(held(row), laws=[row.law])
        failure = broken[row.law]
        cause = None if failure is None else failure.__cause__
        if failure is None:
            told[row.name] = f"{row.law} did not notice: {row.sentence}"
        elif isinstance(cause, _SLIPS):
            told[row.name] = f"{row.law} never came to its deed, for it does not work at all: {type(cause).__name__}: {cause}"
    return told


def _name(contract: str | type[Contract]) -> str:
    return contract if isinstance(contract, str) else contract.__name__


def _ours() -> list[ModuleType]:
    return [import_module(f"{__name__}.{home}") for home in sorted(found.name for found in iter_modules(__path__))]


def _rows(home: ModuleType | type[Any]) -> list[Row]:
    if isinstance(cast("object", home), ModuleType):
        mine = [thing for thing in vars(home).values() if isinstance(thing, type) and thing.__module__ == home.__name__]
        return [_row(broken) for broken in mine if "kills" in vars(broken)]
    if "kills" not in getattr(home, "__dict__", {}):
        refuse("within", home, 'classes marked by @saboteurs.saboteur("TheContract", kills="test_the_law"), and modules that hold them')
    return [_row(home)]


def _row(broken: Any) -> Row:
    sentence = (broken.__doc__ or "").strip().partition("\n")[0]
    return Row(broken.__name__, broken.contract, broken.kills, sentence, broken)
