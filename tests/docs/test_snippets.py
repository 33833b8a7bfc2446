"""The Python in README.md and docs/ runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finresilience.testing import instant

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/how-to/testing.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_of_the_page_runs(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    world = {"send": lambda *_, **__: "receipt", "look_up": lambda _: {"final": True}}
    with instant():
        for block in blocks:
            exec(compile(block, page, "exec"), world)  # the page's own code is the test
