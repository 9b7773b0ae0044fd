"""How much each step matters: the error of the final samples if only that step is skipped."""

from __future__ import annotations

import numpy as np
import torch

from .arena import Arena
from .ladder import whole_step_draft

POSITIONS = 20
"""Most steps that are measured; those between are interpolated."""
SAMPLES = 8


def sensitivities(arena: Arena, most: float) -> list[float]:
    """Return the root of the loss without each of the T steps, above 0; step 0, which always runs, as step 1.

    A skipped step gets the weights that serve it best. Measured on so few samples that it costs no more
    than `most` full runs, but one at least.
    """
    steps = arena.cost.num_steps
    if steps < 2:
        return [1.0] * steps
    measured = sorted({round(1 + share * (steps - 2)) for share in np.linspace(0, 1, POSITIONS)})
    samples = len(arena.batch.sample)
    affordable = max(1, min(SAMPLES, int(most * samples / len(measured))))
    few = arena.batch.part(torch.arange(min(affordable, samples)))
    without = [tuple(step for step in range(steps) if step != gone) for gone in measured]
    losses = [arena.steered(whole_step_draft(arena.cost, kept), few).loss for kept in without]
    # Between them errors differ by orders of magnitude; none is so small that its step can be forgotten.
    logs = np.log(np.maximum(losses, 1e-12 * max(losses) + 1e-30)) / 2
    return [float(value) for value in np.exp(np.interp(range(steps), measured, logs))]
