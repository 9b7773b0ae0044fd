"""Which step a call belongs to, whatever a pipeline tells its model of the timestep."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dipgo_fx
from benchmarks.coverage import pipelines
from benchmarks.coverage.skipping import calls_of, random_plan, recorded
from dipgo_fx.pipelines.step_clock import MOST_CALLS, StepClock
from tiny_pipelines import run, skipped

TOLD: dict[str, Callable[[float], float]] = {
    "itself": lambda t: t,
    "its share": lambda t: t / 1000,
    "what is left": lambda t: 1 - t / 1000,
    "something else": lambda t: (t + 3) ** 0.5,
}


def scheduler(levels: list[float]) -> Any:
    """Return what a clock reads of a scheduler."""
    config = SimpleNamespace(num_train_timesteps=1000)
    return SimpleNamespace(timesteps=torch.tensor(levels), config=config)


@given(
    levels=st.lists(st.integers(1, 999), min_size=1, max_size=12, unique=True),
    told=st.sampled_from(sorted(TOLD)),
    calls=st.integers(1, 3),
    dtype=st.sampled_from((torch.float32, torch.float64)),
)
def test_every_call_has_its_step(levels: list[int], told: str, calls: int, dtype: torch.dtype) -> None:
    """In two runs, the first of them cancelled in its middle."""
    levels = sorted(levels, reverse=True)
    clock = StepClock()
    for length in (len(levels) // 2 + 1, len(levels)):
        own = scheduler([float(level) for level in levels])
        found = []
        for level in levels[:length]:
            for _ in range(calls):
                begins = clock.tick(own, torch.tensor(TOLD[told](level), dtype=dtype))
                found.append((begins, clock.step, clock.call))
        steps = [(step, call) for step in range(length) for call in range(calls)]
        assert found == [(at == (0, 0), *at) for at in steps]


def test_repeated_timesteps_are_steps_of_their_own() -> None:
    """Heun calls the model twice at one timestep: two steps of one call, or of two under guidance."""
    levels = [900.0, 700.0, 700.0, 500.0, 500.0]
    for calls in (1, 2):
        clock, own = StepClock(), scheduler(levels)
        found = []
        for level in levels:
            for _ in range(calls):
                clock.tick(own, torch.tensor(level))
                found.append((clock.step, clock.call))
        assert found == [(step, call) for step in range(5) for call in range(calls)]


@given(start=st.integers(0, 4))
def test_a_strength_begins_later(start: int) -> None:
    """The first call says where."""
    levels = [900.0, 700.0, 500.0, 300.0, 100.0]
    clock, own = StepClock(), scheduler(levels)
    for step in range(start, 5):
        clock.tick(own, torch.tensor(levels[step]))
        assert (clock.start, clock.step) == (start, step)
        assert clock.is_within_run(own) == (step < 4)


def test_a_loop_that_jumps_is_refused() -> None:
    """The error says what was expected, and how to go on without a plan."""
    clock, own = StepClock(), scheduler([900.0, 700.0, 500.0])
    clock.tick(own, torch.tensor(900.0))
    with pytest.raises(
        RuntimeError, match=r"timestep 500 after step 0 of 3, where 700\.0 was expected.*disable"
    ):
        clock.tick(own, torch.tensor(500.0))


def test_what_fits_two_ways_of_telling_is_settled_by_the_next_call() -> None:
    """A loop that begins at 0 tells its model 0, whether it tells timesteps or shares of them."""
    levels = [0.0, 250.0, 500.0, 750.0]
    for told in ("itself", "its share"):
        clock, own = StepClock(), scheduler(levels)
        found = []
        for level in levels:
            clock.tick(own, torch.tensor(TOLD[told](level)))
            found.append(clock.step)
        assert found == [0, 1, 2, 3]


def test_a_timestep_a_token_is_that_of_the_noisiest() -> None:
    """Models that are given a first frame are told that it has no noise."""
    clock, own = StepClock(), scheduler([900.0, 700.0, 500.0])
    for step, level in enumerate((900.0, 700.0, 500.0)):
        clock.tick(own, torch.tensor([[0.0, level, level]]))
        assert clock.step == step


def test_a_loop_that_stands_still_is_refused() -> None:
    """A plan would run whole at every call, and nobody would see it."""
    clock, own = StepClock(), scheduler([900.0, 700.0, 500.0])
    for _ in range(MOST_CALLS):
        clock.tick(own, torch.tensor(900.0))
    with pytest.raises(RuntimeError, match=r"timestep 900 after step 0 of 3, for the 7th time.*disable"):
        clock.tick(own, torch.tensor(900.0))


@pytest.mark.parametrize("calls", [1, 2])
def test_timesteps_that_are_set_anew_at_every_step_are_refused(calls: int) -> None:
    """Each step would be the first of a run, and nothing ever skipped; the next run begins afresh."""
    levels, clock = [900.0, 700.0, 500.0], StepClock()
    clock.tick(scheduler(levels), torch.tensor(900.0))
    own = scheduler(levels)
    if calls == 2:
        clock.tick(own, torch.tensor(900.0))
    with pytest.raises(
        RuntimeError, match=r"timestep 700 after step 0 of 3, with timesteps set anew.*call again"
    ):
        clock.tick(scheduler(levels), torch.tensor(700.0))
    assert clock.tick(own, torch.tensor(900.0))
    assert (clock.start, clock.step) == (0, 0)


@given(end=st.integers(1, 5), start=st.integers(0, 4))
def test_a_run_begins_anywhere_after_one_that_is_over(end: int, start: int) -> None:
    """A strength begins where a larger one ended, the next part of a chain where the first was cut off."""
    levels, clock = [900.0, 700.0, 500.0, 300.0, 100.0], StepClock()
    first = scheduler(levels)
    for level in levels[:end]:
        clock.tick(first, torch.tensor(level), end)
    second = scheduler(levels)
    for step in range(start, 5):
        assert clock.tick(second, torch.tensor(levels[step]), 5 - start) == (step == start)
        assert (clock.start, clock.step) == (start, step)


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "PNDMScheduler"])
@pytest.mark.parametrize(
    "strength", [0.9, *(pytest.param(share, marks=pytest.mark.long) for share in (0.3, 0.8, 0.95))]
)
def test_a_strength_begins_at_the_right_one_of_equal_timesteps(name: str, strength: float) -> None:
    """Heun has each twice, PNDM its second."""
    key, pipe = "sd-img2img", pipelines.PIPELINES["sd-img2img"].build()
    given = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    pipe.scheduler = getattr(diffusers, name)(beta_schedule="scaled_linear", **given)
    plan = random_plan(recorded(pipe, lambda p: run(key, p, strength=0.999, steps=20))[1], 0.6, 1)
    calls = len(calls_of(pipe, lambda p: run(key, p, strength=strength, steps=20)))
    start = len(plan.timesteps) - calls
    expected = skipped(key, pipe, plan, start, strength=strength, steps=20)
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(run(key, pipe, strength=strength, steps=20), expected)


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("shift", [3.0, 7.0])
def test_timesteps_that_half_precision_cannot_tell_apart(calls: int, shift: float) -> None:
    """The scheduler's own count says whether it was stepped."""
    own = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    own.set_timesteps(50)
    clock, found = StepClock(), []
    for timestep in own.timesteps:
        for _ in range(calls):
            clock.tick(own, timestep.bfloat16() / 1000)
            found.append((clock.step, clock.call))
        own.step(torch.zeros(1), timestep, torch.zeros(1))
    assert found == [(step, call) for step in range(50) for call in range(calls)]
