"""One event: what it may hold, what it is called elsewhere, and what it keeps to itself."""

from __future__ import annotations

import json
import pickle
from base64 import b64decode
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from finresilience.durable.messages import (
    MAX_PAYLOAD,
    OutboxMessage,
    OutboxRow,
    cloudevent,
    cloudevent_headers,
    columns,
    partition_of,
    uuid7,
)
from finresilience.errors import ConfigurationError

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ID = UUID("01890000-0000-7000-8000-000000000001")
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3),
    max_leaves=8,
)


def message(**more: Any) -> OutboxMessage:
    plain: dict[str, Any] = {"topic": "payments", "key": "acc_1", "type": "Paid", "payload": {"amount": "50.00"}}
    return OutboxMessage(**plain | more)


def row(**more: Any) -> OutboxRow:
    made = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
    return OutboxRow(seq=7, part=3, message=message(**{"id": ID} | more), attempts=0, takeovers=0, created_at=made)


@given(JSON)
def test_a_json_payload_is_read_as_it_was_written(payload: Any) -> None:
    assert message(payload=payload).json() == payload


@given(st.binary(max_size=100))
def test_bytes_stay_bytes(payload: bytes) -> None:
    assert message(payload=payload).payload == message(payload=bytearray(payload)).payload == payload


def test_what_happens_to_the_payload_afterwards_changes_nothing() -> None:
    given_payload, headers = {"amount": "50.00"}, {"a": "b"}
    frozen = message(payload=given_payload, headers=headers)
    given_payload["amount"], headers["a"] = "9999.00", "c"
    assert (frozen.json(), dict(frozen.headers)) == ({"amount": "50.00"}, {"a": "b"})
    with pytest.raises(TypeError):
        frozen.headers["a"] = "c"  # type: ignore[index]  # the very mistake under test  # pyright: ignore[reportIndexIssue]


def test_a_message_survives_a_process_pool() -> None:
    sent = message(headers={"a": "b"}, tenant="acme", traceparent=TRACE, id=ID)
    assert pickle.loads(pickle.dumps(sent)) == sent
    assert hash(pickle.loads(pickle.dumps(sent))) == hash(sent)


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic": ""},
        {"topic": "a\nb"},
        {"key": " "},
        {"key": 7},
        {"key": "x" * 256},
        {"key": "\ud800"},
        {"type": None},
        {"tenant": ""},
        {"payload": float("nan")},
        {"payload": {"amount": Decimal("50.00")}},
        {"payload": {"when": datetime(2026, 1, 1, tzinfo=UTC)}},
        {"payload": b"x" * (MAX_PAYLOAD + 1)},
        {"payload": {"half": "\ud800"}},
        {"id": "01890000-0000-7000-8000-000000000001"},
        {"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"},
        {"traceparent": "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"traceparent": TRACE.upper()},
        {"headers": {"a": "b\r\nInjected: yes"}},
        {"headers": {"a b": "c"}},
        {"headers": {"a": 1}},
        {"headers": {f"h{n}": "" for n in range(65)}},
        {"headers": [("a", "b")]},
        {"content_type": "json"},
        {"schema_version": 0},
        {"schema_version": True},
    ],
    ids=str,
)
def test_what_cannot_be_stored_or_published_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        message(**wrong)


def test_a_circle_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ConfigurationError, match="payload"):
        message(payload=circle)


def test_nothing_shown_tells_whose_money_it_is() -> None:
    secret = message(key="DE89370400440532013000", payload={"iban": "DE89370400440532013000"}, tenant="acme")
    assert "DE89" not in repr(secret)
    with pytest.raises(ConfigurationError) as caught:
        message(key="DE89370400440532013000\n")
    assert "DE89" not in str(caught.value)


# --- where it belongs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(  # the last of the first 16 hex digits that `printf '4:acmeacc_1' | sha256sum` prints
    ("tenant", "key", "part"),
    [(None, "acc_1", 6), (None, "acc_2", 11), ("acme", "acc_1", 5), ("acme", "acc_2", 2), (None, "€", 4), ("ä", "1", 9)],
)
def test_the_partition_of_a_key_is_fixed_for_ever(tenant: str | None, key: str, part: int) -> None:
    assert partition_of(tenant, key, 16) == part


