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
from .plan import Plan, PlanError, backup_weights
from .report import Report
from .search import refine, scores_of
from .threshold import check_ratio, threshold, warn_of_miss
from .tracing import Loop, trace


def prune(
    model: nn.Module,
    scheduler: Any,
    ratio: float = 0.8,
    *,
    num_inference_steps: int = 50,
    calibration: Conditioning | None = None,
    guidance_scale: float | None = None,
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
    with frozen(model), torch.enable_grad():
        loop = trace(
            model,
            scheduler,
            num_inference_steps,
            sample=sample,
            conditioning=conditioning if conditioning is not None else _first(calibration),
            guidance_scale=guidance_scale,
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
    sample: torch.Tensor | None = None,
    conditioning: Mapping[str, Any] | None = None,
    fold: bool = False,
) -> Loop:
    """Return the pruned loop of a plan at hand: no search, no calibration.

    Args:
        model: the denoiser the plan was made for, any weights; left as found.
        scheduler: the scheduler the plan was made for; left as found.
        plan: the plan.
        ratio: another share of MACs to remove, from the plan's scores; its own if omitted.
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
        plan.facts.num_inference_steps,
        sample=sample,
        conditioning=conditioning,
        guidance_scale=plan.facts.guidance_scale,
        granularity=plan.facts.granularity,
    )
    cost = LoopCost.of(loop)
    return build(loop, plan if ratio is None else at_ratio(plan, ratio, cost), cost, fold=fold)


def build(loop: Loop, plan: Plan, cost: LoopCost | None = None, *, fold: bool = False) -> Loop:
    """Return the SubNet of a plan on a traced loop: gates inserted, bound, and dead blocks dropped."""
    plan.check_fits(loop.facts)
    cost = cost or LoopCost.of(loop)
    keep, weights = plan.keep.tolist(), plan.weights.tolist() if plan.backup == "linear" else None
    passes: tuple[GraphPass, ...] = (
        InsertGates(plan.backup),
        BindGates(_rows(keep), None if weights is None else _rows(weights)),
        DropDeadBlocks(),
        *((FoldConstants(),) if fold else ()),
    )
    pruned, records = Pipeline(passes)(loop)
    live, after = cost.live(keep, weights), cost.of_plan(keep, weights)
    pruned.meta.update(plan=plan, report=Report(cost.full, after, live, records, dict(plan.origin)))
    assert isinstance(pruned, Loop)
    return pruned


def at_ratio(plan: Plan, ratio: float, cost: LoopCost) -> Plan:
    """Return the plan at another ratio: its scores thresholded anew, backups of the same kind.

    Learned weights belong to one table, so the new plan's are those of plain extrapolation.
    """
    if plan.scores is None:
        raise PlanError("this plan was written by hand and has no scores to threshold at another ratio")
    keep = threshold(plan.scores, ratio, cost, plan.backup)
    weights = backup_weights(keep, plan.backup)
    share = cost.share(keep.tolist(), weights.tolist())
    warn_of_miss(1 - share, ratio)
    return replace(plan, keep=keep, weights=weights, ratio=1 - share)


def _search(arena: Arena, ratio: float, backup: Backup, progress: bool) -> Plan:
    """Search by the recipe of the config and write the plan down."""
    start = time.perf_counter()
    if arena.config.recipe == "pruner":
        scores = train_pruner(arena, backup, progress)
        draft = thresholded(arena, scores, ratio, backup)
    else:
        draft = refine(arena, ratio, progress)
        scores = scores_of(draft)
    warn_of_miss(1 - arena.share(draft), ratio)
    return _plan(arena, draft, scores, time.perf_counter() - start)


def _plan(arena: Arena, draft: Draft, scores: torch.Tensor, seconds: float) -> Plan:
    origin = {
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
    share = arena.share(draft)
    return Plan(arena.loop.facts, draft.keep, draft.weights, 1 - share, scores, origin)


def _first(calibration: Any) -> Mapping[str, Any] | None:
    """Return conditioning that calibration gives the shapes of."""
    if calibration is None or isinstance(calibration, Mapping):
        return calibration
    return calibration[0] if calibration else None


def _rows(table: list[list[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(row) for row in table)
