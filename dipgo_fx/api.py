"""What a user calls: `apply`, and in the next commit `prune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .passes import BindGates, DropDeadBlocks, InsertGates, Pipeline
from .plan import Plan
from .tracing import Loop, trace


def build(loop: Loop, plan: Plan) -> Loop:
    """Return the SubNet of `plan`: gates inserted, bound, and dead blocks dropped."""
    plan.check_fits(loop.facts)
    keep = tuple(tuple(row) for row in plan.keep.tolist())
    weights = None
    if plan.backup == "linear":
        weights = tuple(tuple(row) for row in plan.weights.tolist())
    passes = (InsertGates(plan.backup), BindGates(keep, weights), DropDeadBlocks())
    pruned, _ = Pipeline(passes)(loop)
    return pruned
