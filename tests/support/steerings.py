"""Random steerings that tests share."""

from __future__ import annotations

import torch

import zoo
from dipgo_fx.loop import LoopFacts
from dipgo_fx.passes import Steering


def steering_of(facts: LoopFacts, seed: int, first: int = 0) -> Steering:
    """Return a random steering of a loop, whose calls begin at step `first`."""
    generator = zoo.generator(seed)
    steps, calls = len(facts.timesteps), len(facts.guidance.calls)
    mix = Steering.neutral(steps, calls, first).mix.clone()
    mix[:first, :, 0] = 1 + 0.1 * torch.randn(first, 1, generator=generator)
    mix[first + 1 :] += 0.2 * torch.randn(steps - first - 1, calls, 4, generator=generator)
    mix[first + 1 : first + 2, :, 3] = 0
    told = 1 + 0.05 * torch.randn(steps, generator=generator)
    return Steering(told, mix)
