"""Eight relays and who strikes them: killed, stopped for longer than a lease, cut off from the database, at times that a seed draws."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from tests.integration.sql.kill_journal import DONE, TROUBLE, Books, Journal
from tests.integration.sql.kill_relay import EVERY, LEASE, MOST_HELD, WIDTH

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from tests.integration.sql.kill_nursery import Nursery
    from tests.integration.sql.kill_world import World

AN_HOUR: Final = 3600.0
WINDOW: Final = MOST_HELD * (EVERY + WIDTH)  # what one relay has published and not settled, at most
PENDING: Final = text("SELECT EXISTS (SELECT 1 FROM fin_outbox WHERE published_at IS NULL)")
CUT: Final = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name")
LONGEST: Final = 36_000.0 if os.environ.get("FINRESILIENCE_DEEP") else 110.0  # seconds


@dataclass
class Disaster:
    """What is done to whom, and when it is over."""

    world: World
    nursery: Nursery
    folder: Path
    chance: Random
    drivers: tuple[str, ...]
    kinds: tuple[str, ...] = ("kill", "stop", "cut")
    pause: float = 0.8
    """Seconds between two strikes, on average."""
    slow: float = 0.0
    relays: dict[int, str] = field(default_factory=dict)
    asleep: dict[int, float] = field(default_factory=dict)
    struck: list[str] = field(default_factory=list)

    def begin(self) -> None:
        for driver in self.drivers:
            self.start(driver)

    def start(self, driver: str) -> None:
        skew = self.chance.choice((-AN_HOUR, 0.0, AN_HOUR))
        child = self.nursery.start("relay", url=self.world.url, journal=str(self.folder), driver=driver, skew=skew, slow=self.slow)
        self.relays[child] = driver

    def strike(self, connection: Any) -> None:
        """Do one of them something."""
        awake = [pid for pid in self.relays if pid not in self.asleep]
        kind = self.kinds[len(self.struck) % len(self.kinds)]  # each of them happens, however short the run
        victim = self.chance.choice(awake)
        self.struck.append(kind)
        if kind == "kill":
            os.kill(victim, signal.SIGKILL)
            self.note(victim, kind)
            self.start(self.relays.pop(victim))
        elif kind == "stop":
            os.kill(victim, signal.SIGSTOP)
            self.note(victim, kind)
            self.asleep[victim] = time.monotonic() + LEASE * 1.25
        else:
            connection.execute(CUT, {"name": f"relay-{victim}"})
            self.note(victim, kind)

    def wake(self) -> None:
        for pid, until in list(self.asleep.items()):
            if time.monotonic() >= until:
                del self.asleep[pid]
                self.note(pid, "wake")
                os.kill(pid, signal.SIGCONT)

    def note(self, pid: int, what: str) -> None:
        Journal(self.folder, pid).write(TROUBLE, what)

    def run(self, producers: list[int]) -> None:
        """Strike until everything is produced and published."""
        engine = self.world.engine(pool_size=1, isolation_level="AUTOCOMMIT")
        deadline = time.monotonic() + LONGEST
        with engine.connect() as connection:
            strike_at = time.monotonic() + self.pause
            while not self.all_done(producers) or connection.execute(PENDING).scalar_one():
                if time.monotonic() >= strike_at and len(self.asleep) < len(self.relays) // 2:
                    self.strike(connection)
                    strike_at = time.monotonic() + self.pause * (0.5 + self.chance.random())
                self.tick(deadline)
            while self.asleep:  # what they do when they wake is theirs to account for, too
                self.tick(deadline)
        engine.dispose()

    def tick(self, deadline: float) -> None:
        assert time.monotonic() < deadline, self.report()
        time.sleep(0.05)
        self.wake()

    def all_done(self, producers: list[int]) -> bool:
        """Whether every producer has said so."""
        told = [self.folder / f"{pid}" for pid in producers]
        return all(file.exists() and file.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2].startswith(DONE.encode()) for file in told)

    def over(self) -> None:
        """End every relay, so that no late line comes."""
        for pid in self.relays:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.note(pid, "over")

    def report(self) -> str:
        books = Books.read(self.folder)
        return f"not over: {len(books.committed)} committed, {len(books.published)} published, {len(self.struck)} strikes"
