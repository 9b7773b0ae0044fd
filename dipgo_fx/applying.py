"""`apply`: a plan at hand becomes a pruned loop, at its own ratio and step count or at others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .arguments import check, check_loop_arguments, check_ratio, checked_model
from .cost import LoopCost
from .deriving import at_ratio, at_steps, unpruned
from .errors import PlanError
from .loop import Loop
from .passes import (
    BindGates,
    DropDeadBlocks,
    FoldConstants,
    GraphPass,
    InsertGates,
    JoinCalls,
    Pipeline,
    SteerCalls,
)
from .plan import Plan
from .report import Report
from .states import states_of
from .tracing import trace


class PrunedLoop(Loop):
    """A pruned denoising loop, which knows its plan.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> model, scheduler = load("dit")
        >>> loop = dipgo_fx.trace(model, scheduler, num_inference_steps=4)
        >>> keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
        >>> keep[1::2] = False  # every other step is skipped
        >>> pruned = dipgo_fx.apply(model, scheduler, dipgo_fx.Plan.from_keep(loop, keep))
        >>> isinstance(pruned, torch.fx.GraphModule), pruned.plan.ratio
        (True, 0.5)
        >>> print(pruned.report)
        MACs with attention     2.78e+07 -> 1.39e+07  (50.00% removed)
        MACs without attention  2.676e+07 -> 1.338e+07  (50.00% removed)
        block calls             36 -> 18
    """

    @property
    def plan(self) -> Plan:
        """The plan that was compiled."""
        plan: Plan = self.meta["plan"]
        return plan

    @property
    def report(self) -> Report:
        """What the compilation did: MACs before and after, states of the blocks, origin of the plan."""
        report: Report = self.meta["report"]
        return report


def apply(
    model: nn.Module,
    scheduler: Any,
    plan: Plan,
    *,
    ratio: float | None = None,
    num_inference_steps: int | None = None,
    sample: torch.Tensor | None = None,
    conditioning: Mapping[str, Any] | None = None,
    shared: Collection[str] | None = None,
    fold: bool = False,
    join: bool = True,
) -> PrunedLoop:
    """Return the pruned loop of a plan at hand: no search, no calibration.

    Args:
        model: the denoiser the plan was made for, any weights; left as found.
        scheduler: the scheduler the plan was made for; left as found.
        plan: the plan.
        ratio: another share of MACs to remove, from the plan's frontier; its own if omitted. 0 is the
            unpruned loop, bit for bit.
        num_inference_steps: another step count, likewise; its own if omitted.
        sample: example of the initial noise, for another image size than `model.config` gives.
        conditioning: examples of the other arguments, likewise.
        shared: names of the tensors in `conditioning` that all samples share; found by trying if omitted.
        fold: compute time embeddings now instead of at every run; see `FoldConstants` for what changes
            in the last bit.
        join: where a plan has the two conditions of guidance apart, call the model once for both at the
            steps at which both run the same blocks, as a stock pipeline does: faster where small batches
            leave a device idle, for the memory of twice the rows. `False` saves that memory; see `JoinCalls`.

    Raises:
        PlanError: the plan belongs to another model or scheduler, or holds nothing for what is asked.
        TypeError: an argument of another kind, by name.
        ValueError: a ratio or a step count out of range.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> model, scheduler = load("dit")
        >>> loop = dipgo_fx.trace(model, scheduler, num_inference_steps=4)
        >>> keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
        >>> keep[2] = False
        >>> plan = dipgo_fx.Plan.from_keep(loop, keep, backup="linear")
        >>> pruned = dipgo_fx.apply(model, scheduler, plan)
        >>> pruned.plan.ratio  # one of four steps
        0.25
        >>> off = dipgo_fx.apply(model, scheduler, plan, ratio=0)
        >>> noise, labels = torch.randn(1, 1, 8, 8), torch.tensor([3])
        >>> torch.equal(off(noise, class_labels=labels), loop(noise, class_labels=labels))
        True
    """
    check("plan", plan, Plan, "a dipgo_fx.Plan, as Plan.load() returns it")
    model, steps = checked_model(model), num_inference_steps
    steps = plan.facts.num_inference_steps if steps is None else steps
    check_loop_arguments(model, scheduler, steps, sample, conditioning, shared=shared)
    check("fold", fold, bool, "True or False")
    check("join", join, bool, "True or False")
    if ratio is not None:
        check_ratio(ratio)
    _check_same_classes(model, scheduler, plan)
    is_off = ratio == 0
    loop = trace(
        model,
        scheduler,
        steps,
        sample=sample,
        conditioning=conditioning,
        guidance_scale=plan.facts.guidance.scale,
        split_guidance=plan.facts.guidance.split and not is_off,  # in two calls per step rounds otherwise
        granularity=plan.facts.chosen,
        shared=shared,
    )
    cost = LoopCost.of(loop)
    if is_off:
        plan = unpruned(plan, loop.facts, cost)
    elif steps != plan.facts.num_inference_steps:
        plan = at_steps(plan, loop.facts, plan.ratio if ratio is None else ratio, cost)
    elif ratio is not None:
        plan.check_fits(loop.facts)
        plan = at_ratio(plan, ratio, cost)
    return build(loop, plan, fold=fold, join=join and loop.facts.guidance.split)


def build(loop: Loop, plan: Plan, *, fold: bool = False, join: bool = False) -> PrunedLoop:
    """Return the SubNet of a plan on a traced loop: gates inserted, bound, and dead blocks dropped."""
    plan.check_fits(loop.facts)
    cost = LoopCost.of(loop)
    # A file of format 3 does not say what its loop costs, and at another image size the shares are others.
    plan = replace(plan, cost=cost, ratio=1 - cost.kept(plan.table))
    passes: tuple[GraphPass, ...] = (
        *(() if plan.steering is None else (SteerCalls(plan.steering),)),
        InsertGates(plan.history),
        BindGates(plan.table),
        DropDeadBlocks(),
        *((FoldConstants(),) if fold else ()),
        *((JoinCalls(),) if join else ()),
    )
    pruned, records = Pipeline(passes, kind=PrunedLoop)(loop)
    states = states_of(plan.table, cost.reads.liveness(plan.table))
    report = Report(cost.full, cost.of_table(plan.table), states, records, dict(plan.origin), plan)
    pruned.meta.update(plan=plan, report=report)
    assert isinstance(pruned, PrunedLoop)
    return pruned


def _check_same_classes(model: nn.Module, scheduler: Any, plan: Plan) -> None:
    given = type(model).__name__, type(scheduler).__name__
    wanted = plan.facts.model, plan.facts.scheduler
    if given != wanted:
        raise PlanError(
            f"this plan is for {wanted[0]} with {wanted[1]}, got {given[0]} with {given[1]}: use those, or "
            "search a plan for these"
        )
    chosen = plan.facts.chosen
    if isinstance(chosen, tuple):
        missing = {*chosen} - {path for path, _ in model.named_modules()}
        if missing:
            raise PlanError(
                f"this plan has blocks {sorted(missing)[:3]}, which are no parts of this {given[0]}"
            )
