"""Ways to a plan that all run in dipgo_fx's executor: they differ in the plan and in nothing else.

Baselines of this file: evenly spaced steps, random and genetic search over keep tables as in DiP-GO's
Table 6, schedules of DeepCache and T-GATE. Beside them the paper's recipe and the default of `prune`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import dipgo_fx
from benchmarks.cases import CALIBRATION, Case
from dipgo_fx import Plan, PruneConfig
from dipgo_fx.api import at_ratio, build
from dipgo_fx.arena import Arena, Draft
from dipgo_fx.importers import CROSS_ATTENTION, deepcache, tgate
from dipgo_fx.macs import LoopCost
from dipgo_fx.passes import Backup, Granularity
from dipgo_fx.plan import ORDERS, backup_weights
from dipgo_fx.schedules import filled, keep_table, most_steps, step_sets, whole
from dipgo_fx.threshold import check_ratio, threshold
from dipgo_fx.tracing import Loop

NEAREST = 8  # of an imported method's settings, those that cost most within the budget are judged
MAX_TABLES = 400  # where runs are cheap, building graphs is what takes the time of a search
DEFAULT_RATIO = 0.8  # of `prune`
POPULATION, PARENTS, MUTATION = 16, 4, 0.05


@dataclass(frozen=True)
class Effort:
    """What a search may spend.

    Attributes:
        full_runs: of random and genetic search at each ratio, in runs of the calibration samples, and of
            our own search, which by itself takes less.
        scale: of random and genetic search. DiP-GO's Table 6 gave them 25 GPU-hours and itself 2.3, that
            is 11.
        paper_iterations: gradient steps of the paper's recipe.
    """

    full_runs: float = 30.0
    scale: float = 1.0
    paper_iterations: int = 1000

    @property
    def of_default(self) -> float:
        """What `prune` may spend: no more than it does as it comes."""
        return min(self.full_runs, PruneConfig.full_runs)


@dataclass(frozen=True)
class Found:
    """A plan for a ratio, and what finding it cost in unpruned runs of 48 samples."""

    plan: Plan
    full_runs: float = 0.0


@dataclass(frozen=True)
class PlanMethod:
    """A way to a plan.

    Attributes:
        name: for the table.
        find: returns a plan for a case and a ratio. Raises `ValueError` where there is none.
        suits: tells whether the method is made for the case's kind of model.
    """

    name: str
    find: Callable[[Case, float, Effort], Found]
    suits: Callable[[Case], bool] = lambda case: True


def compiled(case: Case, plan: Plan) -> Loop:
    """Return the SubNet of a plan on a case."""
    return build(case.loop_of(plan), plan)


# -- evenly spaced steps


def uniform(case: Case, ratio: float, backup: Backup) -> Found:
    """Return the best of a few ways to spread whole steps evenly, judged on the calibration samples."""
    arena = case.arena()
    order = ORDERS[backup]
    budget = _checked(ratio, arena)
    count = max(1, most_steps(arena.cost, (), budget, order)[-1])
    tables = [
        keep_table(arena.cost, whole(chosen, arena.cost)) for chosen in step_sets(arena.cost.num_steps, count)
    ]
    drafts = [
        draft_of(torch.tensor(filled(table, budget, arena.cost, order, by_step=True)), backup)
        for table in tables
    ]
    return best_of(arena, drafts)


# -- searches over keep tables


def random_search(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the best of many random tables; blocks repeat their last value, as in the paper."""
    arena = case.arena()
    drafts: list[Draft] = []
    _checked(ratio, arena)
    while (draft := _affordable(arena, _random_table(arena, ratio), effort, len(drafts))) is not None:
        drafts.append(arena.judged(draft))
    return _found(arena, _least(drafts))


