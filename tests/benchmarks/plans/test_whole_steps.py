"""Our search restricted to whole steps."""

from __future__ import annotations

import pytest

from benchmarks.cases import Case
from benchmarks.plans import DEFAULT, PLACED_WHOLE_STEPS, WHOLE_STEPS, Effort, OutOfReachError


def test_every_step_is_whole_or_skipped_and_the_search_is_the_defaults() -> None:
    """It costs what that costs; a share below one step of the loop is out of reach."""
    case, effort = Case("digits-dit", 4, samples=6), Effort(full_runs=2.0)
    found, default = (method.find(case, 0.3, effort) for method in (WHOLE_STEPS, DEFAULT))
    assert found.plan.keep.all(1).equal(found.plan.keep.any(1))
    assert int(found.plan.keep.all(1).sum()) == 2
    assert (found.full_runs, found.samples) == (default.full_runs, default.samples)
    assert list(case.trained) == ["default at 0.3"]


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_steps_are_placed_for_the_share(guidance: float | None) -> None:
    """Calls run whole or not at all; under guidance the two conditions have steps of their own."""
    case = Case("digits-dit", 6, samples=9, guidance=guidance)
    found = PLACED_WHOLE_STEPS.find(case, 0.3, Effort(full_runs=4.0))
    assert found.plan.ratio >= 0.3 - 1e-9
    calls = found.plan.keep.view(6, 1 if guidance is None else 2, -1)
    assert calls.all(-1).equal(calls.any(-1))
    assert found.full_runs > 0


def test_less_than_the_frontier_has_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is where skipping a step is not free, and there is no frontier at all."""
    case, effort = Case("digits-dit", 4, samples=6), Effort(full_runs=2.0)
    monkeypatch.setattr("benchmarks.plans.whole_steps.best_within", lambda *args: None)
    with pytest.raises(OutOfReachError):
        WHOLE_STEPS.find(case, 0.3, effort)
