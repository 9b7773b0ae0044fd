"""Scores to a keep table: bisection over a threshold with dead code counted (paper, algorithm 1)."""

from __future__ import annotations

import logging

import torch

from .macs import LoopCost
from .passes import ORDER

logger = logging.getLogger(__name__)
# The paper's tolerance on the pruned ratio.
TOLERANCE = 0.0125


def check_ratio(ratio: float, cost: LoopCost) -> None:
    """Raise `ValueError` unless a plan can remove the share `ratio` of the loop's MACs."""
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio is the share of MACs to remove and must lie in [0, 1), got {ratio}")
    largest = 1 - cost.smallest_share
    if ratio > largest:
        raise ValueError(
            f"ratio {ratio} cannot be reached: the first step always runs, so at most {largest:.4f} of "
            f"this loop's MACs can be removed; ask for less or use more steps than {cost.num_steps}"
        )


def threshold(scores: torch.Tensor, ratio: float, cost: LoopCost, order: int) -> torch.Tensor:
    """Return the keep table of the highest scores that costs at most `1 - ratio` of the loop.

    A block whose readers are all gone costs nothing, whatever its score. Bisection finds the threshold
    as in the paper; unlike the paper, the result never exceeds the budget, and what is left of it is
    spent on further gates in the order of their scores.

    Args:
        scores: `(T, N)`; row 0 is always kept.
        ratio: share of MACs to remove.
        cost: the loop's costs.
        order: how many computed values of its block a closed gate may read, 1 to 3; more values keep
            more blocks alive.
    """
    check_ratio(ratio, cost)
    budget = 1 - ratio
    ranked = scores[1:].flatten().argsort(descending=True, stable=True).tolist()
    blocks = scores.shape[1]

    def opened(count: int) -> list[list[bool]]:
        keep = [[True] * blocks] + [[False] * blocks for _ in range(len(scores) - 1)]
        for index in ranked[:count]:
            keep[1 + index // blocks][index % blocks] = True
        return keep

    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(cost, opened(middle), budget, order):
            low = middle
        else:
            high = middle - 1
    keep = fill(opened(low), ranked[low:], budget, cost, order)
    return torch.tensor(keep)


def fill(
    keep: list[list[bool]], candidates: list[int], budget: float, cost: LoopCost, order: int
) -> list[list[bool]]:
    """Open candidate gates (flat indices after step 0, best first) while the budget allows."""
    blocks, weights = len(keep[0]), any_weights(cost, order)
    share = cost.share(keep, weights)
    for index in candidates:
        if budget - share < TOLERANCE / 4:
            break
        row, column = 1 + index // blocks, index % blocks
        keep[row][column] = True
        if fits(cost, keep, budget, order):
            share = cost.share(keep, weights)
        else:
            keep[row][column] = False
    return keep


def warn_of_miss(reached: float, asked: float) -> None:
    """Log why a plan that removes the share `reached` is not closer to `asked`."""
    if reached - asked >= TOLERANCE:
        logger.warning(
            "the plan removes %.4f of the loop's MACs where %.4f was asked: opening any further gate "
            "would cost more than what is left; more steps or a finer granularity come closer",
            reached,
            asked,
        )


def fits(cost: LoopCost, keep: list[list[bool]], budget: float, order: int) -> bool:
    """Tell whether a keep table costs at most the share `budget` of the loop."""
    # Compared as integers: a share that equals the budget must not fail for a rounding error.
    return cost.of_plan(keep, any_weights(cost, order)).total <= round(budget * cost.full.total)


def any_weights(cost: LoopCost, order: int) -> list[list[tuple[float, ...]]]:
    """Return weights that keep alive what any forecast of `order` values can read."""
    entry = tuple(float(k < order) for k in range(ORDER))
    return [[entry] * cost.reads.num_blocks] * cost.num_steps
