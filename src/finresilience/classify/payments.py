"""What does a failed payment call tell about the money? All the tables that such a call needs, in one classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finresilience.classify.declines import declines_classifier
from finresilience.classify.http import http_classifier
from finresilience.classify.sockets import sockets_classifier

if TYPE_CHECKING:
    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock


def payments_classifier(*, clock: Clock | None = None) -> ErrorClassifier:
    """Return the rules for a call to a payment provider: decline codes, then HTTP, then bare sockets.

    Decline codes come first because they say more: a 402 with `try_again_later` is not a 402 with `stolen_card`.
    Put what you know of your provider in front: `ErrorClassifier({AcmeDown: RETRYABLE}) | payments_classifier()`.

    Args:
        clock: tells the time for a Retry-After date that comes without the response's own Date.

    >>> class CardError(Exception):
    ...     http_status, code, decline_code = 402, "card_declined", "insufficient_funds"
    >>> payments_classifier().error(CardError())
    <Verdict non_retryable, does not count>
    """
    return declines_classifier() | http_classifier(clock=clock) | sockets_classifier()
