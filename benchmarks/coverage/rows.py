"""What was found out of one class of diffusers, by one check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.tables import grouped

SHOWN = 110
"""Characters of a reason that a row holds."""


@dataclass(frozen=True)
class Row:
    """The outcome of one check.

    Attributes:
        kind: `pipeline` or `scheduler`.
        name: of the class.
        case: key of the tiny pipeline that was checked, empty for a class that none has.
        check: name of the check, `built` for whether there is a tiny pipeline at all.
        denoiser: class of the case's denoiser.
        failure: why it does not hold; empty if it does.
    """

    kind: str
    name: str
    case: str
    check: str
    denoiser: str
    failure: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two rows the same measurement."""
        return self.kind, self.name, self.case, self.check


def outcome(check: Callable[[], None]) -> str:
    """Return why a check fails, in a line; empty if it holds."""
    try:
        check()
    except Exception as error:
        text = " ".join(str(error).split()) or "no message"
        return f"{type(error).__name__}: {text}"[:SHOWN]
    return ""


def holds(rows: Sequence[Row], name_of: Callable[[Row], str], check: str) -> dict[str, bool]:
    """Return for each class whether a check holds for one of its cases."""
    return {
        name: any(row.check == check and not row.failure for row in own)
        for name, own in grouped(rows, name_of).items()
    }
