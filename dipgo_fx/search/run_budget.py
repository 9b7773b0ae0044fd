"""What a search may spend, and on what it may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class RunBudget:
    """An account in full runs: unpruned runs of the calibration samples.

    Attributes:
        limit: what may be spent.
        spent: what was.
        on_charge: called whenever something was spent, to show how far a search has come.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.spent = 0.0
        self.on_charge: Callable[[], None] = lambda: None
        self._reserved = 0.0

    @property
    def left(self) -> float:
        """What may still be spent beside what is reserved; not above 0 when nothing may."""
        return self.limit - self._reserved - self.spent

    def charge(self, runs: float) -> None:
        """Note that so many full runs were spent."""
        self.spent += runs
        self.on_charge()

    @contextmanager
    def reserve(self, runs: float) -> Iterator[None]:
        """Keep so many full runs for what comes after the block."""
        self._reserved += runs
        try:
            yield
        finally:
            self._reserved -= runs
