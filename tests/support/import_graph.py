"""Who imports whom, read from the code: nothing is imported to find out."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter


def imports_of(code: str, module: str, is_package: bool, known: Set[str]) -> set[str]:
    """Return which of the known modules the Python of a module imports, at its start or later.

    A package runs before what lies in it, so it is imported too, but by a module that lies in it itself.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    above = {".".join(package[:depth]) for depth in range(1, len(package) + 1)}
    found: set[str] = set()
    for name in _imported_names(ast.parse(code), package):
        parts = name.split(".")
        paths = [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
        met = [path for path in paths if path in known]  # the last part may name no module but a class
        found.update(met[:1], set(met) - above)
    return found - {module}


def _imported_names(tree: ast.AST, package: list[str]) -> Iterator[str]:
    for node in at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            stem = [*above, *(node.module or "").split(".")]
            yield from (".".join(filter(None, [*stem, alias.name])) for alias in node.names)


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the syntax nodes of a module but for what only type checkers read."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending.extend(node.orelse)
        else:
            pending.extend(ast.iter_child_nodes(node))


def cycle_of(graph: Mapping[str, Set[str]]) -> list[str]:
    """Return modules that import each other in a circle, none if there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def reached(graph: Mapping[str, Set[str]], start: str) -> set[str]:
    """Return what a module imports, itself or through others."""
    found, pending = set[str](), [start]
    while pending:
        new = graph[pending.pop()] - found
        found |= new
        pending.extend(new)
    return found
