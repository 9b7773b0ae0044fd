"""How a pipeline is called for an image: by what its plan was searched with, and by what is asked for."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from typing import Any

import pytest
import torch

from dipgo_fx import Plan
from dipgo_fx.cli.pipeline import Call, lines_about
from dipgo_fx.guidance import Guidance
from dipgo_fx.passes import GateTable
from tiny_pipelines import facts_of

TRUE = "true_cfg_scale"


class OneScale:
    """A pipeline that guides by one argument."""

    def __call__(self, prompt: str, num_inference_steps: int, guidance_scale: float, height: int) -> None:
        """Draw nothing."""


class TwoScales:
    """A pipeline whose model has a guidance of its own."""

    def __call__(
        self, prompt: str, num_inference_steps: int, guidance_scale: float, true_cfg_scale: float
    ) -> None:
        """Draw nothing."""


class Stock:
    """A pipeline with arguments that most have."""

    def __call__(
        self,
        prompt: str,
        num_inference_steps: int,
        height: int,
        negative_prompt: str,
        num_images_per_prompt: int,
        generator: torch.Generator,
        latents: torch.Tensor,
        output_type: str,
        return_dict: bool,
    ) -> None:
        """Draw nothing."""


def plan_of(scale: float | None, **call: Any) -> Plan:
    """Return a plan of a loop under guidance, whose search called its pipeline with these words."""
    facts = replace(facts_of("sd"), guidance=Guidance(scale))
    keep = [[True] * len(facts.blocks)] * len(facts.timesteps)
    return Plan(facts, GateTable.of(torch.tensor(keep)), 0.0, origin={"call": call})


@pytest.mark.parametrize(
    ("scale", "call", "asked", "one", "two"),
    [
        (None, {}, None, {}, {}),
        (7.5, {}, None, {"guidance_scale": 7.5}, {TRUE: 7.5}),
        (7.5, {"height": 64}, 2.0, {"guidance_scale": 2.0, "height": 64}, {"guidance_scale": 2.0}),
        (None, {"guidance_scale": 9.0}, None, {"guidance_scale": 9.0}, {"guidance_scale": 9.0}),
        (None, {"guidance_scale": 9.0}, 3.0, {"guidance_scale": 3.0}, {"guidance_scale": 3.0}),
        (4.0, {TRUE: 4.0}, None, {"guidance_scale": 4.0}, {TRUE: 4.0}),
        (
            4.0,
            {TRUE: 4.0, "guidance_scale": 4.0},
            None,
            {"guidance_scale": 4.0},
            {TRUE: 4.0, "guidance_scale": 4.0},
        ),
        (4.0, {TRUE: 4.0}, 5.0, {"guidance_scale": 5.0}, {TRUE: 4.0, "guidance_scale": 5.0}),
    ],
)
def test_a_call_is_that_of_the_search_unless_something_else_is_asked(
    scale: float | None, call: dict[str, Any], asked: float | None, one: dict[str, Any], two: dict[str, Any]
) -> None:
    """A scale by an argument of its own name; words that a pipeline does not know are left out."""
    options = Namespace(steps=None, guidance=asked, seed=0)
    made = Call.of(options, plan_of(scale, num_inference_steps=9, **call))
    steps = facts_of("sd").num_inference_steps
    assert made.arguments(OneScale()) == {**one, "num_inference_steps": steps}
    assert made.arguments(TwoScales()) == {**two, "num_inference_steps": steps}


def test_a_plan_that_says_something_odd_of_its_call_changes_nothing() -> None:
    """A file may say anything."""
    options = Namespace(steps=3, guidance=None, seed=0)
    odd = replace(plan_of(None), origin={"call": [1]})
    assert Call.of(options, odd).arguments(OneScale()) == {"num_inference_steps": 3}
    odd = replace(plan_of(None), origin={"call": {"height": [64], "prompt": {}}})
    assert Call.of(options, odd).arguments(OneScale()) == {"num_inference_steps": 3}


def test_a_plan_does_not_decide_what_commands_give() -> None:
    """Neither the prompt, nor the noise, nor what comes out; what it does decide is said in one line."""
    own = {
        "prompt": "a hat",
        "latents": 1,
        "num_images_per_prompt": 3,
        "output_type": "latent",
        "generator": "x",
        "return_dict": False,
    }
    plan = plan_of(None, **own, negative_prompt="a\nfox", height=64, unknown=1)
    call = Call.of(Namespace(steps=3, guidance=None, seed=0), plan)
    left = {"height": 64, "negative_prompt": "a\nfox"}
    assert call.from_plan(Stock()) == left
    assert call.arguments(Stock()) == {**left, "num_inference_steps": 3}
    assert lines_about(left) == [r"Called as the plan's search: height=64, negative_prompt='a\nfox'"]
    assert lines_about({}) == []


def test_a_scale_that_is_asked_for_is_not_said_to_be_the_plans() -> None:
    """The other one still is."""
    plan = plan_of(4.0, **{TRUE: 4.0, "guidance_scale": 3.5})
    asked, own = (Call.of(Namespace(steps=3, guidance=scale, seed=0), plan) for scale in (5.0, None))
    assert asked.from_plan(TwoScales()) == {TRUE: 4.0}
    assert own.from_plan(TwoScales()) == {TRUE: 4.0, "guidance_scale": 3.5}
