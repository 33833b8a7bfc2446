"""The tables are data: each row is looked at, and each foreign name is held against the library it names."""

from __future__ import annotations

import builtins
import importlib
import sqlite3
from types import SimpleNamespace

import pytest

from finresilience.classify import declines_classifier, http_classifier, payments_classifier, sockets_classifier, sql_classifier
from finresilience.classify.clients import CLIENTS, PHASES, UNSENT, Phase, phase_of
from finresilience.classify.declines import ISO_8583, STRIPE
from finresilience.classify.extract import _HIDING, _STATUS_IS_CODE
from finresilience.classify.sockets import AT_ANY_TIME, NOT_SENT
from finresilience.classify.sql import POOLS, SQLITE_NAMES, SQLSTATES
from finresilience.classify.statuses import MOVED_NOTHING, STATUSES, WITH_RETRY_AFTER
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict

NOT_NOW = Verdict(RETRYABLE, counts_against_provider=False)
NOT_INSTALLED = {"sqlalchemy", "psycopg_pool"}  # no part of this library's tests; the names were compared with 2.0 and 3.2
RULED_ELSEWHERE = [*_HIDING, _STATUS_IS_CODE, "aiohttp.http_exceptions.HttpProcessingError"]
NAMES = sorted({*PHASES, *NOT_SENT, *AT_ANY_TIME, *POOLS, *RULED_ELSEWHERE})


def found(name):
    module, _, qualname = name.rpartition(".")
    return getattr(importlib.import_module(module), qualname)


@pytest.mark.parametrize("name", [name for name in NAMES if name.partition(".")[0] not in NOT_INSTALLED])
def test_every_foreign_name_is_the_name_of_an_error(name):
    kind = found(name)
    assert issubclass(kind, BaseException)
    assert f"{kind.__module__}.{kind.__qualname__}" == name


@pytest.mark.parametrize("library", [library for library in CLIENTS if library])
def test_every_error_of_a_client_has_a_phase_or_a_status(library):
    """A new release's new error must not slip through unseen."""
    told_by_status = {"HTTPStatusError", "HTTPError", "ClientResponseError", "ContentTypeError", "WSServerHandshakeError"}
    bases = {"ClientError", "RequestException"}  # raised by nobody
    after_the_answer = {"CookieConflict", "StreamError", "StreamConsumed", "StreamClosed", "ResponseNotRead", "RequestNotRead"}
    not_http = {"WSMessageTypeError", "ProtocolError"}  # h11's base
    for name, kind in vars(importlib.import_module(library)).items():
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == library and not issubclass(kind, Warning):
            known = phase_of(kind.__new__(kind)) is not None
            assert known or name in told_by_status | bases | after_the_answer | not_http, name


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("httpx.ReadTimeout", Phase.SENT),
        ("httpx.WriteError", Phase.SENT),
        ("httpx.RemoteProtocolError", Phase.SENT),
        ("httpx.ConnectTimeout", Phase.CONNECT),
        ("httpx2.SSEError", Phase.SENT),
        ("httpcore.WriteTimeout", Phase.SENT),
        ("httpcore2.RemoteProtocolError", Phase.SENT),
        ("aiohttp.client_exceptions.ClientConnectorCertificateError", Phase.TLS),
        ("aiohttp.client_exceptions.UnixClientConnectorError", Phase.CONNECT),
        ("aiohttp.client_exceptions.ClientConnectionResetError", Phase.SENT),
        ("aiohttp.client_exceptions.ServerTimeoutError", Phase.SENT),
        ("aiohttp.client_exceptions.SocketTimeoutError", Phase.SENT),
        ("aiohttp.client_exceptions.ClientOSError", Phase.SENT),
        ("aiohttp.client_exceptions.InvalidUrlClientError", Phase.MAKE),
        ("aiohttp.client_exceptions.InvalidUrlRedirectClientError", Phase.SENT),
        ("requests.exceptions.ConnectTimeout", Phase.INSIDE),
        ("requests.exceptions.SSLError", Phase.INSIDE),
        ("requests.exceptions.JSONDecodeError", Phase.SENT),
        ("urllib3.exceptions.ReadTimeoutError", Phase.SENT),
        ("urllib3.exceptions.FullPoolError", Phase.SENT),  # raised when a connection is given back, after the answer
        ("urllib3.exceptions.InvalidHeader", Phase.SENT),  # the answer's
        ("urllib3.exceptions.LocationParseError", Phase.MAKE),
        ("http.client.RemoteDisconnected", Phase.SENT),
    ],
)
def test_the_most_specific_class_gives_the_phase(name, phase):
    kind = found(name)
    assert phase_of(kind.__new__(kind)) is phase


def test_only_what_comes_before_the_first_byte_is_unsent():
    assert set(Phase) - UNSENT == {Phase.SENT, Phase.LOCAL, Phase.INSIDE}


# ---------------------------------------------------------------- statuses


