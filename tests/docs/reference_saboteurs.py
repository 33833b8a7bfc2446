"""The reference page on saboteurs: what each does wrong, and the law that kills it."""

from __future__ import annotations

from importlib import import_module

from finresilience.testing import contracts, saboteurs

_HEAD = """# Saboteurs

A test that has never failed proves nothing. So there are stores and relays that break one law on purpose, and our own tests demand that
each of them dies by the law beside it. They are in the package, as `saboteurs.catalogue()`: hold them against a contract that you have
extended, and see whether it is awake. [How to use them](../how-to/prove-your-store.md#is-the-contract-awake).
"""
_TAIL = """
## Elsewhere

The clocks, explorers, invariants, histories and the fake provider have saboteurs too. They break our own insides, so they are of no use
outside and are not in the package; each stands beside the law that kills it, in
[`test_saboteurs.py`](../../tests/testing/test_saboteurs.py), [`test_books_saboteurs.py`](../../tests/testing/test_books_saboteurs.py) and
[`test_provider_saboteurs.py`](../../tests/testing/test_provider_saboteurs.py).
"""


def table() -> str:
    """Return a table for each contract, in the order of the contracts' names."""
    rows = saboteurs.catalogue()
    lines = [_HEAD]
    for contract in sorted({row.contract for row in rows}):
        known = contracts.laws(getattr(contracts, contract))
        lines += [
            f"## {contract}\n",
            f"{_promise(contract)}\n",
            "| saboteur | what it does wrong | the law that kills it |",
            "|---|---|---|",
        ]
        for row in rows:
            if row.contract == contract:
                assert row.law in known, f"{row.name} names a law that {contract} does not have"
                lines.append(f"| `{row.name}` | {_cell(row.sentence)} | `{row.law}`: {_cell(known[row.law])} |")
        asleep = sorted(known.keys() - {row.law for row in rows if row.contract == contract})
        lines += ["", f"Laws with no saboteur of their own: {', '.join(f'`{law}`' for law in asleep)}.\n"] if asleep else [""]
    return "\n".join(lines).rstrip("\n") + "\n" + _TAIL


def _promise(contract: str) -> str:
    """Return the first line of what the contract's module says."""
    home = import_module(getattr(contracts, contract).__module__)
    promise = (home.__doc__ or "").strip().splitlines()[0].partition(": ")[2]
    assert promise, f"the first line of {home.__name__} names its laws, a colon, and what they promise"
    return promise[0].upper() + promise[1:]


def _cell(sentence: str) -> str:
    return sentence.replace("|", "\\|")
