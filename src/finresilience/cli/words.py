"""How are numbers, ages and tables told to a person? In aligned columns of plain text, whatever the values hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))
_GAP: Final = "  "


def age(seconds: float) -> str:
    """Return a span as a person says it, in its largest unit and rounded down: "3 min"."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds / length):,} {unit}"
    return "0 s"


def number(value: int) -> str:
    """Return a count, its thousands apart."""
    return f"{value:,}"


def counted(value: int, one: str, many: str = "") -> str:
    """Return "1 dead letter", "2 dead letters"."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def plain(value: object) -> str:
    """Return a text with whatever could steer a terminal, or break a line, spelled out."""
    text = str(value)
    return text if text.isprintable() else "".join(one if one.isprintable() else _spelled(one) for one in text)


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode() if not 0xD800 <= ord(letter) <= 0xDFFF else f"\\u{ord(letter):04x}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows under their heads, aligned: numbers to the right; what is longest belongs in the last column, which is never cut."""
    cells = [[plain("-" if cell is None else cell) for cell in row] for row in rows]
    if not cells:
        return ""
    rights = [all(_is_number(row[column]) for row in cells) for column in range(len(head))]
    widths = [max(len(row[column]) for row in [list(head), *cells]) for column in range(len(head))]
    return "\n".join(_line(row, widths, rights) for row in [list(head), *cells])


def _line(row: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    told = (cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, rights, strict=True))
    return _GAP.join(told).rstrip()


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").isdigit()


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """Return names and values, one a line, aligned; those without a value are left out."""
    told = [(name, plain(value)) for name, value in rows if value is not None and value != ""]
    width = max((len(name) for name, _ in told), default=0)
    return "\n".join(f"{name.ljust(width)}{_GAP}{value}" for name, value in told)


def body(content: bytes) -> dict[str, Any]:
    """Return bytes as JSON can hold them: as text where they are text, else in base64."""
    try:
        return {"encoding": "utf-8", "data": content.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        return {"encoding": "base64", "data": b64encode(content).decode()}


def written(content: bytes) -> str:
    """Return bytes for a person: the text, its lines kept, or base64."""
    told = body(content)
    data = str(told["data"])
    return "\n".join(map(plain, data.split("\n"))) if told["encoding"] == "utf-8" else f"base64: {data}"


def joined(*parts: str) -> str:
    """Return the parts that say anything, an empty line between two."""
    return "\n\n".join(part for part in parts if part)
