"""Which steps matter."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dipgo_fx.search import sensitivity
from dipgo_fx.search.least_squares import fit_stepwise
from dipgo_fx.search.sensitivity import POSITIONS, sensitivities, whole_steps_candidate
from searches import Recording, evaluator_of


def _key(steps: int, split: bool) -> tuple[Any, ...]:
    return ("dit", "ddim", "block", 2.0 if split else None, steps, split)


def _loss_without(judge: Recording, call: int, gone: int) -> float:
    """Return the loss, on one sample, of the plan that makes all calls but one."""
    every = tuple(range(judge.cost.num_steps))
    without = tuple(step for step in every if step != gone)
    runs = tuple(without if index == call else every for index in range(judge.cost.num_calls))
    return fit_stepwise(judge, whole_steps_candidate(judge, runs), judge.batch.first(1)).loss


@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
@pytest.mark.parametrize("steps", [1, 2, 7, pytest.param(30, marks=pytest.mark.long)])
def test_sensitivities_are_errors_without_a_step(steps: int, split: bool) -> None:
    """One a step and call, above 0, no dearer than allowed or one sample; each the loss of a plan."""
    judge = evaluator_of(_key(steps, split), 3)
    assert judge.can_steer  # finding that out costs a run of one sample, once
    before = judge.budget.spent
    found = sensitivities(judge, most=0.1)
    assert [len(own) for own in found] == [steps] * (1 + split)
    assert min(map(min, found)) > 0
    assert judge.budget.spent - before <= POSITIONS / 3
    for call, own in enumerate(found):
        if steps == 7:
            assert own[3] ** 2 == pytest.approx(_loss_without(judge, call, 3))
        if steps > 1:
            assert own[0] == own[1]


@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
def test_few_positions_are_measured_and_others_interpolated(
    split: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two measured steps the logarithm goes in a straight line, and no plan is run."""
    monkeypatch.setattr(sensitivity, "POSITIONS", 3 * (1 + split))
    judge = evaluator_of(_key(7, split), 3)
    assert judge.can_steer  # finding that out costs a run of one sample, once
    before = judge.budget.spent
    found = sensitivities(judge, most=0.1)
    assert judge.budget.spent - before <= (1 + split)  # three runs of a third of the samples a call
    for call, own in enumerate(found):
        assert own[6] ** 2 == pytest.approx(_loss_without(judge, call, 6))
        assert math.log(own[2]) == pytest.approx((math.log(own[1]) + math.log(own[3])) / 2)
        assert own[2] ** 2 != pytest.approx(_loss_without(judge, call, 2), rel=1e-3)


def test_more_runs_buy_more_samples() -> None:
    """What may be spent decides how many samples a step is measured on."""
    judge = evaluator_of(_key(2, False), 3)
    assert judge.can_steer  # as above
    spent = []
    for most in (0.0, 0.67, 9.0):
        before = judge.budget.spent
        sensitivities(judge, most)
        spent.append(judge.budget.spent - before)
    assert spent == pytest.approx([spent[0], 2 * spent[0], 3 * spent[0]])
