"""A plan with all that a search adds to one, for the small DiT of the zoo."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch

import zoo
from dipgo_fx.frontier import Point
from dipgo_fx.passes import Backup
from dipgo_fx.plan import Plan
from loops import loop, scattered

KEEP = torch.tensor(
    [
        [True, True, True, True],
        [True, False, False, True],
        [False, False, True, True],
        [False, False, False, True],
        [False, True, False, False],
    ]
)


@cache
def plan(backup: Backup = "linear") -> Plan:
    """Return a plan with scores, a frontier and an origin for the loop of `KEEP`'s shape."""
    scores = torch.rand(KEEP.shape, dtype=torch.float64, generator=zoo.generator())
    frontier = tuple(Point((steps,), scattered((5, 1), 3, len(steps))) for steps in ((0,), (0, 2, 3)))
    origin = {"recipe": "by hand", "seed": 3, "curve": [1.5, 0.25]}
    return replace(Plan.from_keep(loop("dit"), KEEP, backup), scores=scores, frontier=frontier, origin=origin)
