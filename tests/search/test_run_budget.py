"""The account of a search."""

from __future__ import annotations

from contextlib import suppress

from dipgo_fx.search.run_budget import RunBudget


def test_what_is_charged_is_gone() -> None:
    """Charges add up, also beyond the limit, and each is told."""
    budget, told = RunBudget(2.0), []
    budget.on_charge = lambda: told.append(budget.spent)
    budget.charge(0.5)
    budget.charge(2.0)
    assert told == [0.5, 2.5]
    assert budget.left == -0.5


def test_what_is_reserved_is_not_left_inside_the_block() -> None:
    """Reserves add up, and end with their blocks, also where one ends with an error."""
    budget = RunBudget(10.0)
    with budget.reserve(2.0):
        with suppress(RuntimeError), budget.reserve(3.0):
            assert budget.left == 5.0
            budget.charge(1.0)
            raise RuntimeError
        assert budget.left == 7.0
    assert budget.left == 9.0


def test_a_search_may_be_without_a_limit() -> None:
    """Then something is always left."""
    budget = RunBudget(float("inf"))
    with budget.reserve(100.0):
        budget.charge(1e9)
        assert budget.left > 0
