"""The bulkhead's core said again and slowly, and bulkheads that are wrong in one thing each."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from finresilience.cores.bulkhead import BulkheadCore, Entry, Ticket

Make = Callable[..., Any]  # a BulkheadCore, or a saboteur in its place
MAX_WAIT, LEASE = 4.0, 2.0


class Person:
    """One caller in the book. `state` is new, waiting, granted, inside, lapsed or out."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket, self.until, self.state, self.came, self.lapse = ticket, ticket.until, "new", inf, inf


class Book:
    """A list of people, looked through from the beginning at every step."""

    def __init__(self, limit: int, queue: int) -> None:
        self.limit, self.queue, self.people, self.comers = limit, queue, list[Person](), 0

    def those(self, *states: str) -> list[Person]:
        found = [one for one in self.people if one.state in states]
        return sorted(found, key=lambda one: (one.came, one.lapse)) if len(found) > 1 else found

    @property
    def crowd(self) -> int:
        return sum(one.state in {"inside", "granted"} for one in self.people)

    def settle(self, now: float) -> None:
        for one in self.those("granted"):
            if one.lapse <= now:
                one.state = "lapsed"
        for one in self.those("waiting"):
            if one.until <= now:
                one.state = "out"
            elif self.crowd < self.limit:
                one.state, one.lapse = "granted", now + LEASE
            else:
                break

    def ask(self, person: Person, now: float) -> float | str:
        self.settle(now)
        state, on_time = person.state, now < person.until
        if state == "granted" or (self.crowd < self.limit and (state == "new" or (state == "lapsed" and on_time))):
            person.state = "inside"
            return "in"
        if state != "new" and not on_time:
            person.state = "out"
            return "late"
        if state in {"new", "lapsed"}:
            if len(self.those("waiting")) >= self.queue:
                person.state = "out"
                return "full"
            if state == "new":
                self.comers += 1
                person.came = self.comers
            person.state = "waiting"
        first = min((one.lapse for one in self.those("granted")), default=inf)
        return min(person.until, first, now + LEASE)

    def leave(self, person: Person, now: float) -> None:
        person.state = "out"
        self.settle(now)


class World:
    """The core and the book side by side: every deed is done to both, and they must agree on all that can be seen."""

    def __init__(self, make: Make, limit: int, queue: int) -> None:
        self.core, self.book, self.now = make(limit=limit, queue=queue, lease=LEASE), Book(limit, queue), 0.0

    def comer(self, patience: float = MAX_WAIT) -> Person:
        person = Person(Ticket(self.now, patience))
        self.book.people.append(person)
        return person

    def ask(self, person: Person) -> float | str:
        answer = self.core.ask(person.ticket, self.now)
        assert answer == self.book.ask(person, self.now)
        self.compare()
        return answer  # type: ignore[no-any-return] # of a core or a saboteur

    def leave(self, person: Person) -> None:
        self.core.leave(self.now, person.ticket)
        self.book.leave(person, self.now)
        self.compare()

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def resize(self, limit: int) -> None:
        self.core.resize(limit, self.now)
        self.book.limit = limit
        self.book.settle(self.now)
        self.compare()

    def take(self) -> Person | None:
        """Somebody comes who does not want to wait."""
        hold = self.comer()
        taken = self.core.take(hold.ticket, self.now)
        self.book.settle(self.now)
        assert taken == (self.book.crowd < self.book.limit)
        hold.state = "inside" if taken else "out"
        self.compare()
        return hold if taken else None

    def compare(self) -> None:
        core, book = self.core, self.book
        assert core.inside == {one.ticket for one in book.those("inside")}
        assert core.granted == {one.ticket: one.lapse for one in book.those("granted")}
        assert list(core.granted.values()) == sorted(core.granted.values())  # whose grants lapse together may stand in any order
        assert list(core.waiting) == [one.ticket for one in book.those("waiting")]
        assert len(core.waiting) <= book.queue
        assert not core.waiting or core.free <= 0  # no place stands empty while somebody waits


Core: Any = BulkheadCore  # final, but not for a saboteur


class Boundless(Core):  # type: ignore[misc] # of no type
    """Lets in whoever asks, if somebody has left since."""

    def ask(self, ticket: Ticket, now: float) -> Any:
        if not ticket.number and len(self.inside) <= self.limit:
            self.inside.add(ticket)
            return Entry.IN
        return super().ask(ticket, now)


class Overtaking(Core):  # type: ignore[misc] # of no type
    """A place that comes free is anybody's: whoever comes first after that has it."""

    def _settle(self, now: float) -> None: ...


class LastInFirstOut(Core):  # type: ignore[misc] # of no type
    def _stand(self, ticket: Ticket) -> None:
        super()._stand(ticket)
        self.waiting.move_to_end(ticket, last=False)


class Leaseless(Core):  # type: ignore[misc] # of no type
    def _settle(self, now: float) -> None:
        super()._settle(now)
        self.granted.update(dict.fromkeys(self.granted, inf))


class Sleepy(Core):  # type: ignore[misc] # of no type
    """Looks again only when its own time is over: somebody else must be needed to notice a lapse."""

    def ask(self, ticket: Ticket, now: float) -> Any:
        answer = super().ask(ticket, now)
        return ticket.until if isinstance(answer, float) else answer


class Forgiving(Core):  # type: ignore[misc] # of no type
    """Lets in the one whose grant has lapsed, although somebody else has his place."""

    def _settle(self, now: float) -> None:
        self.mine = {*getattr(self, "mine", ()), *self.granted}
        super()._settle(now)

    def ask(self, ticket: Ticket, now: float) -> Any:
        answer = super().ask(ticket, now)
        if ticket in self.mine and isinstance(answer, float):
            self.inside.add(ticket)
            return Entry.IN
        return answer


class Leaking(Core):  # type: ignore[misc] # of no type
    """A caller cancelled at the moment of its grant keeps the place."""

    def leave(self, now: float, *holds: Any) -> None:
        super().leave(now, *(hold for hold in holds if hold not in self.granted))


class Patient(Core):  # type: ignore[misc] # of no type
    """Hands a place to a waiter whose time is over."""

    def _settle(self, now: float) -> None:
        for ticket in self.waiting:
            ticket.until = max(ticket.until, now + 1)
        super()._settle(now)


class Counting(Core):  # type: ignore[misc] # of no type
    """Counts places: taken back twice, one is two."""

    def leave(self, now: float, *holds: Any) -> None:
        self.limit += sum(hold not in self.inside and hold not in self.waiting and hold not in self.granted for hold in holds)
        super().leave(now, *holds)


class Interrupting(Core):  # type: ignore[misc] # of no type
    """Throws out whoever is too many once the limit is lowered."""

    def resize(self, limit: int, now: float) -> None:
        super().resize(limit, now)
        while self.free < 0:
            self.inside.pop()


class Stingy(Core):  # type: ignore[misc] # of no type
    """Lets the waiters see a higher limit only when somebody leaves."""

    def resize(self, limit: int, now: float) -> None:
        self.limit = limit


class Unbounded(Core):  # type: ignore[misc] # of no type
    def ask(self, ticket: Ticket, now: float) -> Any:
        self.queue += 1
        return super().ask(ticket, now)


class BackOfTheQueue(Core):  # type: ignore[misc] # of no type
    """Sends the one whose grant has lapsed to the end."""

    def _stand(self, ticket: Ticket) -> None:
        ticket.number = 0
        super()._stand(ticket)
