"""Which steps run, or which blocks of them: the keep tables that a combination chooses among."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product

import torch

from benchmarks.cases import Case
from benchmarks.plans import Effort, OutOfReachError
from benchmarks.plans.learned import searched
from dipgo_fx import Plan, PruneConfig
from dipgo_fx.budget import kept_of
from dipgo_fx.cost import LoopCost
from dipgo_fx.frontier import best_within
from dipgo_fx.passes import HISTORY
from dipgo_fx.placement import Placement, Runs, open_from_output
from dipgo_fx.search.effort import EXPONENTS, LAST_GAPS, UNCONDITIONAL
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.refine import SENSITIVITY_SHARE
from dipgo_fx.search.sensitivity import sensitivities
from dipgo_fx.search.spacing import Sensitivity, boundaries, even_steps, most_steps, place_runs

from .designs import EVEN, FOUND, WHOLE, Design

MAX_BOUNDARIES = 3  # sets of outer blocks: deeper ones leave next to no whole steps


class Places:
    """Keep tables of one case; what several combinations need is made once, and each pays for it."""

    def __init__(self, case: Case, effort: Effort) -> None:
        self.case, self.effort = case, effort
        self._sensitivities: dict[bool, tuple[Sensitivity, float]] = {}

    def keeps(self, design: Design, ratio: float, evaluator: Evaluator) -> list[torch.Tensor]:
        """Return the tables of a combination, charged to the evaluator; none keeps more than `1 - ratio`.

        Raises `OutOfReachError` where there is none.
        """
        kept = kept_of(ratio, evaluator.cost)
        if design.places == FOUND:
            return [self._found(design, ratio, kept, evaluator)]
        placements = dict.fromkeys(self._placements(design, kept, evaluator))
        tables = [
            each.keep(evaluator.cost)
            if design.parts == WHOLE
            else open_from_output(each.keep(evaluator.cost), kept, evaluator.cost, HISTORY)
            for each in placements
        ]
        if not tables:
            raise OutOfReachError(f"no {design.parts} keep {kept:.3f} or less")
        return tables

    def _placements(self, design: Design, kept: float, evaluator: Evaluator) -> Iterator[Placement]:
        cost = evaluator.cost
        depths = boundaries(cost.num_blocks // cost.num_calls)
        wanted = islice(depths, 1) if design.parts == WHOLE else islice(depths, 1, 1 + MAX_BOUNDARIES)
        sensitivity = None if design.places == EVEN else self._sensitivity(evaluator)
        for boundary in wanted:
            # Fewer unconditional steps where nothing else runs there, as in the search.
            for unconditional in UNCONDITIONAL[: 1 if boundary or cost.num_calls == 1 else None]:
                counts = most_steps(cost, boundary, kept, HISTORY, unconditional)
                if counts[-1]:
                    yield from (
                        Placement(runs, boundary) for runs in runs_of(counts, cost.num_steps, sensitivity)
                    )

    def _sensitivity(self, evaluator: Evaluator) -> Sensitivity:
        split = evaluator.loop.facts.guidance.split
        if split not in self._sensitivities:
            before = evaluator.budget.spent
            measured = sensitivities(evaluator, SENSITIVITY_SHARE * self.effort.of_default)
            self._sensitivities[split] = (measured, evaluator.budget.spent - before)
            return measured
        measured, spent = self._sensitivities[split]
        evaluator.budget.charge(spent)
        return measured

    def _found(self, design: Design, ratio: float, kept: float, evaluator: Evaluator) -> torch.Tensor:
        """Return what the search keeps, or its frontier where only whole steps are wanted."""
        plan = self._searched(ratio, design.splits_guidance)
        evaluator.budget.charge(float(plan.origin["full_runs"]))
        if design.parts != WHOLE:
            if skips_whole_calls(plan.keep, evaluator.cost):
                raise OutOfReachError("the search found whole steps")
            return plan.keep
        point = best_within(plan.frontier, evaluator.cost, kept)
        if point is None:
            raise OutOfReachError(f"no whole steps keep {kept:.3f} or less")
        return Placement(point.runs).keep(evaluator.cost)

    def _searched(self, ratio: float, split: bool) -> Plan:
        case, key = self.case, f"factorial at {ratio:g}, {split}"
        if key not in case.trained:
            config = PruneConfig(samples=case.samples, chunk=case.chunk, full_runs=self.effort.of_default)
            case.trained[key] = searched(case, ratio, config, split_guidance=split)
        return case.trained[key]


def runs_of(counts: Sequence[int], steps: int, sensitivity: Sensitivity | None) -> Iterator[Runs]:
    """Yield ways to place so many steps of each call, evenly without a sensitivity."""
    if sensitivity is not None:
        yield from (place_runs(sensitivity, counts, *each) for each in product(EXPONENTS, LAST_GAPS))
        return
    for every in even_steps(steps, counts[-1]):
        yield (*(thinned(every, count) for count in counts[:-1]), every)


def skips_whole_calls(keep: torch.Tensor, cost: LoopCost) -> bool:
    """Tell whether every call of the model runs whole or not at all."""
    calls = keep.view(cost.num_steps, cost.num_calls, -1)
    return bool(calls.all(-1).equal(calls.any(-1)))


def thinned(steps: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` of the steps, evenly, with the first."""
    return tuple(steps[index * len(steps) // count] for index in range(count))
