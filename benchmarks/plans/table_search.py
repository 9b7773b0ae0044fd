"""Random and genetic search over keep tables, as in DiP-GO's Table 6; blocks repeat their last value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.cases import Case
from dipgo_fx.budget import kept_of, threshold
from dipgo_fx.cost import LoopCost
from dipgo_fx.passes import GateTable
from dipgo_fx.search.candidate import Candidate

from .method import Effort, Found, PlanMethod, found_by

MAX_TABLES = 400  # where runs are cheap, building graphs is what takes the time of a search
POPULATION, PARENTS, MUTATION = 16, 4, 0.05


@dataclass(frozen=True)
class Tables:
    """Draws keep tables `(T, N)` at random that keep at most the share `kept` of a loop's MACs."""

    cost: LoopCost
    kept: float
    generator: torch.Generator

    def random(self) -> torch.Tensor:
        """Return a table of the gates of highest random scores."""
        return self._within_budget(self._uniform(self.cost.num_steps, self.cost.num_blocks))

    def child(self, fittest: Sequence[Candidate]) -> torch.Tensor:
        """Cross two parents, each the best of a few at random, and flip some gates."""
        mother, father = self._parent(fittest), self._parent(fittest)
        child = torch.where(self._uniform(*mother.shape) < 0.5, mother, father)
        child = child ^ (self._uniform(*child.shape) < MUTATION)
        # Open gates rank before closed ones, in random order: those that do not fit are dropped.
        return self._within_budget(child.double() + self._uniform(*child.shape))

    def _parent(self, fittest: Sequence[Candidate]) -> torch.Tensor:
        drawn = torch.randint(len(fittest), (PARENTS,), generator=self.generator)
        return fittest[int(drawn.min())].table.keep

    def _uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def _within_budget(self, scores: torch.Tensor) -> torch.Tensor:
        return threshold(scores, self.kept, self.cost, history=1)


def random_search(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the best of many random tables."""
    return _search(case, ratio, effort, lambda tables, evaluated: tables.random())


def genetic_search(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the best table of a genetic search: the fittest mate, children mutate and are cut to budget."""

    def drawn(tables: Tables, evaluated: Sequence[Candidate]) -> torch.Tensor:
        if len(evaluated) < POPULATION:
            return tables.random()
        fittest = sorted(evaluated, key=lambda candidate: candidate.loss)[:POPULATION]
        return tables.child(fittest)

    return _search(case, ratio, effort, drawn)


def _search(
    case: Case,
    ratio: float,
    effort: Effort,
    drawn: Callable[[Tables, Sequence[Candidate]], torch.Tensor],
) -> Found:
    """Evaluate one table after the other for as long as the budget lasts; return the best.

    Args:
        case: what is searched.
        ratio: share of MACs to remove.
        effort: what the search may spend.
        drawn: draws the next table, given those that were evaluated.
    """
    evaluator = case.evaluator()
    cost, budget = evaluator.cost, evaluator.budget
    tables = Tables(cost, kept_of(ratio, cost), case.generator())
    evaluated: list[Candidate] = []
    while len(evaluated) < MAX_TABLES:
        candidate = Candidate(GateTable.of(drawn(tables, evaluated)), history=1)
        if budget.spent + cost.kept(candidate.table) > effort.full_runs * effort.scale:
            break
        evaluated.append(evaluator.evaluate(candidate))
    return found_by(evaluator, evaluated)


RANDOM = PlanMethod("random search", random_search)
GENETIC = PlanMethod("genetic search", genetic_search)
