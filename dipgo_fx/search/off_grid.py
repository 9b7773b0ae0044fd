"""Runs of the model between two steps of the loop: what it is told, and which sample it should get.

Where few steps run, the best timesteps for them need not be among the loop's. The forecasts before a run can
bring the sample to any noise level, so all it takes is that the model is told the timestep of that level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from .candidate import Candidate

SHIFTS = (-0.5, -0.25, 0.25, 0.5)
"""By which parts of a step runs are tried earlier (above 0) and later than where they are."""


def shifted(candidate: Candidate, timesteps: Sequence[float], shift: float) -> Candidate | None:
    """Return a steered candidate with all its runs but the first moved by a part of a step.

    `None` if there is none to move: what is told is the timestep times a number, so one of 0 stays.

    Args:
        candidate: of whole steps; told the loop's timesteps.
        timesteps: of the loop.
        shift: part of a step, above 0 for earlier, between -1 and 1.
    """
    assert candidate.steering is not None
    told = torch.ones(len(timesteps), dtype=torch.float64)
    for step in candidate.placement.runs[-1][1:]:
        towards = step - 1 if shift > 0 else step + 1
        if timesteps[step] > 0 and towards < len(timesteps):
            told[step] += abs(shift) * (timesteps[towards] - timesteps[step]) / timesteps[step]
    if bool((told == 1).all()):
        return None
    return replace(candidate, steering=replace(candidate.steering, told=told))


def place_of(step: int, timesteps: Sequence[float], told: float) -> float:
    """Return where on the path, counted in steps, a run at `step` takes itself to be, at most a step off."""
    timestep = timesteps[step]
    towards = step - 1 if told > 1 else step + 1
    if told == 1 or not 0 <= towards < len(timesteps) or timesteps[towards] == timestep:
        return step
    part = timestep * (told - 1) / (timesteps[towards] - timestep)
    return step + (towards - step) * min(part, 1.0)
