"""What a command has to say, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The answer of a command.

    Attributes:
        text: what is printed.
        values: what is printed as one object with `--json`: plain JSON values, without infinity and NaN.
    """

    text: str
    values: dict[str, Any]


def lines_of(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a table's lines: the first column flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]
