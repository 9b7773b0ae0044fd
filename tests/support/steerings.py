"""Random steerings that tests share, and the eager model that is steered by hand."""

from __future__ import annotations

from typing import Any

import torch

import zoo
from dipgo_fx.loop import LoopFacts
from dipgo_fx.passes import Steering
from dipgo_fx.passes.steer_calls import mixture


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


class Steered:
    """A model whose calls a steering steers, by hand; `calls` counts those that ran.

    Args:
        model: the model.
        steering: the steering.
        names: calls of the model a step.
        channels: of a prediction.
    """

    def __init__(self, model: Any, steering: Steering, names: int, channels: int) -> None:
        self.model, self.steering, self.names, self.calls = model, steering, names, 0
        self.channels = channels
        self.past: list[list[torch.Tensor]] = [[] for _ in range(names)]
        self.asked = 0
        self.forward = model.forward

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, **options: Any) -> Any:
        """Return the mixed prediction."""
        step, name = divmod(self.asked, self.names)
        self.asked += 1
        weights = self.steering.of_call(name)[step]
        past = self.past[name]
        if step >= self.steering.first:
            factor = self.steering.told[step].item()
            told = timestep if factor == 1 else timestep * factor
            past.insert(0, self.model(sample, timestep=told, **options)[0])
            self.calls += 1
        return (mixture(weights, sample, past[:3], self.channels),)
