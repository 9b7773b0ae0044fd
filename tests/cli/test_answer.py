"""How numbers and tables are printed."""

from __future__ import annotations

import pytest

from dipgo_fx.cli.answer import lines_of, macs_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(20.08e12, "20.08 T"), (401.6e9, "401.6 G"), (1e6, "1 M"), (999, "0.999 k"), (0, "0 k")],
)
def test_macs_have_a_unit(count: float, text: str) -> None:
    """The largest one that leaves a whole digit."""
    assert macs_text(count) == text


def test_numbers_stand_below_each_other() -> None:
    """The first column is flush left, the others flush right."""
    assert lines_of([("", "kept"), ("full", "1"), ("a", "22")]) == ["      kept", "full     1", "a       22"]
