"""How is it shown? By rich on a terminal; as plain text into a pipe or a log."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence


class Screen:
    """Where everything goes."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self.live = self._console.is_terminal

    def say(self, text: str = "", *, style: str | None = None) -> None:
        """Print a line."""
        self._console.print(text, style=style, markup=False)

    @contextmanager
    def progress(self, name: str, total: int) -> Generator[Callable[[], object]]:
        """Show how far this contestant is; in plain text, say so once at the end."""
        if not self.live:
            yield lambda: None
            self.say(f"  {name:<28}{total} payments sent")
            return
        columns = (TextColumn("  {task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(name, total=total)
            yield lambda: bar.advance(task)

    def table(self, title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print the one table."""
        if not self.live:
            self.say(title)
            for line in plain(("", *names), rows):
                self.say(line)
            return
        # narrow enough for three contestants in a hundred columns
        table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.title_justify, table.title_style = "left", "bold"
        table.add_column("", no_wrap=True)
        for name in names:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        Console(highlight=False).print(table)


def plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the table as lines of text, the first column to the left and the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = "  ".join("-" * width for width in widths)
    lines = ["  ".join(c.ljust(w) if at == 0 else c.rjust(w) for at, (c, w) in enumerate(zip(row, widths, strict=True))) for row in rows]
    top = "  ".join(c.rjust(w) for c, w in zip(head, widths, strict=True))
    return [top, rule, *lines]
