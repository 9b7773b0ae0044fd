"""Models with inputs of their own."""

from __future__ import annotations

import pytest
import torch

from benchmarks.cases import CASES, FLOW, SCHEDULERS, Case, UnsuitedSamplerError
from benchmarks.reference import models as reference
from dipgo_fx import PaperConfig
from dipgo_fx.demo.models import NULL_CLASS

STEPS = 4


def test_an_unknown_model_is_named() -> None:
    """And so are those that are known."""
    with pytest.raises(ValueError, match=r"one of \('digits-dit', .*got 'digits'"):
        Case("digits")


@pytest.mark.parametrize("name", CASES)
def test_parts_of_the_inputs_are_the_inputs(name: str) -> None:
    """Samples stay with their conditioning, unconditional rows first."""
    inputs = Case(name, STEPS).inputs(6, held_out=True)
    first, second = inputs.part(0, 4), inputs.part(4, 8)
    assert torch.equal(torch.cat([first.sample, second.sample]), inputs.sample)
    for key, rows in inputs.conditioning.items():
        halves = [part.conditioning[key].split(len(part.sample)) for part in (first, second)]
        joined = [torch.cat(each) for each in zip(*halves, strict=True)]
        assert torch.equal(torch.cat(joined), rows)


def test_guidance_is_the_models_own() -> None:
    """Its first rows ask for nothing; the digits do without."""
    fashion, digits = (Case(name, STEPS).inputs(5, held_out=False) for name in ("fashion-dit", "digits-dit"))
    assert fashion.conditioning["class_labels"].tolist() == [NULL_CLASS] * 5 + [0, 1, 2, 3, 4]
    assert digits.conditioning["class_labels"].tolist() == [0, 1, 2, 3, 4]
    emoji = Case("emoji-unet", STEPS)
    seen, held_out = (emoji.inputs(4, held).conditioning["encoder_hidden_states"] for held in (False, True))
    assert torch.equal(seen[:4], held_out[:4])
    assert not any(torch.equal(a, b) for a in seen[4:] for b in held_out[4:])


def test_another_guidance_is_told() -> None:
    """The model's own is not another one; digits have none of their own and know what to ask for nothing."""
    assert Case("fashion-dit", STEPS, guidance=2.0).other_guidance is None
    fashion = Case("fashion-dit", STEPS, guidance=5.0)
    assert (fashion.guidance, fashion.other_guidance) == (5.0, 5.0)
    digits = Case("digits-dit", STEPS, guidance=3.0)
    assert digits.inputs(2, held_out=False).conditioning["class_labels"].tolist() == [NULL_CLASS] * 2 + [0, 1]
    assert digits.loop(split_guidance=True).facts.guidance.scale == 3.0


def test_samplers_of_flows_are_for_flows() -> None:
    """A model that predicts noise is not run as if that were a velocity."""
    with pytest.raises(UnsuitedSamplerError, match="digits-dit was not trained for flow-match Euler"):
        Case("digits-dit", STEPS, "flow-match Euler")


def test_what_was_distilled_runs_without_guidance() -> None:
    """One call a step."""
    case = Case(reference.FLOW, STEPS)
    assert case.guidance is None
    assert case.loop().facts.timesteps[-1] == pytest.approx(200)


@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if FLOW not in SCHEDULERS[name]])
def test_the_unpruned_loop_is_like_itself(scheduler: str) -> None:
    """Also where the sampler draws noise."""
    case = Case("digits-dit", STEPS, scheduler)
    found = case.quality_of(case.loop(), samples=2)
    assert found.psnr_db == float("inf")
    assert found.ssim == pytest.approx(1)
    assert found.class_accuracy is not None
    assert found.feature_distance is None


def test_evaluators_share_samples_and_no_account() -> None:
    """Each has the recipe that it was asked for."""
    case = Case("digits-dit", STEPS, samples=3)
    first, second = case.evaluator(), case.evaluator(config=PaperConfig(samples=3))
    assert first.batch is second.batch
    assert first.budget is not second.budget
    assert isinstance(second.config, PaperConfig)
    assert len(first.batch) == 3
