"""A model of two blocks and a scheduler of one line, small enough to read their whole graph."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

import zoo
from dipgo_fx.loop import Loop
from dipgo_fx.tracing import trace

WIDTH = 3


class Stack(nn.Module):
    """Adds to a sample what each of its blocks makes of it."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, WIDTH)`."""
        for block in self.layers:
            sample = sample + block(sample)
        return sample


class Step:
    """Calls `rule(prediction, sample)` for the next sample; a scheduler as the loop wants it."""

    config = SimpleNamespace()
    timesteps: torch.Tensor

    def __init__(self, rule: Callable[[Any, Any], Any] = lambda prediction, sample: sample - prediction):
        self.rule = rule

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Count down to 0."""
        self.timesteps = torch.arange(num_inference_steps).flip(0)

    def step(self, prediction: Any, timestep: Any, sample: Any, return_dict: bool = True) -> tuple[Any]:
        """Return the next sample."""
        return (self.rule(prediction, sample),)


def model(*blocks: nn.Module) -> Stack:
    """Return a stack of blocks, two linear ones by default, with fixed random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Stack(*(blocks or (nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)))).eval()


def sample(batch: int = 2) -> torch.Tensor:
    """Return a sample for the model."""
    return torch.randn(batch, WIDTH, generator=zoo.generator(1))


def loop(steps: int = 2, scheduler: Any = None, *blocks: nn.Module) -> Loop:
    """Return the traced loop of a stack; its head is no block."""
    return traced(model(*blocks), steps, scheduler)


def traced(model: nn.Module, steps: int = 2, scheduler: Any = None, **conditioning: Any) -> Loop:
    """Return the traced loop of any model of `(rows, WIDTH)`; its head is no block."""
    return trace(
        model,
        scheduler or Step(),
        steps,
        sample=sample(),
        conditioning=conditioning,
        granularity="stage",
    )
