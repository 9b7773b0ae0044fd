"""What a plan tells its calls and how it mixes their predictions: which tables can be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.passes.steering import NEUTRAL, SAMPLE_ALONE, Steering

STEPS, CALLS = 5, 2


def tables(first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tables of a neutral steering that begins late."""
    steering = Steering.neutral(STEPS, CALLS, first)
    return steering.told.clone(), steering.mix.clone()


@given(first=st.integers(0, STEPS - 1))
def test_a_neutral_steering_begins_where_it_is_told(first: int) -> None:
    """Before that the sample is taken; only a start at step 0 changes nothing."""
    steering = Steering.neutral(STEPS, CALLS, first)
    assert steering.first == first
    assert steering.of_call(1) == [list(SAMPLE_ALONE)] * first + [list(NEUTRAL)] * (STEPS - first)
    assert steering.is_neutral == (first == 0)


@pytest.mark.parametrize(
    ("told", "mix", "said"),
    [
        (torch.ones(STEPS, 1), tables()[1], "told must be T numbers above 0"),
        (torch.zeros(STEPS), tables()[1], "told must be T numbers above 0"),
        (torch.full((STEPS,), torch.nan), tables()[1], "told must be finite"),
        (torch.ones(STEPS, dtype=torch.bool), tables()[1], "told must be real numbers"),
        (
            torch.ones(STEPS + 1),
            tables()[1],
            r"mix must have shape \(6, calls of a step, 4\), got \(5, 2, 4\)",
        ),
        (torch.ones(STEPS), torch.ones(STEPS, CALLS, 3), "mix must have shape"),
        (torch.ones(STEPS), torch.full((STEPS, CALLS, 4), torch.inf), "mix must be finite"),
        (torch.ones(STEPS), torch.ones(STEPS, CALLS, 4), r"mix\[0\] must be \(0.0, 1.0, 0.0, 0.0\)"),
        (torch.ones(STEPS), torch.zeros(STEPS, CALLS, 4), "must be called at one step at least"),
    ],
)
def test_tables_that_cannot_be_are_refused(told: torch.Tensor, mix: torch.Tensor, said: str) -> None:
    """The error names the table, what it must be, and what came."""
    with pytest.raises(ValueError, match=said):
        Steering(told, mix)


@given(first=st.integers(0, STEPS - 2))
def test_nothing_is_read_that_never_ran(first: int) -> None:
    """The call after the first has one prediction behind it, not two; calls begin together."""
    told, mix = tables(first)
    mix[first + 1, 1, 3] = 0.5
    with pytest.raises(ValueError, match=rf"mix\[{first + 1}\] must not read two steps earlier"):
        Steering(told, mix)
    told, mix = tables(first)
    mix[: first + 1, 1] = torch.tensor(SAMPLE_ALONE, dtype=torch.float64)
    with pytest.raises(ValueError, match=rf"mix\[{first}\] must be"):
        Steering(told, mix)
    told, mix = tables(first + 1)
    mix[first, 1, 0] = 0.5
    with pytest.raises(ValueError, match="must take as much of the sample"):
        Steering(told, mix)


@given(first=st.integers(0, STEPS - 1), start=st.integers(0, STEPS - 1), seed=st.integers(0, 99))
def test_a_run_that_leaves_steps_out_has_a_steering_of_its_own(first: int, start: int, seed: int) -> None:
    """Its first run is as it is, no sample stands for a prediction, and all else is what it was."""
    told, mix = tables(first)
    noise = torch.randn(STEPS, CALLS, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mix[first + 1 :] = noise[first + 1 :]
    mix[first + 1 : first + 2, :, 3] = 0
    steering = Steering(told, mix)
    later = steering.from_step(start)
    assert later.first == 0
    after = max(start, first) + 2
    assert torch.equal(later.mix[after - start :], mix[after:])
    assert len(later.told) == STEPS - start


def test_equal_tables_are_equal() -> None:
    """By value; what is given is copied."""
    told, mix = tables()
    steering = Steering(told, mix)
    told[1] = 2.0
    assert steering == Steering.neutral(STEPS, CALLS) != Steering(told, mix)
