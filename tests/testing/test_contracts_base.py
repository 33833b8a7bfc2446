"""The machinery of contracts: a stranger proves a store in a few lines, and is told what to do where that would prove nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar

import anyio.lowlevel
import pytest

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.amemory_inbox import AsyncMemoryInboxStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.testing import contracts
from finresilience.testing.contracts import BrokenLawError, ContractError, IdempotencyStoreContract
from finresilience.testing.contracts._base import Contract, ask, law, race
from finresilience.testing.saboteurs.idempotency import CheckThenAct

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from finresilience.testing import ManualClock

ONE = "test_a_key_that_nobody_claimed_is_absent"


def memory(clock: ManualClock) -> MemoryIdempotencyStore:
    return MemoryIdempotencyStore(clock=clock)


# ---------------------------------------------------------------- a stranger


STRANGER = """
from finresilience.durable import MemoryIdempotencyStore
from finresilience.testing import contracts

class TestMyStore(contracts.IdempotencyStoreContract):
    def make_store(self):
        return MemoryIdempotencyStore(clock=self.clock)
"""


def run_plain_pytest(tmp_path: Path, text: str, *more: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_stranger.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # default settings, and none of ours
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:anyio", "-p", "no:hypothesispytest", ".", *more]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)


def test_a_stranger_proves_a_store_under_plain_pytest(tmp_path: Path) -> None:
    told = run_plain_pytest(tmp_path, STRANGER)
    assert f"{len(contracts.laws(IdempotencyStoreContract))} passed" in told.stdout, told.stdout
    assert len([line for line in STRANGER.splitlines() if line]) <= 10


def test_a_stranger_reads_the_law_that_is_broken(tmp_path: Path) -> None:
    told = run_plain_pytest(
        tmp_path,
        STRANGER.replace("from finresilience.durable import", "from finresilience.testing.saboteurs.idempotency_leases import").replace(
            "MemoryIdempotencyStore", "ForgetsTheFence"
        ),
        "-k",
        "late_finisher",
    )
    assert "ForgetsTheFence breaks a law: Whoever comes late with the old token is refused loudly" in told.stdout
    assert "complete with a stale token was taken" in told.stdout


@pytest.mark.parametrize(
    ("contract", "make"),
    [
        (contracts.IdempotencyStoreContract, lambda: AsyncMemoryIdempotencyStore),
        (contracts.InboxContract, lambda: AsyncMemoryInboxStore),
    ],
    ids=["keys", "inbox"],
)
def test_a_contract_has_named_laws_with_a_sentence_each(contract: type[Contract], make: Any) -> None:
    told = contracts.laws(contract)
    assert len(told) >= 20
    for name, sentence in told.items():
        assert name.startswith("test_")
        assert sentence.endswith(".")
        assert getattr(contract, name).__doc__.startswith(sentence)


# ---------------------------------------------------------------- run


def test_run_tells_for_each_law_how_it_was_broken() -> None:
    told = contracts.run(IdempotencyStoreContract, CheckThenAct)
    assert list(told) == list(contracts.laws(IdempotencyStoreContract))
    failure = told["test_of_any_number_of_claimants_one_wins"]
    assert isinstance(failure, BrokenLawError)
    assert failure.sentence.startswith("Of any number of claimants")
    assert "claimants were let in" in str(failure)
    assert told[ONE] is None


def test_a_broken_race_is_replayed_from_its_message() -> None:
    name = "test_of_any_number_of_claimants_one_wins"
    failure = contracts.run(IdempotencyStoreContract, CheckThenAct, laws=[name])[name]
    seed = int(str(failure).split("schedules = [")[1].split("]")[0])

    class Again(IdempotencyStoreContract):
        schedules = (seed,)

        def make_store(self) -> CheckThenAct:
            return CheckThenAct(clock=self.clock)

    assert str(contracts.run(Again, laws=[name])[name]) == str(failure)


def test_run_takes_a_subclass_that_has_its_factory() -> None:
    class Mine(IdempotencyStoreContract):
        def make_store(self) -> MemoryIdempotencyStore:
            return memory(self.clock)

    assert contracts.run(Mine, laws=[ONE]) == {ONE: None}


@pytest.mark.parametrize("factory", [memory, MemoryIdempotencyStore], ids=["by place", "by name"])
def test_run_hands_the_clock_to_whoever_takes_it(factory: Callable[..., object]) -> None:
    name = "test_a_lease_ends_when_it_ran_out_and_not_before"
    assert contracts.run(IdempotencyStoreContract, factory, laws=[name]) == {name: None}


async def an_async_factory(clock: ManualClock) -> AsyncMemoryIdempotencyStore:
    return AsyncMemoryIdempotencyStore(memory(clock))


def test_a_factory_may_be_async_and_is_then_called_in_the_loop() -> None:
    told = contracts.run(
        IdempotencyStoreContract, an_async_factory, laws=[ONE, "test_a_rollback_unclaims", "test_an_expired_lease_has_one_heir"]
    )
    assert not any(told.values())


def test_an_async_store_runs_on_the_backends_that_it_names() -> None:
    seen: list[str] = []

    class Mine(IdempotencyStoreContract):
        backends = ("trio",)

        async def make_store(self) -> AsyncMemoryIdempotencyStore:
            from sniffio import current_async_library

            seen.append(current_async_library())
            return await an_async_factory(self.clock)

    assert contracts.run(Mine, laws=[ONE, "test_an_expired_lease_has_one_heir"]) == dict.fromkeys(
        [ONE, "test_an_expired_lease_has_one_heir"]
    )
    assert set(seen) == {"trio"}


class Hasty:
    """An async store that looks, lets others run, and then writes."""

    def __init__(self, clock: ManualClock) -> None:
        self._keys = memory(clock)

    async def claim(self, scope: str, key: str, **more: Any) -> Any:
        if self._keys.find(scope, key) is None:
            await anyio.lowlevel.checkpoint()  # the round trip to a database
            self._keys._rows.put((scope, key), None)
        return self._keys.claim(scope, key, **more)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_store_that_looks_and_then_writes_is_caught_on_either_backend(backend: str) -> None:
    class Mine(IdempotencyStoreContract):
        backends = (backend,)

        def make_store(self) -> Hasty:
            return Hasty(self.clock)

    name = "test_of_any_number_of_claimants_one_wins"
    assert "claimants were let in" in str(contracts.run(Mine, laws=[name])[name])


def test_a_failure_on_one_backend_names_it() -> None:
    class OnTrioOnly(Contract):
        probe: ClassVar[str] = "claim"

        async def make_store(self) -> AsyncMemoryIdempotencyStore:
            return await an_async_factory(self.clock)

        @law
        async def test_it_breaks(self, store: Any) -> None:
            """It holds on asyncio."""
            from sniffio import current_async_library

            if current_async_library() != "asyncio":
                raise AssertionError("broken")

    assert "broken, on trio" in str(contracts.run(OnTrioOnly)["test_it_breaks"])


def test_stores_are_closed_whatever_happens() -> None:
    opened, closed = list[object](), list[object]()

    class Mine(IdempotencyStoreContract):
        def make_store(self) -> MemoryIdempotencyStore:
            opened.append(made := CheckThenAct(clock=self.clock))
            return made

        def close_store(self, store: Any) -> Any:
            closed.append(store)

    told = contracts.run(Mine)
    assert any(told.values())
    assert [id(store) for store in opened] == [id(store) for store in closed]


def test_without_transactions_their_laws_are_left_out_and_not_passed() -> None:
    class Mine(IdempotencyStoreContract):
        transactions = False

        def make_store(self) -> MemoryIdempotencyStore:
            return memory(self.clock)

    left_out = contracts.laws(IdempotencyStoreContract).keys() - contracts.laws(Mine).keys()
    assert "test_a_rollback_unclaims" in left_out
    assert not any(contracts.run(Mine).values())


def test_a_store_that_is_not_in_process_is_raced_on_real_threads_and_tasks() -> None:
    class Threads(IdempotencyStoreContract):
        in_process = False

        def make_store(self) -> Any:
            return memory(self.clock)

    class Tasks(Threads):
        async def make_store(self) -> Any:
            return await an_async_factory(self.clock)

    races = [name for name in contracts.laws(Threads) if "claimants" in name or "heir" in name or "transaction" in name]
    for mine in (Threads, Tasks):
        assert not any(contracts.run(mine, laws=races).values())


# ---------------------------------------------------------------- wrong use


the_only_one = MemoryIdempotencyStore()


@pytest.mark.parametrize(
    ("factory", "way_out"),
    [
        (lambda: None, "returned nothing: it must return the store"),
        (object, "has no claim()"),
        (lambda: the_only_one, "Return a new, empty store each time"),
    ],
    ids=["nothing", "something else", "the same twice"],
)
def test_a_factory_that_proves_nothing_is_told_what_to_do(factory: Callable[[], object], way_out: str) -> None:
    with pytest.raises(ContractError) as caught:
        contracts.run(IdempotencyStoreContract, factory, laws=[ONE])
    assert way_out in str(caught.value)


def test_stores_that_share_their_rows_are_asked_to_be_empty() -> None:
    rows = MemoryIdempotencyStore()

    def another_view_of_the_same_rows() -> AsyncMemoryIdempotencyStore:
        return AsyncMemoryIdempotencyStore(rows)

    first = "test_a_loser_is_told_for_how_long_the_claim_runs"
    told = contracts.run(IdempotencyStoreContract, another_view_of_the_same_rows, laws=[first, ONE])
    assert "does make_store return an empty store?" in str(told[ONE])


def test_a_contract_without_a_factory_says_which_one_to_write() -> None:
    with pytest.raises(ContractError, match=r"has no make_store\(self\)"):
        contracts.run(IdempotencyStoreContract, laws=[ONE])


def test_a_law_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ContractError, match=ONE):
        contracts.run(IdempotencyStoreContract, memory, laws=["test_typo"])


def test_a_store_without_transactions_is_told_of_the_hook() -> None:
    class Bare:
        def claim(self, *_: object, **__: object) -> None: ...

    with pytest.raises(ContractError, match="transactions = False"):
        contracts.run(IdempotencyStoreContract, Bare, laws=["test_a_rollback_unclaims"])


def test_a_store_that_ignores_the_clock_is_asked_for_it() -> None:
    def deaf() -> MemoryIdempotencyStore:
        return MemoryIdempotencyStore()

    name = "test_a_lease_ends_when_it_ran_out_and_not_before"
    told = contracts.run(IdempotencyStoreContract, deaf, laws=[name])
    assert "does make_store hand self.clock to the store?" in str(told[name])


def test_a_sync_store_with_an_async_hook_is_told_what_to_do() -> None:
    class Mine(IdempotencyStoreContract):
        def make_store(self) -> MemoryIdempotencyStore:
            return memory(self.clock)

        async def advance(self, store: Any, seconds: float) -> None:
            import anyio

            await anyio.lowlevel.checkpoint()

    name = "test_a_lease_ends_when_it_ran_out_and_not_before"
    assert contracts.run(Mine, laws=[name])[name] is not None


def test_python_without_asserts_is_refused() -> None:
    script = (
        "from finresilience.durable import MemoryIdempotencyStore;"
        "from finresilience.testing import contracts;"
        "contracts.run(contracts.IdempotencyStoreContract, lambda clock: MemoryIdempotencyStore(clock=clock))"
    )
    told = subprocess.run([sys.executable, "-O", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "drops every assert" in told.stderr


def test_a_contract_imports_nothing_heavy() -> None:
    script = (
        "import sys; from finresilience.testing import contracts, saboteurs; contracts.IdempotencyStoreContract; contracts.InboxContract;"
        "heavy = {'hypothesis', 'pytest', 'trio'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_race_returns_callers_and_a_check_that_may_ask_the_store() -> None:
    class Small(Contract):
        probe: ClassVar[str] = "claim"

        def make_store(self) -> MemoryIdempotencyStore:
            return memory(self.clock)

        @race
        async def test_one_of_two(self, store: Any) -> Any:
            """One of two."""
            told: list[object] = []

            async def caller() -> None:
                told.append(await ask(store.claim("a", "b", fingerprint="f", lease=1)))

            async def check() -> None:
                assert len(told) == 2
                assert await ask(store.find("a", "b")) is None, "the check is awake"

            return [caller, caller], check

    assert "the check is awake" in str(contracts.run(Small)["test_one_of_two"])


def test_the_contract_of_the_memory_store_is_quick() -> None:
    began = time.process_time()
    contracts.run(IdempotencyStoreContract, memory)
    assert time.process_time() - began < 5.0