def test_every_status_from_400_on_has_a_meaning_and_none_below():
    assert sorted(STATUSES) == list(range(400, 1000))


@pytest.mark.parametrize(
    "status", [408, 409, 418, 419, 423, 424, 430, 444, 449, 460, 499, 500, 501, 502, 503, 504, 505, 511, 520, 522, 529, 599, 999]
)
def test_a_status_that_may_hide_a_success_is_unknown(status):
    assert STATUSES[status] is UNKNOWN


@pytest.mark.parametrize("status", [421, 425, 429])
def test_a_status_that_says_not_yet_is_retryable(status):
    assert STATUSES[status] is RETRYABLE


@pytest.mark.parametrize(
    "status", [400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 413, 414, 415, 416, 417, 422, 426, 428, 431, 451]
)
def test_a_status_that_says_no_is_not_retryable_and_not_the_providers_fault(status):
    verdict = http_classifier().value(SimpleNamespace(status_code=status))
    assert verdict == Verdict(NON_RETRYABLE, counts_against_provider=False)


@pytest.mark.parametrize("status", [100, 101, 103, 200, 201, 202, 204, 226, 299, 300, 302, 303, 304, 307, 399])
def test_an_answer_below_400_is_ordinary_as_a_value_and_unknown_as_an_error(status):
    error = RuntimeError()
    error.status_code = status
    assert http_classifier().value(SimpleNamespace(status_code=status)) is None
    assert http_classifier().error(error) == Verdict(UNKNOWN)


def test_only_503_changes_with_a_retry_after():
    assert dict(WITH_RETRY_AFTER) == {503: RETRYABLE}
    for status, told in STATUSES.items():
        verdict = http_classifier().value(SimpleNamespace(status_code=status, headers={"Retry-After": "7"}))
        assert verdict.classification is WITH_RETRY_AFTER.get(status, told)
        assert verdict.retry_after == 7.0


@pytest.mark.parametrize("hint", ["soon", "-1", "nan", ""])
def test_a_503_with_a_hint_that_cannot_be_read_is_a_503_without(hint):
    assert http_classifier().value(SimpleNamespace(status_code=503, headers={"Retry-After": hint})) == Verdict(UNKNOWN)


def test_what_moved_nothing_is_what_says_so():
    assert {307, 308, 401, 402, 429} <= MOVED_NOTHING
    assert not {200, 201, 301, 302, 303, 409, 500, 502, 503, 504} & MOVED_NOTHING


# ---------------------------------------------------------------- declines


@pytest.mark.parametrize("code", ["06", "09", "20", "22", "32", "68", "91", "94", "96"])
def test_a_response_code_from_somebody_who_may_not_know_is_unknown(code):
    assert declines_classifier().value(SimpleNamespace(response_code=code)) == Verdict(UNKNOWN)


@pytest.mark.parametrize("code", ["19", "90", "issuer_not_available", "processing_error", "reenter_transaction", "try_again_later"])
def test_a_soft_decline_may_be_tried_again_and_is_not_the_providers_fault(code):
    assert declines_classifier().value(SimpleNamespace(decline_code=code)) == NOT_NOW


@pytest.mark.parametrize("code", ["04", "05", "14", "41", "43", "51", "54", "59", "61", "65", "75", "92", "R0", "R1", "R3", "1A", "N7"])
def test_a_hard_decline_stays_one(code):
    assert declines_classifier().value(SimpleNamespace(code=code)) == Verdict(NON_RETRYABLE)


@pytest.mark.parametrize("code", ["00", "08", "10", "11", "16", "85", "87", "succeeded", "200", "0", "1", "51 "])
def test_an_approval_or_a_code_of_another_language_is_an_ordinary_answer(code):
    assert declines_classifier().value(SimpleNamespace(code=code)) is None


@pytest.mark.parametrize("code", sorted(STRIPE))
def test_a_stripe_like_error_is_told_by_its_code_before_its_402(code):
    error = RuntimeError()
    error.http_status, error.code, error.decline_code = 402, "card_declined", code
    assert payments_classifier().error(error).classification is STRIPE[code]


def test_a_new_decline_code_is_told_by_the_code_beside_it():
    error = RuntimeError()
    error.http_status, error.code, error.decline_code = 402, "card_declined", "invented_yesterday"
    assert payments_classifier().error(error) == Verdict(NON_RETRYABLE)


def test_the_two_languages_share_no_word_and_each_word_has_one_meaning():
    assert not set(ISO_8583) & set(STRIPE)
    assert all(len(code) == 2 for code in ISO_8583)
    assert set(STRIPE.values()) | set(ISO_8583.values()) == {NON_RETRYABLE, RETRYABLE, UNKNOWN}


def test_a_code_may_be_kept_anywhere():
    classifier = declines_classifier(code_of=lambda answer: answer.get(39))
    assert classifier.value({39: "51"}) == Verdict(NON_RETRYABLE)
    assert classifier.value({39: "00"}) is None
    assert classifier.value({}) is None
    assert classifier.value("not an answer of that kind") is None


