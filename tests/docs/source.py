"""What the source says of itself: signatures, first sentences, arguments and errors, read from it without running it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.docs.pages import ROOT

PACKAGE = ROOT / "src" / "finresilience"
_ENTRY = re.compile(r"^(\w+): ", flags=re.MULTILINE)

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def module(name: str) -> ast.Module:
    """Return the tree of `cores.breaker`, say; of a package, that of its front door."""
    place = PACKAGE.joinpath(*name.split("."))
    return ast.parse((place / "__init__.py" if place.is_dir() else Path(f"{place}.py")).read_text(encoding="utf-8"))


def definition(home: str, name: str) -> Definition | None:
    """Return what `name` is in the module `home`, the last one after overloads, or None where it is no class and no function."""
    found = [node for node in module(home).body if isinstance(node, Definition) and node.name == name]
    return found[-1] if found else None


def member(kind: ast.ClassDef, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """Return a method, the last one of its name: the ones before are overloads."""
    return [node for node in kind.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name][-1]


def maker(home: str, kind: ast.ClassDef) -> ast.FunctionDef | None:
    """Return the `__new__` or `__init__` of a class, its own or the nearest base's in the same module."""
    for node in kind.body:
        if isinstance(node, ast.FunctionDef) and node.name in {"__init__", "__new__"}:
            return node
    for base in kind.bases:
        above = definition(home, base.id) if isinstance(base, ast.Name) else None
        if isinstance(above, ast.ClassDef) and (found := maker(home, above)) is not None:
            return found
    return None


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[str, str | None]]:
    """Return each parameter with its default as it is written, None where there is none. `*` and `/` stand where they stand."""
    given = function.args
    front = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(front) - len(given.defaults)) + [ast.unparse(node) for node in given.defaults]
    told: list[tuple[str, str | None]] = list(zip([argument.arg for argument in front], defaults, strict=True))
    if given.posonlyargs:
        told.insert(len(given.posonlyargs), ("/", None))
    if given.vararg is not None:
        told.append((f"*{given.vararg.arg}", None))
    elif given.kwonlyargs:
        told.append(("*", None))
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        told.append((argument.arg, None if default is None else ast.unparse(default)))
    if given.kwarg is not None:
        told.append((f"**{given.kwarg.arg}", None))
    if told and told[0][0] in {"self", "cls"}:
        told = told[1:]
    return told[1:] if told and told[0][0] == "/" else told


def signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    shown = [name if default is None else f"{name}={default}" for name, default in parameters(function)]
    return f"({', '.join(shown)})"


def summary(node: Definition) -> str:
    """Return the first sentence or two: the docstring's first paragraph, in one line."""
    return _line((ast.get_docstring(node) or "").partition("\n\n")[0])


def section(node: Definition, title: str) -> dict[str, str]:
    """Return the entries of `Args:` or `Raises:`, each in one line."""
    text = ast.get_docstring(node) or ""
    found = re.search(rf"^{title}:\n((?:    .*\n?|\n)+)", text, flags=re.MULTILINE)
    body = "" if found is None else "\n".join(line[4:] for line in found[1].splitlines())
    parts = _ENTRY.split(body)[1:]  # a name, its text, a name, its text...
    return {name: _line(told) for name, told in batched(parts)}


def batched(parts: list[str]) -> list[tuple[str, str]]:
    return list(zip(parts[::2], parts[1::2], strict=True))


def fields(kind: ast.ClassDef) -> dict[str, str]:
    """Return the annotated fields of a class."""
    return {ast.unparse(node.target): ast.unparse(node.annotation) for node in kind.body if isinstance(node, ast.AnnAssign)}


def is_property(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(ast.unparse(mark) == "property" for mark in node.decorator_list)


def _line(text: str) -> str:
    return " ".join(text.split())