@given(st.none() | TEXT, TEXT, st.integers(1, 1024))
def test_every_key_has_a_partition(tenant: str | None, key: str, partitions: int) -> None:
    assert 0 <= partition_of(tenant, key, partitions) < partitions


def test_keys_spread_over_the_partitions() -> None:
    counts = [0] * 16
    for n in range(16_000):
        counts[partition_of(None, f"acc_{n}", 16)] += 1
    assert 850 < min(counts) <= max(counts) < 1150


def test_no_two_pairs_of_tenant_and_key_are_taken_for_one() -> None:
    pairs = [("a", "bc"), ("ab", "c"), (None, "abc"), ("1:a", "bc"), (None, "1:abc"), ("", "abc")]
    assert len({partition_of(tenant, key, 2**60) for tenant, key in pairs}) == len(pairs)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_an_id_is_a_uuid_of_version_7_that_holds_its_time_and_chance(milliseconds: int, chance: int) -> None:
    made = uuid7(milliseconds, chance)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == milliseconds
    assert (made.int >> 64 & 0xFFF) << 62 | made.int & (1 << 62) - 1 == chance


@given(st.integers(0, 2**48 - 2), st.integers(0, 2**74 - 1), st.integers(0, 2**74 - 1))
def test_later_ids_sort_later(milliseconds: int, one: int, other: int) -> None:
    assert str(uuid7(milliseconds, one)) < str(uuid7(milliseconds + 1, other))


# --- what it is called elsewhere ---------------------------------------------------------------------------------------


def test_the_columns_are_those_of_debezium() -> None:
    told = columns(row(traceparent=TRACE, tenant="acme", headers={"x": "y"}))
    assert {name: told[name] for name in ("id", "aggregatetype", "aggregateid", "type", "payload")} == {
        "id": ID,
        "aggregatetype": "payments",
        "aggregateid": "acc_1",
        "type": "Paid",
        "payload": b'{"amount":"50.00"}',
    }
    assert told["headers"] == {"x": "y", "content-type": "application/json", "schema-version": "1", "traceparent": TRACE}


def test_a_structured_cloudevent_has_every_attribute() -> None:
    told = cloudevent(row(traceparent=TRACE, tenant="acme", headers={"tracestate": "a=b"}), source="/payments")
    assert told == {
        "specversion": "1.0",
        "id": str(ID),
        "source": "/payments",
        "type": "Paid",
        "subject": "acc_1",
        "time": "2026-01-01T12:00:00.500000Z",
        "datacontenttype": "application/json",
        "partitionkey": "acc_1",
        "sequence": "00000000000000000007",
        "schemaversion": "1",
        "tenant": "acme",
        "traceparent": TRACE,
        "tracestate": "a=b",
        "data": {"amount": "50.00"},
    }
    assert json.loads(json.dumps(told)) == told


def test_bytes_go_into_a_cloudevent_as_base64() -> None:
    told = cloudevent(row(payload=b"\x00\xff"), source="/payments")
    assert "data" not in told
    assert b64decode(told["data_base64"]) == b"\x00\xff"
    assert cloudevent(row(payload=b"[1]", content_type="application/vnd.acme+json; charset=utf-8"), source="/p")["data"] == [1]


def test_a_binary_cloudevent_is_headers_that_any_server_takes() -> None:
    told = cloudevent_headers(row(key='ä "100%"'), source="/payments")
    assert told["content-type"] == "application/json"
    assert told["ce-subject"] == "%C3%A4%20%22100%25%22"
    assert told["ce-id"] == str(ID)
    assert all(value.isascii() and value.isprintable() for value in told.values())
    assert "ce_id" in cloudevent_headers(row(), source="/payments", prefix="ce_")


@pytest.mark.parametrize("source", ["", " ", "a\nb", None])
def test_a_cloudevent_must_say_who_tells_it(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="source"):
        cloudevent(row(), source=source)