# ---------------------------------------------------------------- SQL


class DatabaseError(Exception):
    def __init__(self, sqlstate=None, pgcode=None, name=None):
        self.sqlstate, self.pgcode, self.sqlite_errorname = sqlstate, pgcode, name


@pytest.mark.parametrize(
    ("sqlstate", "told"),
    [
        ("08000", UNKNOWN),
        ("08001", RETRYABLE),
        ("08003", UNKNOWN),
        ("08004", RETRYABLE),
        ("08006", UNKNOWN),
        ("08007", UNKNOWN),
        ("08P01", UNKNOWN),
        ("22003", NON_RETRYABLE),
        ("23505", NON_RETRYABLE),
        ("25006", RETRYABLE),
        ("25P02", NON_RETRYABLE),
        ("25P03", RETRYABLE),
        ("28P01", NON_RETRYABLE),
        ("40001", RETRYABLE),
        ("40002", NON_RETRYABLE),
        ("40003", UNKNOWN),
        ("40P01", RETRYABLE),
        ("42601", NON_RETRYABLE),
        ("42P01", NON_RETRYABLE),
        ("53100", RETRYABLE),
        ("53300", RETRYABLE),
        ("55P03", RETRYABLE),
        ("57014", RETRYABLE),
        ("57P01", UNKNOWN),
        ("57P02", UNKNOWN),
        ("57P03", RETRYABLE),
        ("57P05", RETRYABLE),
        ("58030", UNKNOWN),
        ("P0001", NON_RETRYABLE),
        ("XX000", UNKNOWN),
        ("ZZ999", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_a_sqlstate_tells_whether_it_was_committed(sqlstate, told):
    assert sql_classifier().error(DatabaseError(sqlstate)).classification is told
    assert sql_classifier().error(DatabaseError(pgcode=sqlstate)).classification is told


def test_every_sqlstate_is_a_code_or_a_class():
    assert {len(code) for code in SQLSTATES} == {2, 5}
    assert all(code[:2] in SQLSTATES for code in SQLSTATES if not code.startswith("55"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SQLITE_BUSY", RETRYABLE),
        ("SQLITE_BUSY_SNAPSHOT", RETRYABLE),
        ("SQLITE_LOCKED_SHAREDCACHE", RETRYABLE),
        ("SQLITE_CONSTRAINT_UNIQUE", NON_RETRYABLE),
        ("SQLITE_IOERR_WRITE", UNKNOWN),
        ("SQLITE_FULL", UNKNOWN),
        ("SQLITE_CORRUPT", UNKNOWN),
    ],
)
def test_sqlite_tells_by_name(name, told):
    assert sql_classifier().error(DatabaseError(name=name)).classification is told


def test_real_sqlite_errors_are_told():
    database = sqlite3.connect(":memory:")
    database.execute("create table t (id primary key)")
    database.execute("insert into t values (1)")
    with pytest.raises(sqlite3.IntegrityError) as twice:
        database.execute("insert into t values (1)")
    with pytest.raises(sqlite3.OperationalError) as nonsense:
        database.execute("insert where")
    database.close()
    assert sql_classifier().error(twice.value) == Verdict(NON_RETRYABLE)
    assert sql_classifier().error(nonsense.value) == Verdict(UNKNOWN)  # SQLITE_ERROR says everything and nothing


def test_a_database_error_is_read_through_the_one_that_wraps_it():
    wrapper = RuntimeError("(OperationalError) ...")
    wrapper.code = "e3q8"  # SQLAlchemy: where it is documented
    wrapper.__cause__ = DatabaseError("40001")
    assert sql_classifier().error(wrapper) == Verdict(RETRYABLE)


@pytest.mark.parametrize("name", POOLS)
def test_a_full_pool_of_connections_is_not_the_databases_fault(name):
    module, _, qualname = name.rpartition(".")
    kind = type(qualname, (Exception,), {"__module__": module})
    assert sql_classifier().error(kind()) == NOT_NOW


def test_an_answer_of_a_database_is_ordinary():
    assert sql_classifier().value(object()) is None
    assert set(SQLITE_NAMES.values()) == {RETRYABLE, NON_RETRYABLE}


# ---------------------------------------------------------------- sockets


def test_every_socket_error_has_a_meaning():
    classifier = sockets_classifier()
    for name in NOT_SENT:
        assert classifier.error(found(name).__new__(found(name))).classification is RETRYABLE
    for name in AT_ANY_TIME:
        assert classifier.error(found(name).__new__(found(name))).classification is UNKNOWN


def test_every_builtin_error_has_a_verdict():
    for kind in vars(builtins).values():
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning | BaseExceptionGroup):
            told = payments_classifier().error(kind.__new__(kind)).classification
            assert told is (RETRYABLE if kind is ConnectionRefusedError else UNKNOWN), kind
