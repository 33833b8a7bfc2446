"""Crash points: `at` lets code die at one, `everywhere` at each of them, `in_child` for good; `points` lists them.

from finresilience.testing import crash
"""

from __future__ import annotations

from finresilience.testing.dying import Crashed, NotReachedError, at, in_child, points
from finresilience.testing.recoveries import Crashes, everywhere

__all__ = ["Crashed", "Crashes", "NotReachedError", "at", "everywhere", "in_child", "points"]
