"""The generated table is the ISO 4217 list as the iso4217 package has it, no more and no less."""

import subprocess
import sys
from pathlib import Path

import iso4217

from finresilience._iso4217 import EDITION, EXPONENTS, WITHOUT_MINOR_UNIT
from finresilience.money import Money

GENERATOR = Path(__file__).resolve().parents[2] / ".ci" / "generate_iso4217.py"


def test_every_active_code_has_the_exponent_of_the_list():
    listed = {currency.code: currency.exponent for currency in iso4217.Currency}
    assert {code: exponent for code, exponent in listed.items() if exponent is not None} == EXPONENTS
    assert {code for code, exponent in listed.items() if exponent is None} == WITHOUT_MINOR_UNIT


def test_the_table_is_the_one_the_generator_writes():
    ran = subprocess.run([sys.executable, str(GENERATOR), "--check"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_edition_is_that_of_the_list():
    assert iso4217.__published__.isoformat() == EDITION


def test_the_currencies_that_other_libraries_get_wrong_are_right_here():
    wrong_elsewhere = {"BHD": 3, "BIF": 0, "IQD": 3, "RSD": 2, "KWD": 3, "JPY": 0, "CLF": 4, "UYW": 4, "XAD": 2, "XCG": 2, "ZWG": 2}
    assert {code: Money("1", code).exponent for code in wrong_elsewhere} == wrong_elsewhere
    assert Money("1.234", "BHD").minor_units == 1234


def test_every_code_of_the_table_makes_money():
    for code, exponent in EXPONENTS.items():
        assert Money("1", code) == Money.minor(10**exponent, code)
