"""The code in README.md and docs/ runs as it stands, and prints what the page shows."""

from __future__ import annotations

import logging
import re
import tomllib
from contextlib import contextmanager, redirect_stdout
from doctest import ELLIPSIS, DocTestParser, DocTestRunner, OutputChecker
from inspect import signature
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import PipelineConfig
from finresilience.testing import instant, plugin
from tests.docs.pages import PAGES, Block, blocks, read

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

CODE = [page for page in PAGES if any(block.language == "python" for block in blocks(read(page)))]
DATA = [page for page in PAGES if any(block.language == "toml" for block in blocks(read(page)))]

JITTERED = re.compile(r"(?<=Try again in )\d+\.\d|(?<= -> open for )\d+\.\d|(?<=waits \[)[\d., ]+")  # another number each time


def run(page: str, found: list[Block], place: Path) -> dict[str, Any]:
    """Run a page from top to bottom, as one program, and return its names. A `text` block is what the code right before it printed."""
    world: dict[str, Any] = {"__name__": "__main__"}
    nothing = Block("", "", 0)
    for block, after in pairwise([*found, nothing]):
        if block.language == "toml":
            save(block, place)
        elif block.language == "python" and ">>>" in block.text:
            examine(page, block, world)
        elif block.language == "python":
            shown = after.text if after.language == "text" else ""
            printed = output(page, block, world)
            assert same(shown, printed), f"{page}:{block.line} printed\n{printed}"
    return world


def laws_on(world: dict[str, Any]) -> list[tuple[Callable[..., object], list[str]]]:
    """Return the tests on a page that ask for fixtures of our plugin, each with those that it asks for."""
    asked = [(test, [*signature(test).parameters]) for name, test in world.items() if name.startswith("test_") and callable(test)]
    return [(test, fixtures) for test, fixtures in asked if fixtures and set(fixtures) <= plugin._FIXTURES]


def same(shown: str, printed: str) -> bool:
    return OutputChecker().check_output(JITTERED.sub("#", shown), JITTERED.sub("#", printed), ELLIPSIS)


def save(block: Block, place: Path) -> None:
    """Keep data as a file, where its first line says so: `# pipelines.toml`."""
    name = block.text.partition("\n")[0].removeprefix("# ")
    if name.endswith(".toml"):
        (place / name).write_text(block.text, encoding="utf-8")


def examine(page: str, block: Block, world: dict[str, Any]) -> None:
    test = DocTestParser().get_doctest(block.text, world, page, page, block.line)
    report = StringIO()
    failed = DocTestRunner(optionflags=ELLIPSIS).run(test, out=report.write, clear_globs=False).failed
    assert not failed, report.getvalue()
    world.update(test.globs)


def output(page: str, block: Block, world: dict[str, Any]) -> str:
    code = compile("\n" * block.line + block.text, page, "exec", dont_inherit=True)  # so that a traceback names the line of the page
    with redirect_stdout(StringIO()) as printed, logged(printed):
        exec(code, world)
    return printed.getvalue()


@contextmanager
def logged(printed: StringIO) -> Generator[None]:
    """Show log lines among what is printed, as a terminal does where no logging was set up."""
    logger, handler = logging.getLogger("finresilience"), logging.StreamHandler(printed)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("page", CODE)
def test_every_snippet_of_the_page_runs_and_prints_what_is_shown(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    with instant():
        world = run(page, blocks(read(page)), tmp_path)
    for test, fixtures in laws_on(world):
        test(**{name: request.getfixturevalue(name) for name in fixtures})


@pytest.mark.parametrize("page", DATA)
def test_every_pipeline_in_toml_can_be_built(page: str) -> None:
    for block in blocks(read(page)):
        if block.language == "toml":
            tables = tomllib.loads(block.text)["pipelines"]
            assert [PipelineConfig(name, data).build().name for name, data in tables.items()] == list(tables)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    known = {"python", "toml", "json", "diff", "text", "console", "sh"}
    assert {block.language for block in blocks(read(page))} <= known


def test_a_test_on_a_page_is_known_by_the_fixtures_that_it_asks_for(tmp_path: Path) -> None:
    page = "def test_paid(history): ...\ndef test_of_another(monkeypatch): ...\ndef paid(history): ...\ndef test_by_itself(): ...\n"
    asked = [(test.__name__, fixtures) for test, fixtures in laws_on(run("page.md", [Block("python", page, 0)], tmp_path))]
    assert asked == [("test_paid", ["history"])]


SABOTEURS = {
    "it prints what is not shown": "```python\nprint('paid')\n```\n",
    "it shows what is not printed": "```python\nprint('paid')\n```\n```text\nfailed\n```\n",
    "it does not run": "```python\nraise ValueError\n```\n",
    "its doctest is wrong": "```python\n>>> 1 + 1\n3\n\n```\n",
}


@pytest.mark.parametrize("page", SABOTEURS.values(), ids=SABOTEURS)
def test_a_page_that_lies_is_found_out(page: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, ValueError)):
        run("saboteur.md", blocks(page), tmp_path)
