"""A model of idempotency keys, and a machine that does at random to a store what it does to the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from finresilience.durable.errors import FinishedOtherwiseError, StaleRecordError, StaleTokenError
from finresilience.durable.records import Claimed, ClaimToken, Indeterminate, InProgress, KeyState, Mismatch, Record, Replay
from finresilience.testing.contracts._base import Contract, ask
from finresilience.testing.contracts._drivers import drive_machine
from finresilience.testing.contracts._keys import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.contracts._drivers import Driver

Name = tuple[str, str]

# No sum of these steps comes within a second of a lease or an age, so that a store whose clock runs on meanwhile agrees too.
STEPS: Final = st.sampled_from((61.0, 31.0, 7.0))
OLD: Final = 50.0
ALL: Final = (("alice", "pay_1"), ("bob", "pay_1"))
NAMES: Final = st.sampled_from(ALL)
REQUESTS: Final = st.sampled_from(("r1", "r1", "r1", "r2"))
BODIES: Final = st.sampled_from((b"", b"paid", b"\x00\xff"))
LATE: Final = st.sampled_from((0, 0, 0, 0, 1))  # whose token: mostly the last holder's
ENDS: Final = st.sampled_from(("complete", "fail"))
STATES: Final = {"complete": KeyState.COMPLETED, "fail": KeyState.FAILED_FINAL}


@dataclass
class Known:
    """What the model knows of a key."""

    request: str
    fence: int
    until: float
    changed: float
    state: KeyState = KeyState.IN_PROGRESS
    takeovers: int = 0
    point: str | None = None
    data: bytes = b""
    response: bytes = b""


async def _told(asked: Callable[[], Any]) -> object:
    try:
        return await ask(asked())
    except (FinishedOtherwiseError, StaleRecordError, StaleTokenError) as error:
        return type(error)


class Machine(RuleBasedStateMachine):
    """Claims, ends, releases, waits and purges, on a store and on a model of it."""

    def __init__(self, contract: Contract, driver: Driver) -> None:
        super().__init__()
        self.contract, self.driver = contract, driver
        self.store: Any = driver(contract.fresh)
        self.keys: dict[Name, Known] = {}
        self.now = 0.0
        self.tokens: dict[Name, list[ClaimToken]] = {name: [] for name in ALL}
        self.seen: dict[Name, Record] = {}

    def teardown(self) -> None:
        async def closed() -> None:
            await ask(self.contract.close_store(self.store))

        self.driver(closed)

    def ask(self, asked: Callable[[], Any]) -> Any:
        """Return what the store says, or which error it raised."""

        async def told() -> object:
            return await _told(asked)

        return self.driver(told)

    @rule(name=NAMES, request=REQUESTS)
    def claim(self, name: Name, request: str) -> None:
        """Claim a key."""
        self._judged(name, request, self.ask(lambda: self.store.claim(*name, fingerprint=request, lease=LEASE)))

    def _judged(self, name: Name, request: str, told: Any) -> None:
        known = self.keys.get(name)
        expected = self._expected(known, request)
        assert isinstance(told, expected), f"claim() told {type(told).__name__}, and the model {expected.__name__}"
        if isinstance(told, Claimed):
            assert told.takeovers == (0 if known is None else known.takeovers + 1), f"takeovers={told.takeovers}"
            if known is None:
                self.keys[name] = Known(request, told.token.fence, self.now + LEASE, self.now)
            else:
                assert told.token.fence > known.fence, "a fence did not grow"
                assert (told.recovery_point, told.data) == (known.point, known.data), "an heir was told another recovery point"
                known.fence, known.until, known.changed, known.takeovers = told.token.fence, self.now + LEASE, self.now, told.takeovers
            self.tokens[name].append(told.token)
        elif isinstance(told, Replay):
            assert known is not None
            assert (told.record.state, told.record.response) == (known.state, known.response), "a replay of something else"

    def _expected(self, known: Known | None, request: str) -> type[Any]:
        if known is None:
            return Claimed
        if known.request != request:
            return Mismatch
        if known.state is KeyState.INDETERMINATE:
            return Indeterminate
        if known.state is not KeyState.IN_PROGRESS:
            return Replay
        return InProgress if known.until > self.now else Claimed

    def _token(self, name: Name, late: int) -> ClaimToken:
        """Return the last token of a key, or one of a holder before; one that never was, if there is none."""
        known = self.tokens[name]
        return known[max(0, len(known) - 1 - late)] if known else ClaimToken(*name, 0)

    @rule(name=NAMES, late=LATE, how=ENDS, body=BODIES)
    def end(self, name: Name, late: int, how: str, body: bytes) -> None:
        """Finish a claim, or try to."""
        token = self._token(name, late)
        told, known = self.ask(lambda: getattr(self.store, how)(token, body)), self.keys.get(name)
        expected: object = None
        if known is None or known.fence != token.fence:
            expected = StaleTokenError
        elif known.state is KeyState.IN_PROGRESS:
            known.state, known.response, known.changed = STATES[how], body, self.now
        elif (known.state, known.response) != (STATES[how], body):
            expected = FinishedOtherwiseError
        assert told is expected, f"{how}() told {told}, and the model {expected}"

    @rule(name=NAMES, late=LATE)
    def renew(self, name: Name, late: int) -> None:
        """Renew a claim, or try to."""
        self._work(name, late, "renew", lease=LEASE)

    @rule(name=NAMES, late=LATE)
    def advance(self, name: Name, late: int) -> None:
        """Note a recovery point, or try to."""
        self._work(name, late, "advance", recovery_point="sent", data=b"at acme")

    @rule(name=NAMES, late=LATE)
    def release(self, name: Name, late: int) -> None:
        """Give a claim back, or try to."""
        self._work(name, late, "release")

    @rule(name=NAMES, late=LATE)
    def give_up(self, name: Name, late: int) -> None:
        """Call a claim INDETERMINATE, or try to."""
        self._work(name, late, "mark_indeterminate")

    def _work(self, name: Name, late: int, deed: str, **more: Any) -> None:
        token = self._token(name, late)
        told, known = self.ask(lambda: getattr(self.store, deed)(token, **more)), self.keys.get(name)
        mine = known is not None and known.fence == token.fence
        again = mine and known is not None and deed == "mark_indeterminate" and known.state is KeyState.INDETERMINATE
        good = mine and known is not None and known.state is KeyState.IN_PROGRESS
        assert told is (None if good or again else StaleTokenError), f"{deed}() told {told}"
        if good and known is not None:
            self._done(name, known, deed)

    def _done(self, name: Name, known: Known, deed: str) -> None:
        known.changed = self.now
        if deed == "renew":
            known.until = self.now + LEASE
        elif deed == "advance":
            known.point, known.data = "sent", b"at acme"
        elif deed == "mark_indeterminate":
            known.state = KeyState.INDETERMINATE
        elif known.takeovers or known.point is not None:
            known.until = self.now
        else:
            del self.keys[name]

    @rule(name=NAMES, anew=st.booleans(), how=ENDS, body=BODIES)
    def resolve(self, name: Name, anew: bool, how: str, body: bytes) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        """Settle a record as it is, or as it was read some time ago, or try to."""
        read = self.ask(lambda: self.store.find(*name))
        seen = read if anew or name not in self.seen else self.seen[name]
        if read is not None:
            self.seen[name] = read
        if seen is None:
            return
        told = self.ask(lambda: self.store.resolve(seen, STATES[how], body, evidence="inquiry"))
        known = self.keys.get(name)
        expected: object = StaleRecordError
        if known is not None and known.fence == seen.fence:
            if known.state is KeyState.INDETERMINATE:
                expected, known.state, known.response, known.changed = None, STATES[how], body, self.now
            elif (known.state, known.response) == (STATES[how], body):
                expected = None
        assert told is expected, f"resolve() told {told}, and the model {expected}"

    @rule(seconds=STEPS)
    def wait(self, seconds: float) -> None:
        """Let time pass."""

        async def passed() -> None:
            await self.contract.passes(self.store, seconds)

        self.driver(passed)
        self.now += seconds

    @rule(name=NAMES)
    def inherit(self, name: Name) -> None:
        """Come for a claim whose holder died, of a key that somebody may have had before. Chance alone would seldom make an heir."""
        request = "r1" if name not in self.keys else self.keys[name].request
        self.claim(name, request)
        self.wait(61.0)
        self.claim(name, request)

    @rule()
    def purge(self) -> None:
        """Forget what is old."""
        ends = set(STATES.values())
        old = [name for name, known in self.keys.items() if known.state in ends and known.changed <= self.now - OLD]
        for name in old:
            del self.keys[name]
        told = self.ask(lambda: self.store.purge(older_than=OLD))
        assert told == len(old), f"a purge forgot {told}, and the model {len(old)}"

    @invariant()
    def every_key_is_as_the_model_says(self) -> None:
        """Look every key up."""

        async def look() -> list[Record | None]:
            return [await ask(self.store.find(*name)) for name in ALL]

        for name, told in zip(ALL, self.driver(look), strict=True):
            known = self.keys.get(name)
            assert (told is None) == (known is None), f"find() told {told}, and the model {known}"
            if told is not None and known is not None:
                seen = (told.state, told.fence, told.takeovers, told.recovery_point, told.data, told.response)
                model = (known.state, known.fence, known.takeovers, known.point, known.data, known.response)
                assert seen == model, f"find() told {seen}, and the model {model}"


class TransactionMachine(Machine):
    """The same, with work that its caller's transaction makes true or takes back."""

    @rule(name=NAMES, request=REQUESTS, body=BODIES, commits=st.booleans())
    def claim_and_complete(self, name: Name, request: str, body: bytes, commits: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        """Claim and finish in one transaction, which commits or is rolled back."""
        told: list[Any] = []

        async def work() -> None:
            opened = self.contract.within if commits else self.contract.taken_back
            async with opened(self.store) as mine:
                told.append(await ask(self.store.claim(*name, fingerprint=request, lease=LEASE, within=mine)))
                if isinstance(told[0], Claimed):
                    await ask(self.store.complete(told[0].token, body, within=mine))

        before = self.keys.get(name)
        saved = None if before is None else Known(**vars(before))
        self.driver(work)
        self._judged(name, request, told[0])
        if isinstance(told[0], Claimed) and not commits:
            self.keys.pop(name)
            if saved is not None:
                self.keys[name] = saved
        elif isinstance(told[0], Claimed):
            known = self.keys[name]
            known.state, known.response = KeyState.COMPLETED, body


def drive(contract: Contract) -> None:
    """Hold a contract's store against the model."""
    drive_machine(contract, TransactionMachine if contract.transactions else Machine)
