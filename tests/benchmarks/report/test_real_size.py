"""Sentences on speed at full width, the memory of a search, and compiling."""

from __future__ import annotations

from benchmarks.report import real_size
from benchmarks.report.results import Row


def rows(column: str, **values: float) -> list[Row]:
    """Return rows of one model by method."""
    return [{"model": "M", "method": name, column: str(value)} for name, value in values.items()]


def test_efficiencies_stand_beside_those_of_the_package() -> None:
    """A package that is ahead is named with its figure, one that did not run is not."""
    own = rows("efficiency", **{"eager loop": 1, "traced loop": 1.01, "whole steps, 0.3": 0.97})
    own += rows("efficiency", **{"whole steps, 0.8": 1.0, "1 of 5 whole, else": 0.9})
    text = real_size.efficiencies(own)
    assert text == "M 0.97 to 1.00 with whole steps, 0.90 with partial ones, 1.01 unpruned"
    own += rows("efficiency", **{"DeepCache's schedule, interval 5": 0.91, "DeepCache 0.1.1": 0.95})
    assert real_size.efficiencies(own).endswith("DeepCache's schedule as a plan 0.91 and its package 0.95")


def test_ways_to_compile_are_told_one_by_one() -> None:
    """Plans of whole steps first, those with partial steps in brackets."""
    shared, blocks, whole = real_size.COMPILED

    def row(way: str, blocks_at_others: int, of_plain: float) -> Row:
        return {"way": way, "blocks at others": str(blocks_at_others), "of plain": str(of_plain)}

    found = [row("denoiser", 0, 1.0), row(shared, 0, 0.75), row(shared, 0, 1.1), row(shared, 2, 2.4)]
    found += [row(blocks, 0, 0.5), row(whole, 0, 11.6)]
    assert real_size.compared(found) == (
        "`loop.compile()` 0.8 to 1.1 (2.4 with partial steps), blocks compiled in place 0.5 and "
        "`torch.compile(loop)` 11.6"
    )
