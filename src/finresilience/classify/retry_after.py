"""How long does the server ask us to wait? `Retry-After` in seconds and in every date form of HTTP (RFC 9110, 5.6.7 and 10.2.3).

Parsed here and not by `email.utils`: that one reads the two-digit year of RFC 850 by another rule than RFC 9110's, refuses
the leap second that RFC 9110 allows, and takes much that is no HTTP-date at all.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

TEN_YEARS: Final = 10 * 365.25 * 86400.0  # a longer hint is a broken one: None, so that nobody sleeps on it

_LONGEST: Final = 40  # characters; the longest true date, "Wednesday, 09-Nov-94 08:49:37 GMT", has 33
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ZONES: Final = ("GMT", "UTC")


def seconds_to_wait(value: str, *, date: str | None = None, now: Callable[[], datetime]) -> float | None:
    """Return the seconds to wait that a `Retry-After` asks for, or None if it asks for nothing that makes sense.

    A date is measured against the response's own `Date`, where that can be read: then it does not matter that the
    server's clock and ours disagree. A date that has passed is 0.0. What is negative, not a number, longer than ten
    years, or not of the forms RFC 9110 knows is None: no hint is better than a wrong one. A fraction of a second is no
    RFC's, but servers send it and it can only mean one thing, so it is read.

    >>> from datetime import UTC, datetime
    >>> noon = lambda: datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> seconds_to_wait("120", now=noon)
    120.0
    >>> seconds_to_wait("Sun, 01 Mar 2026 12:00:30 GMT", now=noon)
    30.0
    >>> seconds_to_wait("Sun, 01 Mar 2026 12:00:30 GMT", date="Sun, 01 Mar 2026 12:00:20 GMT", now=noon)
    10.0
    >>> seconds_to_wait("soon", now=noon)
    """
    text = value.strip()
    if not 0 < len(text) <= _LONGEST or not text.isascii():
        return None
    if text.replace(".", "", 1).isdigit():
        return _bounded(float(text))
    told = now()
    until = http_date(text, now=told)
    if until is None:
        return None
    since = None if date is None else http_date(date, now=told)
    return _bounded(max(0.0, (until - (since or told)).total_seconds()))


def http_date(text: str, *, now: datetime) -> datetime | None:
    """Return the time an HTTP-date names, or None if it is none. `now` settles the century of a two-digit year.

    The day of the week is not compared: a server that miscounts it still means the date.

    >>> from datetime import UTC, datetime
    >>> now = datetime(2026, 3, 1, tzinfo=UTC)
    >>> for form in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
    ...     print(http_date(form, now=now))
    1994-11-06 08:49:37+00:00
    1994-11-06 08:49:37+00:00
    1994-11-06 08:49:37+00:00
    """
    if len(text) > _LONGEST or not text.isascii():
        return None
    parts = text.replace(",", " ").replace("-", " ").split()
    if len(parts) == 6 and parts[5].upper() in _ZONES:  # IMF-fixdate, or RFC 850 with a two-digit year
        _, day, month, year, clock, _ = parts
    elif len(parts) == 5:  # asctime, which has no zone and means UTC
        _, month, day, clock, year = parts
    else:
        return None
    time = clock.split(":")
    if month.lower() not in _MONTHS or len(time) != 3 or not all(part.isdigit() for part in (year, day, *time)):
        return None
    hour, minute, second = map(int, time)
    rest = (_MONTHS.index(month.lower()) + 1, int(day), hour, minute, 59 if second == 60 else second)  # 60: a leap second
    try:
        return datetime(_full_year(year, rest, now), *rest, tzinfo=UTC)
    except ValueError:  # no such day or hour
        return None


def _full_year(year: str, rest: tuple[int, int, int, int, int], now: datetime) -> int:
    """Two digits more than 50 years ahead are the past (RFC 9110, 5.6.7): take the latest century that does not go beyond."""
    if len(year) != 2:
        return int(year)
    edge = (now.year + 50, now.month, now.day, now.hour, now.minute, now.second)
    century = edge[0] // 100 * 100
    return century + int(year) - (100 if (century + int(year), *rest) > edge else 0)


def _bounded(seconds: float) -> float | None:
    return seconds if seconds <= TEN_YEARS else None
