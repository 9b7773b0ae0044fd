"""Plans that follow a rule: evenly spaced steps, schedules of DeepCache and T-GATE."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cases import Case
from dipgo_fx import Plan
from dipgo_fx.budget import kept_of
from dipgo_fx.importers import CROSS_ATTENTION, deepcache, tgate
from dipgo_fx.passes import Backup, GateTable, Granularity
from dipgo_fx.passes.gate_table import HISTORY_OF
from dipgo_fx.placement import open_from_output, whole_steps
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.spacing import even_steps, most_steps

from .method import Found, OutOfReachError, PlanMethod, best_of, is_unet

NEAREST = 8  # of an imported method's settings, those that cost most within the budget are evaluated


def uniform(case: Case, ratio: float, backup: Backup) -> Found:
    """Return the best of a few ways to spread whole steps evenly, evaluated on the calibration samples."""
    evaluator, history = case.evaluator(), HISTORY_OF[backup]
    cost = evaluator.cost
    kept = kept_of(ratio, cost)
    count = max(1, most_steps(cost, (), kept, history)[-1])
    tables = [
        open_from_output(whole_steps(steps, cost).keep(cost), kept, cost, history, by_step=True)
        for steps in even_steps(cost.num_steps, count)
    ]
    return best_of(evaluator, [Candidate(GateTable.of(keep, backup), history) for keep in tables])


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
    found = sorted(plans, key=lambda plan: plan.ratio)
    fitting = [plan for plan in found if plan.ratio >= ratio - 1e-9]
    if not fitting:
        raise OutOfReachError(f"keeps {1 - found[-1].ratio:.3f} or more")
    candidates = [Candidate(plan.table, plan.history) for plan in fitting[:NEAREST]]
    return best_of(case.evaluator(granularity), candidates)


def _has_cross_attention(case: Case) -> bool:
    names = (name.rpartition(".")[2] for name, _ in case.model.named_modules())
    return case.family == "emoji" and CROSS_ATTENTION in names


UNIFORM_REUSE = PlanMethod("uniform, reuse", lambda case, ratio, effort: uniform(case, ratio, "reuse"))
UNIFORM_LINEAR = PlanMethod("uniform, linear", lambda case, ratio, effort: uniform(case, ratio, "linear"))
DEEPCACHE = PlanMethod(
    "DeepCache as a plan", lambda case, ratio, effort: deepcache_plan(case, ratio), suits=is_unet
)
TGATE = PlanMethod(
    "T-GATE as a plan", lambda case, ratio, effort: tgate_plan(case, ratio), suits=_has_cross_attention
)
