"""What a way to a plan is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.cases import CALIBRATION, Case
from dipgo_fx import Plan, PruneConfig, PrunedLoop
from dipgo_fx.applying import build
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.evaluator import Evaluator


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
    """A plan for a ratio, and what finding it took.

    Attributes:
        plan: the plan.
        full_runs: what finding it cost, in unpruned runs of `CALIBRATION` samples.
        samples: calibration samples that it was chosen on.
    """

    plan: Plan
    full_runs: float
    samples: int


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


class OutOfReachError(ValueError):
    """No setting of a method keeps as little as was asked."""


def compiled(case: Case, plan: Plan) -> PrunedLoop:
    """Return the SubNet of a plan on a case."""
    return build(case.loop_of(plan), plan)


def is_unet(case: Case) -> bool:
    """Tell whether a case's model is a U-Net."""
    return hasattr(case.model, "down_blocks")


def best_of(evaluator: Evaluator, candidates: Sequence[Candidate]) -> Found:
    """Return the best of some candidates on the calibration samples."""
    return found_by(evaluator, [evaluator.evaluate(candidate) for candidate in candidates])


def found_by(evaluator: Evaluator, evaluated: Sequence[Candidate]) -> Found:
    """Return the plan of the lowest loss. Raises `ValueError` if nothing was evaluated."""
    if not evaluated:
        raise ValueError("the budget of the search is less than one evaluation: raise full_runs")
    best, cost = min(evaluated, key=lambda candidate: candidate.loss), evaluator.cost
    removed = 1 - cost.kept(best.table)
    plan = Plan(evaluator.loop.facts, best.table, removed, cost=cost, steering=best.steering)
    samples = len(evaluator.batch)
    return Found(plan, evaluator.budget.spent * samples / CALIBRATION, samples)
