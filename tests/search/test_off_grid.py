"""Runs between two steps: what they are told, and where the samples that they get lie on the path."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.passes import GateTable, Steering
from dipgo_fx.placement import Placement
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.least_squares import fit_stepwise
from dipgo_fx.search.off_grid import SHIFTS, place_of, shifted
from dipgo_fx.search.sensitivity import whole_steps_candidate
from dipgo_fx.search.stepwise import _Recorded
from searches import PLAIN, evaluator_of

LEVELS = st.sets(st.integers(1, 1000), min_size=2, max_size=12)


@given(levels=LEVELS, shift=st.sampled_from(SHIFTS), data=st.data())
def test_runs_are_told_where_they_are(levels: set[int], shift: float, data: st.DataObject) -> None:
    """A shift of a part of a step is what `place_of` reads off the number that the model is told."""
    timesteps = sorted(levels, reverse=True)
    step = data.draw(st.integers(1, len(timesteps) - 1))
    steering = Steering.neutral(len(timesteps), 1)
    moved = shifted(
        Candidate(GateTable.of(torch.ones(1, 1, dtype=torch.bool)), 2, Placement(((0, step),)), "", steering),
        timesteps,
        shift,
    )
    last = step == len(timesteps) - 1
    if last and shift < 0:
        assert moved is None
        return
    assert moved is not None
    assert moved.steering is not None
    told = moved.steering.told.tolist()
    assert [number for place, number in enumerate(told) if place != step] == [1.0] * (len(timesteps) - 1)
    assert place_of(step, timesteps, told[step]) == pytest.approx(step - shift, abs=1e-9)


@pytest.mark.parametrize(
    ("step", "told", "place"),
    [
        (2, 1.0, 2),
        (2, 2.0, 1.5),
        (2, 0.5, 2.75),
        (2, 9.0, 1),
        (1, 1.2, 1),
        (4, 0.5, 4),
        (4, 2.0, 4),
        (3, 0.1, 3.9),
    ],
)
def test_places_lie_beside_their_step(step: int, told: float, place: float) -> None:
    """At most a step off; on it at the end of the loop, between equal timesteps, and where it is 0."""
    assert place_of(step, [90.0, 90.0, 30.0, 10.0, 0.0], told) == pytest.approx(place)


def test_a_run_at_timestep_0_stays() -> None:
    """A number times 0 is 0: a candidate whose only later run is there cannot be moved."""
    judge = evaluator_of(PLAIN, 2, 99)
    timesteps = judge.loop.facts.timesteps
    assert timesteps[-1] == 0
    assert shifted(whole_steps_candidate(judge, ((0, len(timesteps) - 1),)), timesteps, 0.5) is None


@torch.no_grad()
def test_samples_are_brought_to_where_a_run_is_told_it_is() -> None:
    """The forecast before a run that is told half a step earlier ends half a step earlier on the path."""
    judge = evaluator_of(("dit", "euler", "block", None, 8, False), 6, 99, seed=2)
    timesteps = judge.loop.facts.timesteps
    candidate = whole_steps_candidate(judge, ((0, 4),))
    assert candidate.steering is not None
    fits = {0.0: fit_stepwise(judge, candidate)}
    for shift in SHIFTS:
        moved = shifted(candidate, timesteps, shift)
        assert moved is not None
        fits[shift] = fit_stepwise(judge, moved)
    reached = {}
    for shift, fitted in fits.items():
        run = _Recorded(judge.learnable(fitted), judge.batch)
        run.run_with(fitted.tables(torch.device("cpu")))
        reached[shift] = run.path[3]
    for shift in fits:
        wanted = judge.batch.at(4 - shift)
        off = {other: (sample - wanted).norm().item() for other, sample in reached.items()}
        assert min(off, key=off.__getitem__) == shift
