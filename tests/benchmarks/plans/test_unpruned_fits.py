"""Plans fitted to unpruned predictions."""

from __future__ import annotations

import pytest
import torch

from benchmarks.cases import Case
from benchmarks.plans import FITTED_BY_PROGRAMMING, FITTED_EVENLY, UNIFORM_LINEAR, Effort, compiled
from benchmarks.plans.unpruned_fits import fitted_weights, gram_of, predictions, programmed

STEPS, RATIO = 8, 0.5


@pytest.fixture(scope="module")
def case() -> Case:
    """A case whose searches take seconds."""
    return Case("digits-dit", STEPS, samples=6)


def test_they_are_closer_than_linear_forecasts(case: Case) -> None:
    """On the calibration samples, at the same cost; twice the same plan."""
    batch, effort = case.evaluator().batch, Effort(3.0)

    def error(found: object) -> float:
        with torch.no_grad():
            return float((batch.run(compiled(case, found.plan)) - batch.target).square().mean())  # type: ignore[attr-defined]

    fitted = FITTED_EVENLY.find(case, RATIO, effort)
    assert fitted.plan.ratio == pytest.approx(RATIO)
    assert error(fitted) < error(UNIFORM_LINEAR.find(case, RATIO, effort))
    assert FITTED_EVENLY.find(case, RATIO, effort).plan == fitted.plan
    assert fitted.full_runs * 48 / case.samples > 1
    assert FITTED_BY_PROGRAMMING.find(case, RATIO, effort).plan.ratio >= RATIO - 1e-9


def test_weights_are_least_squares() -> None:
    """What is a combination of the computed predictions is found."""
    values = torch.randn(4, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[3] = 0.5 * values[2] + 2 * values[0] - values[1]
    start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    found = fitted_weights(gram_of(values), 3, (2, 1, 0), start)
    torch.testing.assert_close(found, torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64), rtol=0, atol=1e-3)


def test_programming_finds_where_predictions_turn() -> None:
    """What repeats needs no step of its own."""
    one, other = torch.randn(2, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = torch.stack([one, one, one, one, other, other])
    assert programmed(gram_of(values), 2, torch.ones(6, dtype=torch.float64)) == (0, 4)


def test_predictions_are_what_the_scheduler_gets(case: Case) -> None:
    """One a step."""
    assert predictions(case, case.evaluator().batch).shape == (STEPS, 6 * 64)
