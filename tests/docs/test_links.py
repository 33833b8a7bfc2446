"""Every link between the pages leads somewhere, and no page is out of reach."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from posixpath import normpath

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, read

OUTSIDE = ("https://", "http://", "mailto:")


def aim(page: str, target: str) -> tuple[str, str]:
    """Return the path from the root that a link of `page` leads to, and the heading on it."""
    path, _, anchor = target.partition("#")
    return (normpath(str(PurePosixPath(page).parent / path)) if path else page), anchor


def dead(page: str, text: str) -> list[str]:
    """Return the links of a page that lead nowhere."""
    wrong = []
    for words, target in links(text):
        if target.startswith(OUTSIDE):
            continue
        path, anchor = aim(page, target)
        there = ROOT / path
        if not there.exists() or (anchor and anchor not in anchors(read(path))):
            wrong.append(target)
        name = words.strip("`")
        if re.fullmatch(r"test_\w+", name) and there.is_file() and f"def {name}(" not in read(path):
            wrong.append(f"{target} has no {name}")
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_the_page_leads_somewhere(page: str) -> None:
    assert dead(page, read(page)) == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        aims = [aim(page, target)[0] for _, target in links(read(page))]
        waiting += [there for there in PAGES for path in aims if there == path or PurePosixPath(there).parent == PurePosixPath(path)]
    assert set(PAGES) - seen == set()


@pytest.mark.parametrize(
    "text",
    [
        "[a page](docs/no_such_page.md)",
        "[a heading](README.md#no-such-heading)",
        "[`test_no_such_law`](tests/docs/test_links.py)",
    ],
    ids=["a page that is not there", "a heading that is not there", "a test that is not there"],
)
def test_a_link_that_leads_nowhere_is_found_out(text: str) -> None:
    assert dead("README.md", text) != []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_speaks_plainly(page: str) -> None:
    assert not re.search("[\N{EM DASH}\N{EN DASH}]", read(page))