def genetic_search(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the best table of a genetic search: the fittest mate, children mutate and are cut to budget."""
    arena = case.arena()
    _checked(ratio, arena)
    judged: list[Draft] = []
    while True:
        if len(judged) < POPULATION:
            table = _random_table(arena, ratio)
        else:
            parents = sorted(judged, key=lambda draft: draft.loss)[:POPULATION]
            table = _child(arena, ratio, parents)
        draft = _affordable(arena, table, effort, len(judged))
        if draft is None:
            return _found(arena, _least(judged))
        judged.append(arena.judged(draft))


def _affordable(arena: Arena, table: torch.Tensor, effort: Effort, tried: int) -> Draft | None:
    """Return the draft of a table, or `None` if judging it would exceed the search's budget."""
    draft = draft_of(table, "reuse")
    within = arena.spent + arena.share(draft) <= effort.full_runs * effort.scale
    return draft if tried < MAX_TABLES and within else None


def _random_table(arena: Arena, ratio: float) -> torch.Tensor:
    steps, blocks = arena.cost.num_steps, arena.cost.reads.num_blocks
    scores = torch.rand(steps, blocks, generator=arena.generator, dtype=torch.float64)
    return threshold(scores, ratio, arena.cost, order=1)


def _child(arena: Arena, ratio: float, parents: Sequence[Draft]) -> torch.Tensor:
    """Cross two parents, each the best of a few at random, flip some gates and cut the table to budget."""

    def uniform_like(table: torch.Tensor) -> torch.Tensor:
        return torch.rand(table.shape, generator=arena.generator, dtype=torch.float64)

    def parent() -> torch.Tensor:
        drawn = torch.randint(len(parents), (PARENTS,), generator=arena.generator)
        return parents[int(drawn.min())].keep

    mother, father = parent(), parent()
    child = torch.where(uniform_like(mother) < 0.5, mother, father)
    child = child ^ (uniform_like(child) < MUTATION)
    # Gates that are open rank before the closed ones, in random order: those that do not fit are dropped.
    return threshold(child.double() + uniform_like(child), ratio, arena.cost, order=1)


# -- other methods' schedules


def deepcache_plan(case: Case, ratio: float) -> Found:
    """Return the best of DeepCache's uniform schedules within the budget."""
    loop = case.loop()
    levels = len(case.model.down_blocks)  # type: ignore[arg-type]
    branches = [3 * level + layer for level in range(levels) for layer in (0, 1)]
    intervals = [*range(2, min(11, case.steps)), case.steps]
    plans = (deepcache(loop, interval, branch) for branch in branches for interval in intervals)
    return _best_plan(case, ratio, "block", plans)


def tgate_plan(case: Case, ratio: float) -> Found:
    """Return the best of T-GATE's schedules within the budget: cross-attention stops at some step."""
    loop = case.loop("branch")
    return _best_plan(case, ratio, "branch", (tgate(loop, step) for step in range(1, loop.num_steps)))


def _best_plan(case: Case, ratio: float, granularity: Granularity, plans: Iterator[Plan]) -> Found:
    arena = case.arena(granularity)
    found = sorted(plans, key=lambda plan: plan.ratio)
    fitting = [plan for plan in found if plan.ratio >= ratio - 1e-9]
    if not fitting:
        raise OutOfReachError(f"keeps {1 - found[-1].ratio:.3f} or more")
    return best_of(arena, [Draft(plan.keep, plan.weights, order=plan.order) for plan in fitting[:NEAREST]])


# -- what is learned


def one_search(case: Case, ratio: float, effort: Effort) -> Found:
    """Return what a single search at `prune`'s default ratio leaves for another one."""
    found = default(case, DEFAULT_RATIO, effort)
    return Found(at_ratio(found.plan, ratio, LoopCost.of(case.loop_of(found.plan))), found.full_runs)


def papers_recipe(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the paper's plan at a ratio: trained once a case, thresholded anew."""
    if "paper" not in case.trained:
        case.trained["paper"] = train_paper(case, effort)
    plan: Plan = case.trained["paper"]
    cost = LoopCost.of(case.loop_of(plan))
    return Found(at_ratio(plan, ratio, cost), full_runs_of(plan))


def train_paper(case: Case, effort: Effort, **changes: Any) -> Plan:
    """Train the pruner network as the paper does: learning rate 10 for transformers, 0.1 for U-Nets.

    The blocks are the paper's: whole stages of a U-Net, whole blocks of a transformer.
    """
    unet = is_unet(case)
    settings = {"iterations": effort.paper_iterations, "learning_rate": 0.1 if unet else 10.0, **changes}
    granularity: Granularity = "stage" if unet else "block"
    return searched(case, 0.5, PruneConfig.paper(**settings), backup="reuse", granularity=granularity)


def searched(case: Case, ratio: float, config: PruneConfig, **options: Any) -> Plan:
    """Return the plan that `prune` finds, with the case's seed and conditioning."""
    loop = dipgo_fx.prune(
        case.model,
        case.scheduler,
        ratio,
        num_inference_steps=case.steps,
        calibration=case.calibration,
        guidance_scale=case.guidance,
        config=config,
        generator=torch.Generator().manual_seed(case.seed),
        progress=False,
        **options,
    )
    return loop.plan


def default(case: Case, ratio: float, effort: Effort) -> Found:
    """Return what `prune` finds as it comes, but for the case's budget and calibration samples."""
    key = f"default at {ratio:g}"
    if key not in case.trained:
        config = PruneConfig(samples=case.samples, full_runs=effort.of_default)
        case.trained[key] = searched(case, ratio, config)
    plan: Plan = case.trained[key]
    return Found(plan, full_runs_of(plan))


# -- shared


class OutOfReachError(ValueError):
    """No setting of a method keeps as little as was asked."""


def is_unet(case: Case) -> bool:
    """Tell whether a case's model is a U-Net."""
    return hasattr(case.model, "down_blocks")


def draft_of(keep: torch.Tensor, backup: Backup) -> Draft:
    """Return the unjudged draft of a keep table."""
    return Draft(keep, backup_weights(keep, backup), order=ORDERS[backup])


def full_runs_of(plan: Plan) -> float:
    """Return what a plan's search cost in unpruned runs of 48 samples."""
    return float(plan.origin["full_runs"] * plan.origin["samples"] / CALIBRATION)


def best_of(arena: Arena, drafts: Sequence[Draft]) -> Found:
    """Return the best of some drafts on the calibration samples."""
    return _found(arena, _least([arena.judged(draft) for draft in drafts]))


def _least(drafts: Sequence[Draft]) -> Draft:
    if not drafts:
        raise ValueError("the budget of the search is less than one evaluation: raise full_runs")
    return min(drafts, key=lambda draft: draft.loss)


def _found(arena: Arena, draft: Draft) -> Found:
    plan = Plan.from_keep(arena.loop, draft.keep, weights=draft.weights)
    return Found(plan, arena.spent * len(arena.batch.sample) / CALIBRATION)


def _checked(ratio: float, arena: Arena) -> float:
    check_ratio(ratio, arena.cost)
    return 1 - ratio


def _has_cross_attention(case: Case) -> bool:
    names = (name.rpartition(".")[2] for name, _ in case.model.named_modules())
    return case.family == "emoji" and CROSS_ATTENTION in names


UNIFORM_REUSE = PlanMethod("uniform, reuse", lambda case, ratio, effort: uniform(case, ratio, "reuse"))
UNIFORM_LINEAR = PlanMethod("uniform, linear", lambda case, ratio, effort: uniform(case, ratio, "linear"))
RANDOM = PlanMethod("random search", random_search)
GENETIC = PlanMethod("genetic search", genetic_search)
DEEPCACHE = PlanMethod(
    "DeepCache as a plan", lambda case, ratio, effort: deepcache_plan(case, ratio), suits=is_unet
)
TGATE = PlanMethod(
    "T-GATE as a plan",
    lambda case, ratio, effort: tgate_plan(case, ratio),
    suits=_has_cross_attention,
)
PAPER = PlanMethod("paper's recipe", papers_recipe)
DEFAULT = PlanMethod("dipgo_fx default", default)
ONE_SEARCH = PlanMethod("dipgo_fx, one search", one_search)

PLAN_METHODS = (DEFAULT, ONE_SEARCH, UNIFORM_REUSE, UNIFORM_LINEAR, DEEPCACHE, TGATE, RANDOM, GENETIC, PAPER)
