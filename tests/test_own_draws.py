"""Draws that nobody outside sees."""

from __future__ import annotations

import torch

from dipgo_fx.own_draws import own_draws


def test_the_global_generator_is_as_before() -> None:
    """Whatever was drawn or seeded inside."""
    before = torch.random.get_rng_state()
    with own_draws(torch.device("cpu")):
        torch.manual_seed(3)
        torch.rand(2)
    assert torch.equal(torch.random.get_rng_state(), before)
