"""What is particular to requests: its three ways to write a limit, adapters of others, and sessions that want to travel."""

from __future__ import annotations

import io
import pickle

import pytest
import requests
from urllib3.util import Timeout as Limits

from finresilience.classify import http_classifier
from finresilience.cores.backoff import Constant
from finresilience.errors import UnknownOutcomeError
from finresilience.integrations import notes_of
from finresilience.integrations.requests import BoundedAdapter, ResilientAdapter, limits_within
from finresilience.outcome import Effect
from finresilience.policies.pipeline import Pipeline
from finresilience.policies.retry import Retry
from finresilience.policies.timeout import Timeout
from finresilience.testing import ManualClock, instant


@pytest.fixture(autouse=True)
def _at_once():
    with instant():
        yield


class Adapter(requests.adapters.BaseAdapter):
    """Somebody's own: answers by a script of statuses, the last one for ever."""

    def __init__(self, *statuses):
        super().__init__()
        self.statuses = statuses
        self.asked = []
        self.bodies = []
        self.closed = False

    def send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):
        self.asked.append((request, timeout))
        body = request.body
        self.bodies.append(body.read() if hasattr(body, "read") else body)
        response = requests.Response()
        response.status_code = self.statuses[min(len(self.asked), len(self.statuses)) - 1]
        response.raw = io.BytesIO(b"{}")
        response.request, response.url = request, request.url
        return response

    def close(self):
        self.closed = True


def session(adapter, *policies, **rules):
    pipeline = Pipeline("acme", Retry(attempts=3, backoff=Constant(base=1.0)), *policies, classify=http_classifier())
    one = requests.Session()
    one.trust_env = False
    one.mount("https://", ResilientAdapter(pipeline, adapter=adapter, **rules))
    return one


class Sealed(io.RawIOBase):
    """A file that cannot go back."""

    def __init__(self):
        self.left = b"amount=5000"

    def read(self, size=-1):
        told, self.left = self.left, b""
        return told

    def seekable(self):
        return False


def test_a_file_that_cannot_go_back_is_sent_once_even_under_a_key():
    adapter = Adapter(500, 200)
    with session(adapter) as one, pytest.raises(UnknownOutcomeError, match="its body is a stream, which cannot be sent twice"):
        one.post("https://acme.test/", data=Sealed(), headers={"Idempotency-Key": "pay_1"})
    assert adapter.bodies == [b"amount=5000"]


def test_a_file_goes_back_to_where_it_stood():
    file = io.BytesIO(b"header;amount=5000")
    file.seek(7)
    adapter = Adapter(500, 500, 200)
    with session(adapter) as one:
        one.post("https://acme.test/", data=file, headers={"Idempotency-Key": "pay_1"})
    assert adapter.bodies == [b"amount=5000"] * 3


def test_a_key_in_bytes_is_a_key():
    adapter = Adapter(500, 200)
    with session(adapter) as one:
        answer = one.post("https://acme.test/", data=b"amount=5000", headers={b"Idempotency-Key": b"pay_1"})
    assert notes_of(answer).effect is Effect.IDEMPOTENT
    assert len(adapter.asked) == 2


LIMITS = [
    (None, (2.0, 2.0)),
    (30.0, (2.0, 2.0)),
    (1.0, (1.0, 1.0)),
    ((0.5, 30.0), (0.5, 2.0)),
    ((0.5, None), (0.5, 2.0)),
]


@pytest.mark.parametrize(("own", "cut"), LIMITS, ids=str)
def test_no_limit_is_longer_than_what_is_left(own, cut):
    assert limits_within(own, 2.0, exact=False) == cut
    told = limits_within(own, 2.0, exact=True)
    assert (told.connect_timeout, told.total) == (cut[0], 2.0)
    assert limits_within(own, None, exact=True) is own


@pytest.mark.parametrize(("own", "total"), [(Limits(total=1.0), 1.0), (Limits(total=30.0), 2.0), (Limits(connect=0.5, read=9.0), 2.0)])
def test_limits_of_urllib3_are_cut_as_well(own, total):
    told = limits_within(own, 2.0, exact=True)
    assert (told.total, told._connect, told._read) == (total, own._connect, own._read)


def test_a_limit_is_never_zero_which_would_mean_do_not_wait():
    assert limits_within(5.0, 0.0, exact=True).total > 0


def test_an_adapter_of_somebodys_own_is_given_limits_that_every_adapter_knows():
    adapter = Adapter(200)
    with session(adapter, Timeout(2.0)) as one:
        one.get("https://acme.test/", timeout=(1.0, 30.0))
    ((_, (connect, read)),) = adapter.asked
    assert (connect, read) == (1.0, pytest.approx(2.0))


def test_a_request_past_its_deadline_is_not_made():
    from finresilience.context import deadline
    from finresilience.errors import DeadlineExceededError

    clock, adapter = ManualClock(), Adapter(200)
    pipeline = Pipeline("acme", Timeout(2.0), classify=http_classifier(), clock=clock)
    with requests.Session() as one:
        one.mount("https://", ResilientAdapter(pipeline, adapter=adapter))
        with deadline(0.001):
            clock.advance(60.0)
            with pytest.raises(DeadlineExceededError):
                one.post("https://acme.test/")
    assert adapter.asked == []


def test_the_adapter_inside_is_closed_with_the_session():
    adapter = Adapter(200)
    session(adapter).close()
    assert adapter.closed


def test_a_guarded_session_does_not_travel_to_another_process():
    with pytest.raises(TypeError, match="its pipeline lives in this process"):
        pickle.dumps(session(Adapter(200)))


def test_an_adapter_that_only_cuts_guards_nothing():
    assert isinstance(BoundedAdapter(), requests.adapters.HTTPAdapter)
    assert limits_within(7.0, None, exact=True) == 7.0
