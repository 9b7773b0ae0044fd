"""Classifier-free guidance: rows, calls of the model, and how predictions are combined."""

from __future__ import annotations

import pytest
import torch

from dipgo_fx.guidance import NO_GUIDANCE, Guidance

JOINT, SPLIT = Guidance(3.0), Guidance(3.0, split=True)
ROWS = {"labels": torch.tensor([9, 9, 1, 2]), "nested": {"text": torch.arange(8.0).view(4, 2)}}


def test_a_split_needs_guidance() -> None:
    """Without there is one condition, and nothing to split."""
    with pytest.raises(ValueError, match="split_guidance needs a guidance_scale"):
        Guidance(None, split=True)


@pytest.mark.parametrize(
    ("guidance", "rows", "calls"),
    [(NO_GUIDANCE, 1, ("",)), (JOINT, 2, ("",)), (SPLIT, 2, ("unconditional", ""))],
)
def test_a_step_has_rows_and_calls(guidance: Guidance, rows: int, calls: tuple[str, ...]) -> None:
    """Two conditions in one call of the model, or in two."""
    assert guidance.rows == rows
    assert guidance.calls == calls


def test_a_scale_of_zero_is_guidance() -> None:
    """It takes two rows and gives the unconditional prediction."""
    zero = Guidance(0.0)
    assert zero.rows == 2
    assert zero.combine([torch.tensor([[1.0], [5.0]])], 1).tolist() == [[1.0]]


def test_conditions_get_their_rows() -> None:
    """All at once, or the unconditional half first; tensors in nested mappings too."""
    assert JOINT.conditions(ROWS, 2) == [ROWS]
    unconditional, conditional = SPLIT.conditions(ROWS, 2)
    assert unconditional["labels"].tolist() == [9, 9]
    assert conditional["labels"].tolist() == [1, 2]
    assert conditional["nested"]["text"].tolist() == [[4.0, 5.0], [6.0, 7.0]]


def test_latents_are_there_once_for_each_condition_of_a_call() -> None:
    """Twice where one call serves both."""
    sample = torch.randn(2, 3)
    assert torch.equal(NO_GUIDANCE.latents(sample), sample)
    assert torch.equal(JOINT.latents(sample), torch.cat([sample, sample]))
    assert torch.equal(SPLIT.latents(sample), sample)


@pytest.mark.parametrize("channels", [2, 4], ids=["variance", "no variance"])
def test_predictions_move_beyond_the_conditional_one(channels: int) -> None:
    """By the scale; a variance, beyond the sample's channels, is the conditional one's. Split or not."""
    one, other = torch.randn(2, 1, 4, 1, 1)
    moved = one + 3.0 * (other - one)
    expected = torch.cat([moved[:, :channels], other[:, channels:]], 1)
    assert torch.equal(JOINT.combine([torch.cat([one, other])], channels), expected)
    assert torch.equal(SPLIT.combine([one, other], channels), expected)
    assert torch.equal(NO_GUIDANCE.combine([one], channels), one)
