"""How long the server asks us to wait: RFC 9110, 5.6.7 (dates) and 10.2.3 (Retry-After)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from finresilience.classify.extract import retry_after_of
from finresilience.classify.retry_after import TEN_YEARS, http_date, seconds_to_wait
from finresilience.testing import ManualClock
from tests.classify.raising import saying

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
AT = ManualClock(utc=NOW)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)


def imf(moment: datetime) -> str:
    return f"{DAYS[moment.weekday()][:3]}, {moment.day:02} {MONTHS[moment.month - 1]} {moment.year:04} {moment:%H:%M:%S} GMT"


def rfc850(moment: datetime) -> str:
    return f"{DAYS[moment.weekday()]}, {moment.day:02}-{MONTHS[moment.month - 1]}-{moment.year % 100:02} {moment:%H:%M:%S} GMT"


def asctime(moment: datetime) -> str:
    return f"{DAYS[moment.weekday()][:3]} {MONTHS[moment.month - 1]} {moment.day:2} {moment:%H:%M:%S} {moment.year:04}"


def wait(value: Any, date: Any = None, now: Any = NOW) -> Any:
    return seconds_to_wait(value, date=date, now=lambda: now)


@given(moments, moments, st.sampled_from([imf, asctime]))
def test_a_date_with_four_digits_of_year_comes_back_as_it_was_written(moment: Any, now: Any, form: Any) -> None:
    assert http_date(form(moment), now=now) == moment


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_our_reading_of_a_fixdate_is_that_of_the_standard_library(moment: Any) -> None:
    assert http_date(format_datetime(moment, usegmt=True), now=NOW) == moment.replace(microsecond=0)


@given(moments.filter(lambda moment: 1000 <= moment.year <= 9000), st.timedeltas(timedelta(days=-18_000), timedelta(days=18_000)))
@example(NOW, timedelta(days=365 * 50 - 20))
def test_two_digits_of_year_are_read_within_fifty_years(now: Any, away: Any) -> None:
    moment = (now + away).replace(microsecond=0)
    assert http_date(rfc850(moment), now=now) == moment


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Sunday, 01-Mar-76 12:00:00 GMT", 2076),  # exactly fifty years ahead
        ("Sunday, 01-Mar-76 12:00:01 GMT", 1976),  # and a second more
        ("Sunday, 01-Mar-77 12:00:00 GMT", 1977),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 1994),
        ("Sunday, 06-Nov-00 08:49:37 GMT", 2000),
    ],
)
def test_more_than_fifty_years_ahead_is_the_past(text: Any, year: Any) -> None:
    told = http_date(text, now=NOW)
    assert told is not None
    assert told.year == year


def test_two_digits_of_year_may_name_the_next_century() -> None:
    told = http_date("Sunday, 06-Nov-01 08:49:37 GMT", now=datetime(2099, 1, 1, tzinfo=UTC))
    assert told is not None
    assert told.year == 2101


@given(moments, moments, st.sampled_from([imf, asctime]), st.sampled_from([imf, asctime]))
def test_a_date_is_measured_against_the_responses_own_date(until: Any, since: Any, form: Any, other_form: Any) -> None:
    seconds = (until - since).total_seconds()
    expected = None if seconds > TEN_YEARS else max(0.0, seconds)
    assert wait(form(until), other_form(since), now=datetime(1999, 1, 1, tzinfo=UTC)) == expected


@given(st.integers(0, int(TEN_YEARS)), st.integers(-(10**9), 10**9))
def test_a_wrong_clock_on_either_side_changes_nothing(seconds: Any, wrong_by: Any) -> None:
    server = NOW + timedelta(seconds=wrong_by)
    assert wait(imf(server + timedelta(seconds=seconds)), imf(server)) == seconds


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 41 Mar 2026 12:00:00 GMT", "x" * 1000])
def test_a_date_of_the_response_that_cannot_be_read_leaves_our_clock(date: Any) -> None:
    assert wait(imf(NOW + timedelta(seconds=9)), date) == 9.0


@given(moments)
def test_what_has_passed_is_no_wait(moment: Any) -> None:
    assert wait(imf(moment), imf(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))) == 0.0


@given(st.integers(0, int(TEN_YEARS)))
def test_seconds_are_seconds(seconds: Any) -> None:
    assert wait(str(seconds)) == seconds
    assert wait(f"  {seconds}\t") == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ("1.5", 1.5), ("000120", 120.0), ("0.", 0.0), (str(int(TEN_YEARS)), 315576000.0)]
)
def test_seconds_at_the_edges(text: Any, seconds: Any) -> None:
    assert wait(text) == seconds


GARBAGE = [
    "",
    "   ",
    ".",
    "-1",
    "+1",
    "1e3",
    "1_000",
    "nan",
    "inf",
    "-inf",
    "٣",  # an Arabic three: a digit, but not of RFC 9110
    "120, 60",
    "2 minutes",
    str(int(TEN_YEARS) + 1),
    "9" * 39,
    "9" * 10_000,
    "soon",
    "Sun, 06 Nov 2026 08:49:37 CET",
    "Sun, 06 Nov 2026 08:49:37 +0100",
    "Sun, 06 Nov 2026 08:49 GMT",
    "Sun, 06 Nov 2026 aa:bb:cc GMT",
    "Sun, 06 Nov 2026 24:00:00 GMT",
    "Sun, 06 Nov 2026 23:59:61 GMT",
    "Sun, 31 Feb 2026 08:49:37 GMT",
    "Sun, 00 Nov 2026 08:49:37 GMT",
    "Sun, x6 Nov 2026 08:49:37 GMT",
    "Sun, 06 Nov x026 08:49:37 GMT",
    "Sun, 06 Nov 0000 08:49:37 GMT",
    "Sun, 06 Brumaire 2026 08:49:37 GMT",
    "Sun, 06 Nov 2126 08:49:37 GMT",  # longer than ten years
]


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: text[:40])
def test_what_makes_no_sense_is_no_hint(text: Any) -> None:
    assert wait(text) is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_at_all_raises_or_asks_for_a_wait_without_end(value: Any, date: Any) -> None:
    seconds = wait(value, date)
    assert seconds is None or 0.0 <= seconds <= TEN_YEARS


def test_a_leap_second_is_read() -> None:
    assert http_date("Sat, 31 Dec 2016 23:59:60 GMT", now=NOW) == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_a_wrong_day_of_the_week_still_means_the_date() -> None:
    assert http_date("Mon, 06 Nov 1994 08:49:37 gmt", now=NOW) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


def test_the_clock_is_not_read_for_seconds() -> None:
    assert seconds_to_wait("7", now=lambda: pytest.fail("read the clock")) == 7.0


# ---------------------------------------------------------------- where it is found


def message(**headers: Any) -> Any:
    mail = Message()
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    return mail


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "7"},
        {"retry-after": "7"},
        {"RETRY-AFTER": 7},
        {b"Retry-After": "8", "Retry-After": b"7"},
        {"Retry-After-Ms": "7000", "Retry-After": "99"},
        {"retry-after-ms": "a moment", "Retry-After": "7"},
        {"retry-after-ms": "9" * 30, "Retry-After": "7"},
        MappingProxyType({"Retry-After": "7"}),
        message(Retry_After="7"),
        {"Retry-After": imf(NOW + timedelta(seconds=7))},
        {"Retry-After": imf(NOW + timedelta(seconds=107)), "Date": imf(NOW + timedelta(seconds=100))},
        {"retry-after": rfc850(NOW + timedelta(seconds=107)), "DATE": asctime(NOW + timedelta(seconds=100))},
    ],
    ids=lambda headers: f"{type(headers).__name__} {dict(headers)}",
)
def test_it_is_found_in_any_mapping_whatever_the_case(headers: Any) -> None:
    response = SimpleNamespace(headers=headers)
    assert retry_after_of(response, AT) == 7.0
    assert retry_after_of(saying(RuntimeError(), response=response), AT) == 7.0
    assert retry_after_of(SimpleNamespace(headers=None, response=response), AT) == 7.0


class Grumpy(dict[str, str]):
    def get(self, *_: Any) -> Any:
        raise ValueError("ask somebody else")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Retry-Before": "7"},
        {"Retry-After": None},
        {"Retry-After": True},
        {"Retry-After": 7.5},
        {"Retry-After": ["7"]},
        {"Retry-After": b"\xff"},
        [("Retry-After", "7")],
        "Retry-After: 7",
        42,
        Grumpy({"retry-after": "7"}),
        dict.fromkeys(range(2000), "7") | {"Retry-After": "7"},
    ],
    ids=lambda headers: f"{type(headers).__name__} {headers}"[:40],
)
def test_what_is_no_header_is_no_hint(headers: Any) -> None:
    assert retry_after_of(SimpleNamespace(headers=headers), AT) is None


def test_milliseconds_are_read_as_such() -> None:
    assert retry_after_of(SimpleNamespace(headers={"retry-after-ms": "250"}), AT) == 0.25
