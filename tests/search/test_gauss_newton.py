"""Gauss-Newton on what a plan may weigh: its unknowns, and that losses only fall."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from dipgo_fx.passes import HISTORY, GateTable
from dipgo_fx.placement import Placement
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.gauss_newton import (
    DAMPING,
    EASE,
    FEWEST,
    LEAST_TOLD,
    NUDGE,
    Direction,
    directions,
    gauss_newton,
    moved_along,
    normal_equations,
    solved,
    weight_directions,
)
from dipgo_fx.search.least_squares import fit_stepwise
from dipgo_fx.search.sensitivity import whole_steps_candidate
from loops import cost
from searches import Recording, candidate, evaluator, evaluator_of, turning

# -- unknowns


@settings(max_examples=50)
@given(data=st.data(), history=st.integers(1, HISTORY))
def test_unknowns_are_the_weights_that_matter(data: st.DataObject, history: int) -> None:
    """Together they touch every weight a live closed gate reads, once, and no other."""
    costs = cost("dit", "ddim", "block", None, 6)
    row = st.lists(st.booleans(), min_size=costs.num_blocks, max_size=costs.num_blocks)
    keep = torch.tensor([[True] * costs.num_blocks, *(data.draw(row) for _ in range(5))])
    liveness = costs.reads.liveness_at_most(keep, history)
    unknowns = list(weight_directions(GateTable.of(keep), liveness, history))
    touched = [entry for d in unknowns for entry in d.entries]
    expected = {
        ("weights", (t, n, k))
        for t, n in liveness.backed_up.nonzero().tolist()
        for k in range(min(history, int(keep[:t, n].sum())))
    }
    assert len(touched) == len(set(touched))
    assert set(touched) == expected
    assert all(d.first == min(place[0] for _, place in d.entries) for d in unknowns)


def _steered(judge: Recording, runs: tuple[int, ...]) -> Candidate:
    found = whole_steps_candidate(judge, (runs,) * judge.cost.num_calls)
    assert found.steering is not None
    return found


def _unknowns(judge: Recording, found: Candidate) -> list[Direction]:
    liveness = judge.cost.reads.liveness_at_most(found.table.keep, found.history)
    return list(directions(judge, found, liveness))


@settings(max_examples=20)
@given(runs=st.sets(st.integers(0, 6), min_size=1).map(sorted), split=st.booleans(), apart=st.booleans())
def test_unknowns_of_steered_calls(runs: list[int], split: bool, apart: bool) -> None:
    """Told timesteps of running steps, the sample's share in each gap, and mixtures of runs in a row.

    Calls that are made at the same steps have theirs together. The last step's timestep, 0 or 1, is too
    small to be told otherwise.
    """
    judge = evaluator("ddim", 3.0 if split else None, split=split)
    found, steps, timesteps = _steered(judge, tuple(runs)), 7, judge.loop.facts.timesteps
    if apart:
        found = replace(found, placement=Placement(()))  # as if it were not known that they are
    unknowns = _unknowns(judge, found)
    told = [d.entries for d in unknowns if d.entries[0][0] == "told"]
    assert told == [(("told", (step,)),) for step in runs if timesteps[step] > 1]
    gaps: list[list[int]] = [[]]
    for step in range(steps):
        if step in runs:
            gaps.append([])
        else:
            gaps[-1].append(step)
    calls = [[call] for call in range(1 + split)] if apart else [[*range(1 + split)]]
    shares = [
        tuple(("mix", (step, call, 0)) for call in own for step in gap)
        for own in calls
        for gap in gaps
        if gap and not (split and gap[0] < runs[0])  # the calls have equal shares before they run
    ]
    mixed = [
        tuple(("mix", (step, call, column)) for call in own)
        for own in calls
        for step in runs[1:]
        if step + 1 in runs or step + 1 == steps
        for column in range(min(step - runs[0], 2) + 2)
    ]
    assert sorted(d.entries for d in unknowns if d.entries[0][0] == "mix") == sorted([*shares, *mixed])
    assert all(d.calls == (1 if apart or d.entries[0][0] == "told" else 1 + split) for d in unknowns)
    plain = _unknowns(judge, replace(found, steering=None))
    assert [d for d in unknowns if d.entries[0][0] == "weights"] == plain
    assert all(d.first == d.entries[0][1][0] for d in unknowns)


# -- steps


def _problem(judge: Recording) -> tuple[Candidate, list[Direction], fx.GraphModule]:
    """Return a candidate, its unknowns and the net that they are numbers of."""
    found = candidate(judge.loop, (0, 2, 3))
    return found, _unknowns(judge, found), judge.learnable(found)


def _stepped(judge: Recording, found: Candidate, chunk: int, damping: float) -> Candidate:
    """Return a candidate after one step."""
    _, unknowns, split = _problem(judge)
    with torch.no_grad():
        equations = normal_equations(split, found, unknowns, judge.batch, chunk)
    return moved_along(found, unknowns, solved(*equations, damping))


def test_an_affine_loop_is_solved() -> None:
    """Where samples are affine in the weights, steps end at the least-squares weights."""
    _, _, judge = turning(3)
    found, *_ = _problem(judge)
    before, damping = judge.evaluate(found).loss, DAMPING
    for chunk in (1, 2, 2, 1):
        found, damping = _stepped(judge, found, chunk, damping), damping * EASE
    assert judge.evaluate(found).loss < 1e-7 * before


def test_a_step_is_the_same_however_chunked() -> None:
    """What a step does to the samples does not hang on which of them ran together.

    Weights may: those of forecasts that are alike trade against each other. In samples, differences of
    two runs are off by their rounding over the nudge, and damping lets a step amplify that by no more
    than one over its root.
    """
    _, _, judge = turning(3)
    found, *_ = _problem(judge)
    judge.evaluate(found)
    start, samples = judge.result, []
    for chunk in (1, 2):
        judge.evaluate(_stepped(judge, found, chunk, DAMPING))
        samples.append(judge.result)
    rounding = torch.finfo(torch.float32).eps * start.abs().max().item() / NUDGE / DAMPING**0.5
    torch.testing.assert_close(*samples, rtol=0, atol=rounding)
    assert (start - samples[0]).abs().max() > 500 * rounding, "the step is no small one"


@pytest.mark.parametrize("steered", [False, True], ids=["plain", "steered"])
def test_equations_are_sums_over_samples(steered: bool) -> None:
    """So a search does not hang on how many samples fit into the model at once."""
    _, _, judge = turning(3)
    found = _steered(judge, (0, 2, 3)) if steered else candidate(judge.loop, (0, 2, 3))
    unknowns, split = _unknowns(judge, found), judge.learnable(found)
    with torch.no_grad():
        together, apart = (normal_equations(split, found, unknowns, judge.batch, chunk) for chunk in (2, 1))
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3 * one.abs().max().item())


@given(amounts=st.lists(st.floats(-3, 3), min_size=60, max_size=60))
@settings(max_examples=20)
def test_a_move_is_spread_over_its_entries(amounts: list[float]) -> None:
    """Every entry of a gap moves by an equal part, in each call, and what is told stays above 0."""
    judge = evaluator("ddim", 3.0, split=True)
    found = _steered(judge, (1, 3, 5, 6))
    unknowns = _unknowns(judge, found)
    change = torch.tensor(amounts[: len(unknowns)], dtype=torch.float64)
    moved = moved_along(found, unknowns, change).tables(torch.device("cpu"))
    expected = found.tables(torch.device("cpu"))
    for direction, amount in zip(unknowns, change.tolist(), strict=True):
        for name, place in direction.entries:
            gap = {step for _, (step, *_) in direction.entries}
            expected[name][place] += amount / len(gap)
    expected["told"].clamp_(min=LEAST_TOLD)
    for name, table in expected.items():
        torch.testing.assert_close(moved[name], table)


def test_damping_shortens_a_step() -> None:
    """Without it the equations are solved; the more there is the shorter is the step, and still downhill."""
    root = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    curvature, slope = root @ root.T, root.sum(1)
    torch.testing.assert_close(curvature @ solved(curvature, slope, 0.0), slope, rtol=1e-6, atol=1e-6)
    steps = [solved(curvature, slope, damping) for damping in (0.0, 0.01, 1.0, 100.0)]
    sizes = [(step * curvature.diagonal().sqrt()).norm().item() for step in steps]
    assert sizes == sorted(sizes, reverse=True)
    assert all(step @ slope > 0 for step in steps)
    assert solved(torch.zeros(2, 2).double(), torch.zeros(2).double(), 1.0).tolist() == [0, 0]


@pytest.mark.parametrize("steered", [False, True], ids=["plain", "steered"])
@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "unipc"])
def test_losses_only_fall_and_are_paid_for(scheduler: str, steered: bool) -> None:
    """A step is taken only if the loss falls; no more is spent than allowed; too little is no step."""
    judge = evaluator_of(("dit", scheduler, "block", None, 7), FEWEST)
    found = _steered(judge, (0, 2, 4)) if steered else candidate(judge.loop, (0, 2, 4))
    fitted = fit_stepwise(judge, found)
    before = judge.budget.spent
    assert gauss_newton(judge, fitted, most=0.1) is fitted
    assert judge.budget.spent == before
    losses = [fitted.loss]
    for most in (4.0, 9.0, 25.0):
        before = judge.budget.spent
        better = gauss_newton(judge, fitted, most)
        assert judge.budget.spent - before <= most + 1e-6
        assert judge.evaluate(better).loss == pytest.approx(better.loss)
        losses.append(better.loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_a_step_costs_what_it_runs() -> None:
    """One run to start from, one to judge; 1 unknown before 2 further steps, 2 before 1, 3 before none."""
    judge = evaluator_of(("dit", "ddim", "block", None, 7), FEWEST)
    fitted = fit_stepwise(judge, candidate(judge.loop, (0, 2, 4)))
    price = (3 + 2 + 2 + 3) / 7
    for most in (price * 1.02, price * 1.3):  # not enough for a second step
        before = judge.budget.spent
        better = gauss_newton(judge, fitted, most)
        assert better.loss < fitted.loss
        assert judge.budget.spent - before == pytest.approx(price, rel=1e-2)


def test_a_short_allowance_goes_by_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as it can pay for, in turn, and none if those are too few."""
    judge = evaluator_of(("dit", "ddim", "block", None, 5), 2 * FEWEST)
    fitted = fit_stepwise(judge, candidate(judge.loop, (0, 1, 3)))
    seen: list[tuple[int, ...]] = []
    real = normal_equations
    monkeypatch.setattr(
        "dipgo_fx.search.gauss_newton.normal_equations",
        lambda split, found, unknowns, few, chunk: (
            seen.append(few.seeds) or real(split, found, unknowns, few, chunk)
        ),
    )
    for most, count in ((1e9, 2 * FEWEST), (1.3, None), (0.9, 0)):
        seen.clear()
        before = judge.budget.spent
        gauss_newton(judge, fitted, most)
        assert judge.budget.spent - before <= most + 1e-6
        if count is None:
            assert FEWEST <= len(seen[0]) < 2 * FEWEST
        else:
            assert {len(seeds) for seeds in seen} == ({count} if count else set())


def test_a_step_that_does_not_help_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate comes back as it was; what was tried, ever firmer, is charged anyway."""
    judge = evaluator_of(("dit", "ddim", "block", None, 7), FEWEST)
    fitted = fit_stepwise(judge, candidate(judge.loop, (0, 2, 4)))
    tried: list[float] = []

    def wrong(curvature: torch.Tensor, slope: torch.Tensor, damping: float) -> torch.Tensor:
        tried.append(damping)
        return torch.full_like(slope, 3.0)

    monkeypatch.setattr("dipgo_fx.search.gauss_newton.solved", wrong)
    before, evaluations = judge.budget.spent, len(judge.curve)
    assert gauss_newton(judge, fitted) is fitted
    assert judge.budget.spent > before
    assert len(judge.curve) == evaluations + len(tried)
    assert tried == sorted({*tried})
    assert tried[0] == DAMPING
    assert len(tried) > 1


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
    fitted = fit_stepwise(judge, candidate(judge.loop, (0, 1)))
    gauss_newton(judge, fitted, most=2.5)
    assert sizes[:9] == 3 * [3, 3, 2]  # the fit, the step, and what judges it
    assert {*sizes} == {3, 2}
