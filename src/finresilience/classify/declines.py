"""What does a decline code tell about the money? ISO 8583 response codes (field 39, 1987 edition) and Stripe's words, as data.

NON_RETRYABLE is a no that stays no: nothing moved, and asking again with the same card and amount is useless, against
the card schemes' rules, and may be fined. RETRYABLE is a no that may become a yes by itself, from somebody who knows
that nothing moved; the provider is well, so it does not count against it. UNKNOWN is a no from somebody who may not know.

Retried under the same idempotency key, a provider may answer with the stored decline again. That costs attempts, never money.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finresilience.classify.classifier import ErrorClassifier, Rule
from finresilience.classify.extract import attribute
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Approvals are no declines and have no rule: 00, 08 (with identification), 10 (partial), 11, 16, 85 (nothing against it),
# 87 (purchase only). Neither have codes that schemes use for different things (76 to 80, 95, 98, 99).
_ISO_8583_FINAL: Final = (
    "01 02 03 04 05 07 12 13 14 15 17 21 23 25 30 31 33 34 35 36 37 38 39 40 41 42 43 44 46 51 52 53 54 55 56 57 58 59 "
    "60 61 62 63 64 65 66 67 75 81 82 83 84 86 88 89 92 93 97 "
    "1A 5C 6P 9G N3 N4 N7 Q1 R0 R1 R3 Z3"  # authenticate first, blocked, identity, CVV2, stop orders, offline decline
)
_ISO_8583_LATER: Final = (
    "19 "  # re-enter the transaction
    "90"  # cut-off in progress: the switch is changing its day, and takes nothing in
)
_ISO_8583_UNKNOWN: Final = (
    "06 "  # error
    "09 "  # request in progress: perhaps the first one
    "20 "  # invalid response: the issuer did answer
    "22 "  # suspected malfunction
    "32 "  # completed partially
    "68 "  # response received too late: so there was one
    # "Issuer or switch inoperative" is also said when the issuer was reached and did not answer in time: the edition of
    # 1993 tells the two apart (907, 911, 912), this one does not. The network reverses what got through, later.
    "91 "
    "94 "  # duplicate transmission: the first one arrived
    "96"  # system malfunction, who knows where
)

_STRIPE_FINAL: Final = (
    "account_closed authentication_required call_issuer card_declined card_not_supported card_velocity_exceeded "
    "currency_not_supported debit_not_authorized do_not_honor do_not_try_again expired_card fraudulent generic_decline "
    "highest_risk_level incorrect_address incorrect_cvc incorrect_number incorrect_pin incorrect_zip insufficient_funds "
    "invalid_account invalid_amount invalid_cvc invalid_expiry_month invalid_expiry_year invalid_number invalid_pin "
    "lost_card merchant_blacklist mobile_device_authentication_required new_account_information_available "
    "no_action_taken not_permitted offline_pin_required online_or_offline_pin_required pickup_card pin_try_exceeded "
    "restricted_card revocation_of_all_authorizations revocation_of_authorization security_violation "
    "service_not_allowed stolen_card stop_payment_order testmode_decline transaction_not_allowed "
    "withdrawal_count_limit_exceeded"
)
# Said inside a decline, by a provider that has closed the charge as failed: nothing moved, "attempt the payment again".
_STRIPE_LATER: Final = "approve_with_id issuer_not_available processing_error reenter_transaction try_again_later"
_STRIPE_UNKNOWN: Final = "duplicate_transaction"  # one of the same amount and card went just before: perhaps ours


def _table(final: str, later: str, unknown: str) -> dict[str, Classification]:
    return dict.fromkeys(final.split(), NON_RETRYABLE) | dict.fromkeys(later.split(), RETRYABLE) | dict.fromkeys(unknown.split(), UNKNOWN)


ISO_8583: Final[Mapping[str, Classification]] = _table(_ISO_8583_FINAL, _ISO_8583_LATER, _ISO_8583_UNKNOWN)
STRIPE: Final[Mapping[str, Classification]] = _table(_STRIPE_FINAL, _STRIPE_LATER, _STRIPE_UNKNOWN)


def declines_classifier(*, code_of: Callable[[object], str | None] | None = None) -> ErrorClassifier:
    """Return the rules for decline codes on errors and answers.

    Args:
        code_of: where your provider keeps its code, if not in `decline_code`, `response_code` or `code`.

    >>> from types import SimpleNamespace
    >>> declines_classifier().value(SimpleNamespace(response_code="51"))
    <Verdict non_retryable, does not count>
    >>> declines_classifier(code_of=lambda answer: answer["39"]).value({"39": "19"})
    <Verdict retryable, does not count>
    >>> declines_classifier().value(SimpleNamespace(response_code="00"))
    """
    told = {**ISO_8583, **STRIPE}
    rules: dict[str, Rule] = {code: _not_now if told[code] is RETRYABLE else told[code] for code in told}
    if code_of is not None:  # whoever says where the code is knows that it is one
        rules |= {code: _NOT_NOW for code in told if told[code] is RETRYABLE}
    return ErrorClassifier(codes=rules, code_of=code_of)


_NOT_NOW: Final = Verdict(RETRYABLE, counts_against_provider=False)


def _not_now(subject: object) -> Verdict:
    """Ask again later; but the mere `code` of an answer may be anything, a receipt's too, and a payment must not be sent again for it."""
    sure = isinstance(subject, BaseException) or any(attribute(subject, name) for name in ("decline_code", "response_code"))
    return _NOT_NOW if sure else Verdict(UNKNOWN, counts_against_provider=False)
