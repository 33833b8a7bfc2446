"""What the command line takes: spans with units, moments with zones, no guesses; and what it refuses, in one line without a secret."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience.cli.app import App
from finresilience.cli.arguments import address, count, hidden, moment, seconds, span
from tests.cli.commands import SIGNED, outbox_with

if TYPE_CHECKING:
    from tests.cli.commands import Shell


@pytest.mark.parametrize(
    ("text", "told"),
    [("90s", 90), ("30min", 1800), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("2w", 1209600), ("1.5h", 5400), ("0s", 0)],
)
def test_a_span_has_its_unit(text: str, told: float) -> None:
    assert span(text) == seconds(text) == told


def test_a_bare_number_is_seconds_only_where_seconds_are_asked_for() -> None:
    assert seconds("90") == 90.0
    with pytest.raises(ArgumentTypeError, match="with its unit"):
        span("7")


@pytest.mark.parametrize("text", ["", "d", "-7d", "7 d", "7days", "1e9d", "nan", "inf", "99999999w", "٧d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    for reads in (span, seconds):
        with pytest.raises(ArgumentTypeError, match="give a span"):
            reads(text)


def test_a_moment_has_a_zone() -> None:
    assert moment("2026-01-31T10:00:00+01:00") == datetime(2026, 1, 31, 9, tzinfo=UTC)
    for text in ("2026-01-31T10:00:00", "2026-01-31", "yesterday", ""):
        with pytest.raises(ArgumentTypeError, match="with its zone"):
            moment(text)


@pytest.mark.parametrize(
    ("text", "told"), [("127.0.0.1:8080", ("127.0.0.1", 8080)), ("[::1]:0", ("::1", 0)), ("box:65535", ("box", 65535))]
)
def test_an_address_has_a_host_and_a_port(text: str, told: tuple[str, int]) -> None:
    assert address(text) == told


@pytest.mark.parametrize("text", ["8080", ":8080", "box:", "box:x", "box:65536", "box:-1", "box:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="HOST:PORT"):
        address(text)


@pytest.mark.parametrize("text", ["0", "-1", "10001", "x", "1.5", "", "9" * 5000])
def test_a_listing_is_bounded(text: str) -> None:
    assert count("10000") == 10_000
    with pytest.raises(ArgumentTypeError, match="from 1 to 10,000"):
        count(text)


# --- whole lines -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        ("outbox",),
        ("outbox", "statsu"),
        ("outbox", "purge"),
        ("outbox", "purge", "--older-than", "7"),
        ("outbox", "purge", "--older-than", "7d", "--appl"),
        ("outbox", "replay", "--since", "2026-01-01", "--until", "2026-01-02"),
        ("outbox", "status", "--data", "sqlite:///x"),
        ("idempotency", "show", "k"),
        ("relay", "--health", "8080"),
        ("outbox", "dlq", "revive", "--fingerprint", "f", *SIGNED[:-1], " "),
    ],
)
def test_a_line_that_cannot_work_ends_with_two_and_one_line(finresilience: Shell, line: tuple[str, ...]) -> None:
    said = finresilience(*line, app=None)
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert said.err.startswith("finresilience")
    assert "--help)" in said.err


def test_apply_is_never_guessed_from_app(finresilience: Shell) -> None:
    store = outbox_with(published=1)
    finresilience.let(app=App(outbox=store))
    said = finresilience("outbox", "purge", "--older-than", "0s", "--json")
    assert said.document["applied"] is False


def test_a_mistyped_option_does_not_print_the_password_after_it(finresilience: Shell) -> None:
    said = finresilience("outbox", "status", "--databse-url", "postgresql://ana:hunter2@db/bank", app=None)
    assert (said.code, "hunter2" in said.err) == (2, False)


secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6).filter(
    lambda text: text not in "postgresql://ana:***@db/bank ?="
)


@given(secrets)
def test_no_url_keeps_its_password(secret: str) -> None:
    assert hidden(f"cannot open postgresql://ana:{secret}@db/bank") == "cannot open postgresql://***@db/bank"


@pytest.mark.parametrize("text", ["password=hunter2", "host=db password = hunter2 user=ana", "?sslpassword=hunter2&x=1", "PWD:hunter2"])
def test_no_dsn_keeps_its_password(text: str) -> None:
    assert "hunter2" not in hidden(text)


def test_help_is_no_error(finresilience: Shell, capsys: Any) -> None:
    for line in ((), ("outbox",), ("outbox", "dlq", "revive"), ("relay",)):
        assert finresilience(*line, "--help", app=None).code == 0
