"""An exact budget of MACs, dead code counted.

What a ratio leaves, whether a table fits, scores thresholded to fit (paper, algorithm 1), the rest spent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from .cost import LoopCost

logger = logging.getLogger(__name__)
TOLERANCE = 0.0125
"""The paper's tolerance on the share of MACs that is pruned."""


def kept_of(ratio: float, cost: LoopCost) -> float:
    """Return the share of MACs that a plan may keep if it removes `ratio` of them.

    Raises `ValueError` unless a plan can remove that share, in [0, 1), of the loop's MACs.
    """
    largest = 1 - cost.smallest_kept
    if ratio > largest:
        outside = cost.fixed.total / cost.full.total
        fixed = f" and {outside:.0%} of the MACs lie outside the denoiser" if outside > TOLERANCE else ""
        raise ValueError(
            f"ratio {ratio} cannot be reached: the first step always runs{fixed}, so at most {largest:.4f} "
            f"of this loop's MACs can be removed; ask for less or use more steps than {cost.num_steps}"
        )
    return 1 - ratio


def fits(cost: LoopCost, keep: torch.Tensor, kept: float, history: int) -> bool:
    """Tell whether a `(T, N)` keep table costs at most the share `kept`, whatever its gates read.

    Args:
        history: how many computed values of its block a closed gate may read, 1 to 3; more values keep
            more blocks alive.
    """
    return cost.at_most(keep, history).total <= most_macs(kept, cost)


def most_macs(kept: float, cost: LoopCost) -> int:
    """Return how many MACs the share `kept` of a loop is, at most.

    An integer, like what is held against it: a plan that costs the very share must not fail for a rounding
    error.
    """
    return round(kept * cost.full.total)


def threshold(
    scores: torch.Tensor, kept: float, cost: LoopCost, history: int, *, exact_fill: bool = False
) -> torch.Tensor:
    """Return the keep table of the highest scores that costs at most `kept` of the loop.

    A block whose readers are all gone costs nothing, whatever its score. Bisection finds the threshold
    as in the paper; unlike the paper, the result never exceeds the budget, and what is left of it is
    spent on further gates in the order of their scores.

    Args:
        scores: `(T, N)`; row 0 is always kept.
        kept: share of the loop's MACs, at least `cost.smallest_kept`.
        cost: the loop's costs.
        history: see `fits`.
        exact_fill: close the gates that nobody reads and spend what is left anew, see `reopen_by_score`.
    """
    ranked = scores[1:].flatten().argsort(descending=True, stable=True)

    def opened(count: int) -> torch.Tensor:
        rest = torch.zeros(scores[1:].numel(), dtype=torch.bool)
        rest[ranked[:count]] = True
        return torch.cat([torch.ones(1, scores.shape[1], dtype=torch.bool), rest.view_as(scores[1:])])

    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(cost, opened(middle), kept, history) else (low, middle - 1)
    keep = open_in_order(opened(low), ranked[low:].tolist(), kept, cost, history)
    return reopen_by_score(keep, scores, kept, cost, history) if exact_fill else keep


def open_in_order(
    keep: torch.Tensor, candidates: Sequence[int], kept: float, cost: LoopCost, history: int
) -> torch.Tensor:
    """Return `keep` with candidate gates opened while the budget allows.

    Args:
        candidates: flat indices of gates after step 0, best first.
    """
    keep = keep.clone(memory_format=torch.contiguous_format)
    gates = keep[1:].view(-1)
    budget, spent = most_macs(kept, cost), cost.at_most(keep, history).total
    enough = TOLERANCE / 4 * cost.full.total if kept < 1 else 0  # of a whole budget nothing is left over
    for gate in candidates:
        if budget - spent < enough:
            break
        gates[gate] = True
        total = cost.at_most(keep, history).total
        if total <= budget:
            spent = total
        else:
            gates[gate] = False
    return keep


def reopen_by_score(
    keep: torch.Tensor, scores: torch.Tensor, kept: float, cost: LoopCost, history: int
) -> torch.Tensor:
    """Return `keep` without its dead gates, and with what is left of the budget spent on gates that run.

    `threshold` counts a gate that nobody reads as open, for it costs nothing (most gates of a step whose
    output is skipped). The gate next to the output then brings the whole step back, which is more than what
    is left. So dead gates close, as in algorithm 1, and then the gate of the highest score opens among those
    that fit and whose backup somebody reads, one after the other: a step comes back from its output on,
    with backups below. No gate closes whose block runs under `keep`.

    Args:
        keep: `(T, N)`, within the budget.
        scores: `(T, N)`; of equal ones the gate of the earlier step and block opens first.
        kept: share of the loop's MACs.
        cost: the loop's costs.
        history: see `fits`.

    Less than a quarter of the tolerance is left over, or less than what any such gate costs.
    """
    alive = cost.reads.liveness_at_most(keep, history).running
    alive[0] = True
    order = scores.flatten().argsort(descending=True, stable=True)
    while kept - cost.kept_at_most(alive, history) >= TOLERANCE / 4:
        backed_up = cost.reads.liveness_at_most(alive, history).backed_up.flatten()
        tables = (_opened(alive, gate) for gate in order[backed_up[order]].tolist())
        fitting = next((table for table in tables if fits(cost, table, kept, history)), None)
        if fitting is None:
            break
        alive = fitting
    return alive


def _opened(keep: torch.Tensor, gate: int) -> torch.Tensor:
    """Return `keep` with the gate of a flat index open."""
    opened = keep.clone(memory_format=torch.contiguous_format)
    opened.view(-1)[gate] = True
    return opened


def warn_of_miss(found: float, kept: float) -> None:
    """Log why a plan that keeps the share `found` of the loop's MACs is not closer to `kept`, its budget."""
    if kept - found >= TOLERANCE:
        logger.warning(
            "the plan removes %.4f of the loop's MACs where %.4f was asked: no better plan is at hand that "
            "fits the budget more closely; a search for this ratio or at more steps may find one",
            1 - found,
            1 - kept,
        )
