"""Gauss-Newton on backup weights: its unknowns, and that losses only fall."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from dipgo_fx.passes import HISTORY, GateTable
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.gauss_newton import (
    DAMPING,
    FEWEST,
    NUDGE,
    Direction,
    directions,
    gauss_newton,
    newton_step,
)
from dipgo_fx.search.least_squares import fit_stepwise
from loops import cost
from searches import Recording, candidate, evaluator_of, turning


@settings(max_examples=50)
@given(data=st.data(), history=st.integers(1, HISTORY))
def test_unknowns_are_the_weights_that_matter(data: st.DataObject, history: int) -> None:
    """Together they touch every weight a live closed gate reads, once, and no other."""
    costs = cost("dit", "ddim", "block", None, 6)
    row = st.lists(st.booleans(), min_size=costs.num_blocks, max_size=costs.num_blocks)
    keep = torch.tensor([[True] * costs.num_blocks, *(data.draw(row) for _ in range(5))])
    liveness = costs.reads.liveness_at_most(keep, history)
    unknowns = directions(GateTable.of(keep), liveness, history)
    touched = [(t, d.block, d.k) for d in unknowns for t in d.steps]
    expected = {
        (t, n, k)
        for t, n in liveness.backed_up.nonzero().tolist()
        for k in range(min(history, int(keep[:t, n].sum())))
    }
    assert len(touched) == len(set(touched))
    assert set(touched) == expected


def test_an_affine_loop_is_solved() -> None:
    """Where samples are affine in the weights, steps end at the least-squares weights."""
    _, _, judge = turning(3)
    found, unknowns, split = _problem(judge)
    before = judge.evaluate(found).loss
    weights = found.table.weights
    with torch.no_grad():
        for chunk in (1, 2, 2, 1):
            weights = newton_step(split, weights, unknowns, judge.batch, chunk)
    assert judge.evaluate(found.with_weights(weights)).loss < 1e-7 * before


def test_a_step_is_the_same_however_chunked() -> None:
    """What a step does to the samples does not hang on which of them ran together.

    Weights may: those of forecasts that are alike trade against each other. In samples, differences of
    two runs are off by their rounding over the nudge, and damping lets a step amplify that by no more
    than one over its root.
    """
    _, _, judge = turning(3)
    found, unknowns, split = _problem(judge)
    judge.evaluate(found)
    start, samples = judge.result, []
    with torch.no_grad():
        for chunk in (1, 2):
            weights = newton_step(split, found.table.weights, unknowns, judge.batch, chunk)
            judge.evaluate(found.with_weights(weights))
            samples.append(judge.result)
    rounding = torch.finfo(torch.float32).eps * start.abs().max().item() / NUDGE / DAMPING**0.5
    torch.testing.assert_close(*samples, rtol=0, atol=rounding)
    assert (start - samples[0]).abs().max() > 1000 * rounding, "the step is no small one"


def _problem(judge: Recording) -> tuple[Candidate, list[Direction], fx.GraphModule]:
    """Return a candidate, its unknowns and the net that they are weights of."""
    found = candidate(judge.loop, (0, 2, 3))
    liveness = judge.cost.reads.liveness_at_most(found.table.keep, 3)
    return found, list(directions(found.table, liveness, 3)), judge.learnable(found)


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "unipc"])
def test_losses_only_fall_and_are_paid_for(scheduler: str) -> None:
    """A step is taken only if the loss falls; what it costs is charged; too small an allowance is no step."""
    judge = evaluator_of(("dit", scheduler, "block", None, 7), FEWEST)
    fitted = fit_stepwise(judge, candidate(judge.loop, (0, 2, 4)))
    before = judge.budget.spent
    assert gauss_newton(judge, fitted, most=0.1) is fitted
    assert judge.budget.spent == before
    better = gauss_newton(judge, fitted)
    # One run to start from, one to judge; 1 unknown before 2 further steps, 2 before 1, 3 before none.
    assert judge.budget.spent - before == pytest.approx((3 + 2 + 2 + 3) / 7, rel=1e-2)
    assert better.loss < fitted.loss
    assert judge.evaluate(better).loss == pytest.approx(better.loss)


def test_a_step_that_does_not_help_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate comes back as it was, and the run that judged the step is charged anyway."""
    judge = evaluator_of(("dit", "ddim", "block", None, 7), FEWEST)
    fitted = fit_stepwise(judge, candidate(judge.loop, (0, 2, 4)))
    monkeypatch.setattr(
        "dipgo_fx.search.gauss_newton.newton_step", lambda split, weights, *_: torch.zeros_like(weights)
    )
    before, evaluations = judge.budget.spent, len(judge.curve)
    assert gauss_newton(judge, fitted) is fitted
    assert judge.budget.spent > before
    assert len(judge.curve) == evaluations + 1


def test_nothing_is_fitted_where_everything_runs() -> None:
    """A plan without a closed gate that is read has no unknown, and costs nothing."""
    judge = evaluator_of(("dit", "ddim", "block", None, 3), FEWEST)
    everything = judge.evaluate(candidate(judge.loop, (0, 1, 2)))
    before = judge.budget.spent
    assert gauss_newton(judge, everything) is everything
    assert judge.budget.spent == before


def test_samples_run_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more samples run together than the config's chunk says."""
    judge = evaluator_of(("dit", "ddim", "block", None, 3), FEWEST)
    judge.chunks.size = 3
    sizes: list[int] = []
    real = type(judge.batch).chunks
    monkeypatch.setattr(
        type(judge.batch),
        "chunks",
        lambda self, size: [sizes.append(len(part)) or part for part in real(self, size)],
    )
    gauss_newton(judge, fit_stepwise(judge, candidate(judge.loop, (0, 1))))
    assert sizes == 3 * [3, 3, 2]  # the fit, the step, and what judges it
