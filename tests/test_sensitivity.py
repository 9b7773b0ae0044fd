"""Which steps matter, and steps spread by that."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo
from dipgo_fx.arena import Arena
from dipgo_fx.calibration import calibrate
from dipgo_fx.config import PruneConfig
from dipgo_fx.ladder import rung_draft
from dipgo_fx.schedules import spread, step_sets
from dipgo_fx.sensitivity import POSITIONS, sensitivities
from loops import cost, loop


@given(
    sensitivity=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40),
    exponent=st.floats(0, 1),
    end=st.floats(0, 0.9),
    data=st.data(),
)
def test_a_spread_has_as_many_steps_as_asked(
    sensitivity: list[float], exponent: float, end: float, data: st.DataObject
) -> None:
    """Distinct steps of the loop, rising from step 0, and all of them if all are asked for."""
    count = data.draw(st.integers(1, len(sensitivity)))
    steps = spread(sensitivity, count, exponent, end)
    assert len(steps) == count
    assert steps[0] == 0
    assert list(steps) == sorted(set(steps))
    assert steps[-1] < len(sensitivity)


def test_steps_go_where_they_matter() -> None:
    """Exponent 0 is even; a higher one puts more steps where the sensitivity is high."""
    sensitivity = [16.0] * 10 + [1.0] * 10
    assert spread(sensitivity, 5, 0.0) == (0, 4, 8, 12, 16) == next(step_sets(20, 5))
    early = [sum(step < 10 for step in spread(sensitivity, 8, e)) for e in (0.0, 0.25, 0.5, 1.0)]
    assert early == sorted(early)
    assert early[0] == 4
    assert early[-1] == 8
    assert spread([1.0] * 20, 4, 0.0) == (0, 5, 10, 15)
    assert spread([1.0] * 20, 4, 0.0, end=0.5) == (0, 6, 11, 17), "the last gap is half as long as the others"


@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_sensitivities_are_errors_without_a_step(steps: int, split: bool) -> None:
    """One a step and half, above 0, no dearer than allowed or one sample; each the loss of a plan."""
    key = ("dit", "ddim", "block", 2.0 if split else None, steps, split)
    batch = calibrate(loop(*key), zoo.model("dit"), None, 3, 1.0, zoo.generator(1))
    court = Arena(loop(*key), cost(*key), batch, PruneConfig(), zoo.generator())
    before = court.spent
    found = sensitivities(court, most=0.1)
    assert [len(half) for half in found] == [steps] * (1 + split)
    assert min(map(min, found)) > 0
    assert court.spent - before <= POSITIONS / 3
    for half, own in enumerate(found):
        if steps == 7:
            runs = tuple((0, 1, 2, 4, 5, 6) if n == half else tuple(range(7)) for n in range(len(found)))
            draft = rung_draft(court.cost, runs)
            assert own[3] ** 2 == pytest.approx(court.steered(draft, batch.part(torch.arange(1))).loss)
        if steps > 1:
            assert own[0] == own[1]
