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
from dipgo_fx.ladder import whole_step_draft
from dipgo_fx.schedules import spread, step_sets
from dipgo_fx.sensitivity import sensitivities
from loops import cost, loop


@given(
    sensitivity=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40),
    exponent=st.floats(0, 1),
    data=st.data(),
)
def test_a_spread_has_as_many_steps_as_asked(
    sensitivity: list[float], exponent: float, data: st.DataObject
) -> None:
    """Distinct steps of the loop, rising from step 0, and all of them if all are asked for."""
    count = data.draw(st.integers(1, len(sensitivity)))
    steps = spread(sensitivity, count, exponent)
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


@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_sensitivities_are_errors_without_a_step(steps: int) -> None:
    """One a step, above 0, and no dearer than allowed or one sample; measured ones are losses of plans."""
    graph = loop("dit", "ddim", "block", None, steps)
    batch = calibrate(graph, zoo.model("dit"), None, 3, 1.0, zoo.generator(1))
    court = Arena(graph, cost("dit", "ddim", "block", None, steps), batch, PruneConfig(), zoo.generator())
    before = court.spent
    found = sensitivities(court, most=0.1)
    assert len(found) == steps
    assert min(found) > 0
    assert court.spent - before <= 20 / 3
    if steps == 7:
        draft = whole_step_draft(court.cost, (0, 1, 2, 4, 5, 6))
        assert found[3] ** 2 == pytest.approx(court.steered(draft, batch.part(torch.arange(1))).loss)
    if steps > 1:
        assert found[0] == found[1]
