"""What is learned: the default of `prune`, and the paper's recipe."""

from __future__ import annotations

from typing import Any

import dipgo_fx
from benchmarks.cases import CALIBRATION, Case
from dipgo_fx import PaperConfig, Plan, PruneConfig
from dipgo_fx.cost import LoopCost
from dipgo_fx.deriving import at_ratio
from dipgo_fx.passes import Granularity

from .method import Effort, Found, PlanMethod, is_unet

DEFAULT_RATIO = 0.8  # of `prune`


def default_plan(case: Case, ratio: float, effort: Effort) -> Plan:
    """Return what `prune` finds as it comes, but for the case's budget and calibration samples."""
    key = f"default at {ratio:g}"
    if key not in case.trained:
        config = PruneConfig(samples=case.samples, chunk=case.chunk, full_runs=effort.of_default)
        case.trained[key] = searched(case, ratio, config)
    return case.trained[key]


def default(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the default search for a ratio."""
    return found_in(default_plan(case, ratio, effort))


def one_search(case: Case, ratio: float, effort: Effort) -> Found:
    """Return what a single search at `prune`'s default ratio leaves for another one."""
    return at_other_ratio(case, default(case, DEFAULT_RATIO, effort), ratio)


def papers_recipe(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the paper's plan at a ratio: trained once a case, thresholded anew."""
    if "paper" not in case.trained:
        case.trained["paper"] = train_paper(case, effort)
    return at_other_ratio(case, found_in(case.trained["paper"]), ratio)


def train_paper(case: Case, effort: Effort, **changes: Any) -> Plan:
    """Train the pruner network as the paper does: learning rate 10 for transformers, 0.1 for U-Nets.

    The blocks are the paper's: whole stages of a U-Net, whole blocks of a transformer.
    """
    unet = is_unet(case)
    settings = {"iterations": effort.paper_iterations, "learning_rate": 0.1 if unet else 10.0, **changes}
    granularity: Granularity = "stage" if unet else "block"
    return searched(case, 0.5, PaperConfig(**settings), granularity)


def searched(
    case: Case,
    ratio: float,
    config: PruneConfig | PaperConfig,
    granularity: Granularity = "block",
    split_guidance: bool | None = None,
) -> Plan:
    """Return the plan that `prune` finds, with the case's seed and conditioning."""
    pruned = dipgo_fx.prune(
        case.model,
        case.scheduler,
        ratio,
        num_inference_steps=case.steps,
        calibration=case.calibration,
        guidance_scale=case.guidance,
        split_guidance=split_guidance,
        granularity=granularity,
        config=config,
        generator=case.generator(),
        progress=False,
    )
    return pruned.plan


def found_in(plan: Plan) -> Found:
    """Return a searched plan with what its origin says of the search."""
    samples = int(plan.origin["samples"])
    return Found(plan, float(plan.origin["full_runs"] * samples / CALIBRATION), samples)


def at_other_ratio(case: Case, found: Found, ratio: float) -> Found:
    """Return what a search left for another ratio."""
    cost = LoopCost.of(case.loop_of(found.plan))
    return Found(at_ratio(found.plan, ratio, cost), found.full_runs, found.samples)


PAPER = PlanMethod("paper's recipe", papers_recipe)
DEFAULT = PlanMethod("dipgo_fx default", default)
ONE_SEARCH = PlanMethod("dipgo_fx, one search", one_search)
