"""Write docs/reference/ from the source: `python -m tests.docs.generate`. A test compares, so that no page grows old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.docs import reference_api, reference_rules, reference_saboteurs, reference_words
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = "docs/reference"
WRITERS: dict[str, Callable[[], str]] = {
    "api.md": reference_api.names,
    "parameters.md": reference_api.parameters_page,
    "errors.md": reference_words.errors,
    "events.md": reference_words.events,
    "classifiers.md": reference_rules.rules,
    "saboteurs.md": reference_saboteurs.table,
}


def main() -> None:
    for name, write in WRITERS.items():
        (ROOT / PLACE / name).write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    main()
