"""The scheduler's step is watched once, and found as it was; guidance is told from what it is given."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dipgo_fx
from benchmarks.coverage import pipelines
from dipgo_fx.pipelines.step_watcher import Stepped, conditional
from tiny_pipelines import plan_of, run


@pytest.fixture
def pipe() -> Any:
    """A tiny Stable Diffusion."""
    return pipelines.PIPELINES["sd"].build()


def test_another_pipeline_with_the_same_model_is_refused(pipe: Any) -> None:
    """Its scheduler is another: nobody knows at which step it is."""
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    other = type(pipe)(**{**pipe.components, "scheduler": scheduler})
    dipgo_fx.enable(pipe, plan_of("sd"))
    expected = run("sd", pipe)
    with pytest.raises(RuntimeError, match="another pipeline has the same model"):
        run("sd", other)
    assert "step" not in vars(pipe.scheduler)
    assert torch.equal(run("sd", pipe), expected)


def test_a_scheduler_that_an_error_leaves_watched_is_traced_as_any_other(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of it steps itself: the caller's stays where it was."""
    stepped, kind = list[Any](), type(pipe.scheduler)
    own_step = kind.step

    @functools.wraps(own_step)
    def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        stepped.append(scheduler)
        return own_step(scheduler, *args, **kwargs)

    monkeypatch.setattr(kind, "step", step)
    dipgo_fx.enable(pipe, plan_of("sd"))
    hook = pipe.unet.conv_out.register_forward_pre_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("sd", pipe)
    hook.remove()
    dipgo_fx.trace(pipe.unet, pipe.scheduler, num_inference_steps=3, conditioning=_conditioning(pipe))
    assert len(stepped) == 3
    assert not any(scheduler is pipe.scheduler for scheduler in stepped)
    dipgo_fx.disable(pipe)
    assert "step" not in vars(pipe.scheduler)


def _conditioning(pipe: Any) -> dict[str, torch.Tensor]:
    return {"encoder_hidden_states": torch.zeros(1, 4, pipe.unet.config.cross_attention_dim)}


@given(
    scale=st.floats(1.5, 12),
    order=st.permutations([0, 1]),
    form=st.sampled_from(["rows", "doubled", "calls", "frames", "with variance"]),
    sign=st.sampled_from([-1, 1]),
    samples=st.integers(1, 3),
)
def test_the_conditional_prediction_has_the_larger_weight(
    scale: float, order: list[int], form: str, sign: int, samples: int
) -> None:
    """In whichever order a pipeline has the two, and whatever its scheduler steps."""
    frames = [2] if form == "frames" else []
    parts = torch.randn(2, samples, 6 if form == "with variance" else 3, *frames, 4, generator=_generator())
    unconditional, conditioned = (parts[k] for k in order)
    output = sign * (unconditional + scale * (conditioned - unconditional))
    if form == "frames":
        output = output.transpose(1, 2).flatten(0, 1)
    output = torch.cat([output, output]) if form == "doubled" else output
    predictions = [*parts] if form == "calls" else [parts.flatten(0, 1)]
    weights = Stepped(output, output[:, :3]).weights(predictions)
    assert [sign * weights[k] for k in order] == pytest.approx([1 - scale, scale], abs=1e-3)
    assert conditional(weights, 0) == conditional(weights, 1) == order[1]


def test_without_guidance_there_is_one_condition() -> None:
    """Also where samples begin with the same noise, so that both halves of the rows are alike."""
    prediction = torch.randn(1, 3, 4, generator=_generator()).repeat(2, 1, 1)
    assert Stepped(prediction, prediction).weights([prediction]) == pytest.approx([1])


@pytest.mark.parametrize("otherwise", [0, 1])
def test_conditions_that_are_the_same_are_in_the_usual_order(otherwise: int) -> None:
    """Nothing tells them apart, and nothing hangs on it."""
    half = torch.randn(2, 3, 4, generator=_generator())
    weights = Stepped(half, half).weights([torch.cat([half, half])])
    assert len(weights) == 2  # also of two samples that are the same
    same = half[:1].repeat(2, 1, 1)
    assert len(Stepped(same, same).weights([torch.cat([same, same])])) == 2
    assert conditional(weights, otherwise) == otherwise


def test_where_guidance_comes_after_the_step_the_order_is_the_usual_one() -> None:
    """Cosmos steps both predictions, the unconditional one first, though it makes the other one first."""
    made, unconditional = torch.randn(2, 2, 3, 4, generator=_generator())
    both = torch.cat([unconditional, made])
    weights = Stepped(both, torch.cat([made, made])).weights([made, unconditional])
    assert conditional(weights, 0) == 0


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
