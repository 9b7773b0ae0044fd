"""Plans made of a plan at hand: for another ratio or number of steps, a late start, nothing removed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .budget import kept_of, most_macs, threshold, warn_of_miss
from .cost import LoopCost
from .errors import PlanError
from .frontier import Point, at_timesteps, best_within
from .loop import LoopFacts
from .passes import GateTable
from .passes.gate_table import backup_of
from .placement import Placement
from .plan import Plan

logger = logging.getLogger(__name__)


def unpruned(plan: Plan, facts: LoopFacts, cost: LoopCost) -> Plan:
    """Return the plan of a loop that removes nothing, in the place of one that does."""
    return Plan(facts, GateTable.of(cost.all_kept), 0.0, cost=cost, origin=_derived(plan, "unpruned"))


def at_ratio(plan: Plan, ratio: float, cost: LoopCost) -> Plan:
    """Return the plan at another ratio: the dearest of its frontier that fits, no new search; all kept at 0.

    At its own ratio a plan is itself, as it is at that of its search and wherever its frontier has nothing
    dearer that fits, with a warning if it removes far more than was asked. One without a frontier (the
    paper's recipe, stages) is its scores thresholded anew, with backups of the same kind.

    Raises `PlanError` for another ratio of a plan written by hand, which has neither.
    """
    kept = kept_of(ratio, cost)
    if ratio == 1 - cost.kept(plan.table):  # not what the plan says: that may be of another image size
        return replace(plan, ratio=ratio, cost=cost)
    if ratio == 0:
        return unpruned(plan, plan.facts, cost)
    point = best_within(plan.frontier, cost, kept)
    own = cost.of_table(plan.table).total
    is_asked = round(ratio, 6) == plan.origin.get("asked")
    is_dearest = point is not None and cost.of_table(point.table(cost)).total <= own
    if own <= most_macs(kept, cost) and (is_asked or is_dearest):
        left = cost.kept(plan.table)
        warn_of_miss(left, kept)
        return replace(plan, ratio=1 - left, cost=cost)
    if point is not None:
        return _of_point(plan, point, kept, cost)
    if plan.scores is None:
        raise PlanError(
            "this plan was written by hand and has no scores to threshold at another ratio: write one for "
            "that ratio with Plan.from_keep, or search a plan"
        )
    exact_fill = bool(plan.search_origin.get("exact_fill"))
    keep = threshold(plan.scores, kept, cost, plan.history, exact_fill=exact_fill)
    backup = backup_of(plan.history)
    name = f"scores thresholded at {ratio:g}, {backup}"
    return _made(plan, GateTable.of(keep, backup), name, kept, cost, steering=None)


def at_steps(plan: Plan, facts: LoopFacts, ratio: float, cost: LoopCost) -> Plan:
    """Return the plan for another number of steps: the points of its frontier placed by noise level.

    Logs a warning: what was fitted to other gaps leaves more errors than a search at that number.

    Args:
        plan: with a frontier, unless nothing is to be removed.
        facts: of the loop to run.
        ratio: share of that loop's MACs to remove.
        cost: of that loop.

    Raises `PlanError` for a plan without a frontier, or if more than the step count differs.
    """
    plan.check_fits(
        replace(facts, timesteps=plan.timesteps, num_inference_steps=plan.facts.num_inference_steps)
    )
    if ratio == 0:
        return unpruned(plan, facts, cost)
    if not plan.frontier:
        raise PlanError(
            f"this plan holds no frontier to place at {facts.num_inference_steps} steps: it was written by "
            "hand, or searched by the paper's recipe or on stages; search a plan for that step count"
        )
    kept = kept_of(ratio, cost)
    frontier = at_timesteps(plan.frontier, plan.timesteps, facts.timesteps, cost)
    point = best_within(frontier, cost, kept)
    if point is None:
        raise PlanError(
            f"the frontier of this plan has no point within {kept:.4f} of the MACs at "
            f"{facts.num_inference_steps} steps: ask for less pruning or search a plan for that step count"
        )
    logger.warning(
        "a plan searched at %d steps is placed at %d by noise level: its result is farther from the unpruned "
        "one than that of a search at %d steps, and may be farther than that of fewer steps; "
        "PruneConfig(samples=16, full_runs=8) searches quickly",
        len(plan.timesteps),
        len(facts.timesteps),
        facts.num_inference_steps,
    )
    return _of_point(plan, point, kept, cost, facts=facts, scores=None, frontier=frontier)


def from_start(plan: Plan, start: int) -> Plan:
    """Return the plan of a run that leaves the steps before `start` out, for the steps that are left.

    Plans run more of their early steps than of their late ones, so what is left would remove more than was
    asked: the dearest of the frontier is taken that is within the ratio there.
    """
    if start == 0:
        return plan
    levels = plan.timesteps[start:]
    left = replace(
        plan,
        facts=with_timesteps(plan.facts, levels),
        table=plan.table.from_step(start),
        scores=None,
        frontier=(),
        cost=None,
        steering=None if plan.steering is None else plan.steering.from_step(start),
    )
    if plan.cost is None:
        return left
    cost, asked = plan.cost.with_steps(len(levels)), 1 - plan.ratio
    made = [(left.table, left.steering)]
    for point in plan.frontier:
        steering = None if point.steering is None else point.steering.from_step(start)
        made.append((point.table(plan.cost).from_step(start), steering))
    totals = [cost.of_table(table).total for table, _ in made]
    fitting = [total for total in totals if total <= most_macs(asked, cost)]
    table, steering = made[totals.index(max(fitting) if fitting else min(totals))]
    kept = cost.kept(table)
    if not fitting:
        logger.warning(
            "a run from step %d on keeps at least %.4f of its MACs where %.4f was asked: its first step is "
            "whole",
            start,
            kept,
            asked,
        )
    warn_of_miss(kept, asked)
    return replace(left, table=table, steering=steering, ratio=1 - kept, cost=cost)


def with_timesteps(facts: LoopFacts, timesteps: Sequence[float]) -> LoopFacts:
    """Return the facts of a loop with other timesteps, of which an inference step of Heun's has two."""
    steps = round(facts.num_inference_steps * len(timesteps) / len(facts.timesteps))
    return replace(facts, timesteps=tuple(timesteps), num_inference_steps=max(1, steps))


def _of_point(plan: Plan, point: Point, kept: float, cost: LoopCost, **changes: Any) -> Plan:
    """Return a plan with what a point of a frontier runs and tells, see `_made`."""
    name = str(Placement(point.runs))
    return _made(plan, point.table(cost), name, kept, cost, steering=point.steering, **changes)


def _made(plan: Plan, table: GateTable, name: str, kept: float, cost: LoopCost, **changes: Any) -> Plan:
    """Return a plan with another table, whose budget is `kept`, and with other changes."""
    found = cost.kept(table)
    warn_of_miss(found, kept)
    origin = _derived(plan, name)
    return replace(plan, table=table, ratio=1 - found, cost=cost, origin=origin, **changes)


def _derived(plan: Plan, name: str) -> dict[str, Any]:
    """Return the origin of a plan made from another one: losses and seconds are not its own."""
    return {"name": name, "derived_from": plan.search_origin}
