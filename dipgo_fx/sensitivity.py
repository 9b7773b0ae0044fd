"""How much each step matters: the error of the final samples if only that step is skipped."""

from __future__ import annotations

import numpy as np
import torch

from .arena import Arena
from .ladder import rung_draft
from .schedules import Sensitivity

POSITIONS = 28
"""Most pairs of a step and a half that are measured; those between are interpolated."""
SAMPLES = 8


def sensitivities(arena: Arena, most: float) -> Sensitivity:
    """Return for each half the root of the loss without each of the T steps, above 0.

    Step 0, which always runs, counts as step 1. A skipped step gets the weights that serve it best.
    Measured on so few samples that it costs no more than `most` full runs, but one at least.
    """
    steps, halves = arena.cost.num_steps, arena.cost.halves
    if steps < 2:
        return [[1.0] * steps] * halves
    places = np.linspace(0, 1, POSITIONS // halves)
    measured = sorted({round(1 + place * (steps - 2)) for place in places})
    samples = len(arena.batch.sample)
    affordable = max(1, min(SAMPLES, int(most * samples / (halves * len(measured)))))
    few = arena.batch.part(torch.arange(min(affordable, samples)))
    every = tuple(range(steps))

    def loss(half: int, gone: int) -> float:
        kept = every[:gone] + every[gone + 1 :]
        runs = tuple(kept if index == half else every for index in range(halves))
        return arena.steered(rung_draft(arena.cost, runs), few).loss

    losses = [[loss(half, gone) for gone in measured] for half in range(halves)]
    # Between them errors differ by orders of magnitude; none is so small that its step can be forgotten.
    floor = 1e-12 * max(max(own) for own in losses) + 1e-30
    logs = [np.log(np.maximum(own, floor)) / 2 for own in losses]
    return [[float(value) for value in np.exp(np.interp(every, measured, own))] for own in logs]
