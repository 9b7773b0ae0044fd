"""The reference models are the stored ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.reference.models import (
    FLOW,
    FROZEN,
    PROMPT_TOKENS,
    PROMPT_WIDTH,
    REFERENCE_MODELS,
    SAMPLE_SHAPE,
    build,
    build_flow_scheduler,
    build_scheduler,
    load,
    load_classifier,
    prompt_states,
)


def public(scheduler: Any) -> dict[str, Any]:
    """Return the settings of a scheduler without what diffusers notes of where they came from."""
    return {name: value for name, value in scheduler.config.items() if not name.startswith("_")}


@pytest.mark.parametrize("name", [*REFERENCE_MODELS, FROZEN])
def test_the_stored_weights_are_of_the_models_that_are_built(name: str) -> None:
    """A new training would give the same architecture, for images of the same shape."""
    model, scheduler = load(name)
    built = build(name).state_dict()
    assert {key: value.shape for key, value in built.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    assert not model.training
    expected = build_flow_scheduler(name) if name in (FLOW, FROZEN) else build_scheduler()
    assert public(scheduler) == public(expected)
    assert SAMPLE_SHAPE[name][0] == model.config["in_channels"]
    assert SAMPLE_SHAPE[name][1] == model.config["sample_size"]


def test_an_unknown_name_is_refused() -> None:
    """And those that are known are told."""
    with pytest.raises(ValueError, match=r"'fashion-dit', .* got 'vae'"):
        load("vae")


def test_prompts_have_names_and_states() -> None:
    """Sixty-four of them, and that of no name."""
    names, states, nothing = prompt_states()
    assert len(set(names)) == 64
    assert states.shape == (64, PROMPT_TOKENS, PROMPT_WIDTH)
    assert nothing.shape == (1, PROMPT_TOKENS, PROMPT_WIDTH)


def test_the_classifier_gives_logits() -> None:
    """Ten an image."""
    assert load_classifier()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
