"""How tables are printed."""

from __future__ import annotations

from dipgo_fx.cli.answer import lines_of


def test_numbers_stand_below_each_other() -> None:
    """The first column is flush left, the others flush right."""
    assert lines_of([("", "kept"), ("full", "1"), ("a", "22")]) == ["      kept", "full     1", "a       22"]
