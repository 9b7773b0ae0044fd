"""What a user calls: `prune` searches a plan and compiles it, `apply` compiles a plan at hand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from .arena import Arena, Draft, frozen
from .calibration import Conditioning, calibrate
from .config import PruneConfig
from .gate_search import thresholded, train_pruner
from .ladder import highest, moved
from .macs import LoopCost
from .passes import (
    Backup,
    BindGates,
    DropDeadBlocks,
    FoldConstants,
    Granularity,
    GraphPass,
    InsertGates,
    Pipeline,
)
from .plan import Plan, PlanError, Rung, backup_weights
from .report import Report
from .search import refine, scores_of
from .threshold import check_ratio, threshold, warn_of_miss
from .tracing import Loop, LoopFacts, trace


def prune(
    model: nn.Module,
    scheduler: Any,
    ratio: float = 0.8,
    *,
    num_inference_steps: int = 50,
    calibration: Conditioning | None = None,
    guidance_scale: float | None = None,
    split_guidance: bool | None = None,
    granularity: Granularity = "block",
    backup: Backup = "linear",
    sample: torch.Tensor | None = None,
    conditioning: Mapping[str, Any] | None = None,
    config: PruneConfig | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> Loop:
    """Return the denoising loop of a frozen model with the share `ratio` of its MACs removed.

    Args:
        model: a diffusers denoiser; left as found.
        scheduler: a diffusers scheduler; left as found.
        ratio: share of the loop's MACs to remove, in [0, 1). The result never costs more than
            `1 - ratio` and misses it by less than 0.0125, or a warning says why.
        num_inference_steps: steps as the scheduler counts them.
        calibration: rows for the arguments of `model.forward` (for example `{"encoder_hidden_states":
            (n, 77, 768)}`), or an iterable of such mappings; made up if omitted.
        guidance_scale: classifier-free guidance; conditioning then has 2 * batch rows, unconditional
            first.
        split_guidance: let the two halves of guidance run at steps of their own, see `trace`; by default
            where guidance is given, something is to be removed and the recipe is `refine`, but not
            for stages.
        granularity: which modules are blocks.
        backup: what a closed gate of the `pruner` recipe reads; `refine` chooses by itself.
        sample: example of the initial noise where `model.config` does not give its shape.
        conditioning: examples of the other arguments, likewise.
        config: how to search; `PruneConfig.paper()` is the paper's recipe.
        generator: source of all randomness; the same seed gives the same plan.
        progress: show a progress bar.

    The result is a `torch.fx.GraphModule`: `pruned(sample, **conditioning)` runs the whole loop, and
    `pruned.plan` and `pruned.report` say what was done. It takes any batch size.

    Raises:
        ValueError: a ratio out of range or out of reach, calibration that does not fit, unknown shapes.
        TypeError: an object that is not a scheduler.
        TraceError: Python that cannot be recorded; names the module.
        FloatingPointError: the loss of the search became infinite or NaN.
    """
    config, generator = config or PruneConfig(), generator or torch.Generator().manual_seed(0)
    if calibration is not None and not isinstance(calibration, Mapping):
        calibration = list(calibration)
    if split_guidance is None:
        searched = ratio > 0 and config.recipe == "refine" and granularity != "stage"
        split_guidance = guidance_scale is not None and searched
    with frozen(model), torch.enable_grad():
        loop = trace(
            model,
            scheduler,
            num_inference_steps,
            sample=sample,
            conditioning=conditioning if conditioning is not None else _first(calibration),
            guidance_scale=guidance_scale,
            split_guidance=split_guidance,
            granularity=granularity,
        )
        cost = LoopCost.of(loop)
        check_ratio(ratio, cost)
        scale = float(getattr(scheduler, "init_noise_sigma", 1.0))
        batch = calibrate(loop, model, calibration, config.samples, scale, generator)
        plan = _search(Arena(loop, cost, batch, config, generator), ratio, backup, progress)
    return build(loop, plan, cost)


def apply(
    model: nn.Module,
    scheduler: Any,
    plan: Plan,
    *,
    ratio: float | None = None,
    num_inference_steps: int | None = None,
    sample: torch.Tensor | None = None,
    conditioning: Mapping[str, Any] | None = None,
    fold: bool = False,
) -> Loop:
    """Return the pruned loop of a plan at hand: no search, no calibration.

    Args:
        model: the denoiser the plan was made for, any weights; left as found.
        scheduler: the scheduler the plan was made for; left as found.
        plan: the plan.
        ratio: another share of MACs to remove, from the plan's ladder; its own if omitted.
        num_inference_steps: another step count, likewise; its own if omitted.
        sample: example of the initial noise, for another image size than `model.config` gives.
        conditioning: examples of the other arguments, likewise.
        fold: compute time embeddings now instead of at every run; see `FoldConstants` for what changes
            in the last bit.

    Raises `PlanError` if the plan belongs to another model, scheduler or step count.
    """
    if type(model).__name__ != plan.facts.model or type(scheduler).__name__ != plan.facts.scheduler:
        raise PlanError(
            f"this plan is for {plan.facts.model} with {plan.facts.scheduler}, got "
            f"{type(model).__name__} with {type(scheduler).__name__}"
        )
    loop = trace(
        model,
        scheduler,
        num_inference_steps or plan.facts.num_inference_steps,
        sample=sample,
        conditioning=conditioning,
        guidance_scale=plan.facts.guidance_scale,
        split_guidance=plan.facts.split_guidance,
        granularity=plan.facts.granularity,
    )
    cost = LoopCost.of(loop)
    if loop.facts.num_inference_steps != plan.facts.num_inference_steps:
        plan = at_steps(plan, loop.facts, plan.ratio if ratio is None else ratio, cost)
    elif ratio is not None:
        plan = at_ratio(plan, ratio, cost)
    return build(loop, plan, cost, fold=fold)


def build(loop: Loop, plan: Plan, cost: LoopCost | None = None, *, fold: bool = False) -> Loop:
    """Return the SubNet of a plan on a traced loop: gates inserted, bound, and dead blocks dropped."""
    plan.check_fits(loop.facts)
    cost = cost or LoopCost.of(loop)
    keep, weights = plan.keep.tolist(), plan.weights.tolist()
    passes: tuple[GraphPass, ...] = (
        InsertGates(plan.order),
        BindGates(_rows(keep), None if plan.order == 1 else _rows(weights)),
        DropDeadBlocks(),
        *((FoldConstants(),) if fold else ()),
    )
    pruned, records = Pipeline(passes)(loop)
    live, after = cost.live(keep, weights), cost.of_plan(keep, weights)
    pruned.meta.update(plan=plan, report=Report(cost.full, after, live, records, dict(plan.origin)))
    assert isinstance(pruned, Loop)
    return pruned


def at_ratio(plan: Plan, ratio: float, cost: LoopCost) -> Plan:
    """Return the plan at another ratio: the highest rung of its ladder that fits, no new search.

    A plan without a ladder (the `pruner` recipe, stages) is its scores thresholded anew, with backups of
    the same kind.
    """
    check_ratio(ratio, cost)
    draft = highest(plan.rungs, cost, 1 - ratio)
    if draft is None and plan.scores is None:
        raise PlanError("this plan was written by hand and has no scores to threshold at another ratio")
    if draft is None:
        assert plan.scores is not None
        keep = threshold(plan.scores, ratio, cost, plan.order)
        draft = Draft(keep, backup_weights(keep, "reuse" if plan.order == 1 else "linear"))
    share = cost.share(draft.keep.tolist(), draft.weights.tolist())
    warn_of_miss(1 - share, ratio)
    return replace(plan, keep=draft.keep, weights=draft.weights, ratio=1 - share)


def at_steps(plan: Plan, facts: LoopFacts, ratio: float, cost: LoopCost) -> Plan:
    """Return the plan for another number of steps: the rungs of its ladder placed by noise level.

    Raises `PlanError` for a plan without a ladder, or if more than the step count differs.
    """
    plan.check_fits(
        replace(facts, timesteps=plan.timesteps, num_inference_steps=plan.facts.num_inference_steps)
    )
    if not plan.rungs:
        raise PlanError(
            f"this plan holds no ladder to place at {facts.num_inference_steps} steps: it was written by "
            "hand, or searched by the pruner recipe or on stages; search a plan for that step count"
        )
    rungs = moved(plan.rungs, plan.timesteps, facts.timesteps, cost)
    draft = highest(rungs, cost, 1 - ratio)
    check_ratio(ratio, cost)
    if draft is None:
        raise PlanError(
            f"the ladder of this plan has no rung within {1 - ratio:.4f} of the MACs at "
            f"{facts.num_inference_steps} steps: ask for less pruning or search a plan for that step count"
        )
    share = cost.share(draft.keep.tolist(), draft.weights.tolist())
    return Plan(facts, draft.keep, draft.weights, 1 - share, None, rungs, {"moved_from": plan.origin})


def _search(arena: Arena, ratio: float, backup: Backup, progress: bool) -> Plan:
    """Search by the recipe of the config and write the plan down."""
    start = time.perf_counter()
    if arena.config.recipe == "pruner":
        rungs: tuple[Rung, ...] = ()
        scores = train_pruner(arena, backup, progress)
        draft = thresholded(arena, scores, ratio, backup)
    else:
        draft, rungs = refine(arena, ratio, progress)
        scores = scores_of(draft)
    warn_of_miss(1 - arena.share(draft), ratio)
    origin = _origin(arena, draft, time.perf_counter() - start)
    return Plan(arena.loop.facts, draft.keep, draft.weights, 1 - arena.share(draft), scores, rungs, origin)


def _origin(arena: Arena, draft: Draft, seconds: float) -> dict[str, Any]:
    return {
        "recipe": arena.config.recipe,
        "name": draft.name,
        "loss": draft.loss,
        "loss_kind": arena.config.loss,
        "samples": len(arena.batch.sample),
        "seed": arena.generator.initial_seed(),
        "full_runs": round(arena.spent, 2),
        "seconds": round(seconds, 1),
        **arena.notes,
        "versions": {name: version(name) for name in ("dipgo-fx", "torch", "diffusers")},
        "curve": arena.curve,
    }


def _first(calibration: Any) -> Mapping[str, Any] | None:
    """Return conditioning that calibration gives the shapes of."""
    if calibration is None or isinstance(calibration, Mapping):
        return calibration
    return calibration[0] if calibration else None


def _rows(table: list[list[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(row) for row in table)
