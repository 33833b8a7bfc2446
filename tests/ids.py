"""What is a parameter called? The same in every process: workers that run tests together must know them by the same names."""

from __future__ import annotations

import re


def named(value: object) -> str:
    """Return the repr of a value without its address in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
