"""The paper's recipe as the paper runs it, and what its scores are worth otherwise.

The blocks are the paper's, whose gates spare the output head: stages of a U-Net, blocks of a transformer. One
training a learning rate serves all ratios and all methods of this file; calibration samples choose among the
rates, and each method counts all trainings as its own. Budgets are filled (`exact_fill`): thresholded scores
alone fall short of them by up to a whole step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from benchmarks.cases import CALIBRATION, Case
from dipgo_fx import PaperConfig, Plan
from dipgo_fx.budget import kept_of, most_macs, reopen_by_score, threshold
from dipgo_fx.cost import LoopCost
from dipgo_fx.passes import HISTORY, GateTable
from dipgo_fx.passes.blocks import path_of
from dipgo_fx.placement import whole_steps
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.least_squares import fit_stepwise
from dipgo_fx.search.paper import mac_weights
from dipgo_fx.search.spacing import most_steps

from .learned import found_in, searched
from .method import Effort, Found, PlanMethod, found_by

LEARNING_RATES = (0.1, 1.0, 10.0)  # the paper's for U-Nets and for transformers, and one between
BLOCKS = "stage"  # the paper's: stages leave the output head alone

Resolve = Callable[[torch.Tensor, float, LoopCost], torch.Tensor]
"""Makes a `(T, N)` keep table that keeps at most a share of a loop's MACs of scores."""


def sweep(case: Case, effort: Effort) -> list[Plan]:
    """Return the paper's training at each learning rate: plans whose scores serve every ratio."""
    for rate in LEARNING_RATES:
        if _key(rate) not in case.trained:
            config = PaperConfig(iterations=effort.paper_iterations, learning_rate=rate, exact_fill=True)
            case.trained[_key(rate)] = searched(case, 0.5, config, BLOCKS)
    return [case.trained[_key(rate)] for rate in LEARNING_RATES]


def best_rate(case: Case, ratio: float, effort: Effort, resolve: Resolve) -> Found:
    """Return the best of the trainings on the calibration samples, a plan that repeats.

    Args:
        case: what is pruned.
        ratio: share of MACs to remove.
        effort: says how long a training is.
        resolve: makes a plan of scores.
    """
    trained, start = sweep(case, effort), time.perf_counter()
    evaluator = case.evaluator(BLOCKS)
    kept = kept_of(ratio, evaluator.cost)
    evaluated = []
    for plan, rate in zip(trained, LEARNING_RATES, strict=True):
        assert plan.scores is not None
        keep = resolve(plan.scores, kept, evaluator.cost)
        candidate = Candidate(GateTable.of(keep), history=1, name=f"learning rate {rate:g}")
        evaluated.append(evaluator.evaluate(candidate))
    return _with_cost_of(trained, evaluator, evaluated, start)


def exactly(scores: torch.Tensor, kept: float, cost: LoopCost) -> torch.Tensor:
    """Return the thresholded scores, the budget filled up."""
    return threshold(scores, kept, cost, history=1, exact_fill=True)


def learned_steps(scores: torch.Tensor, kept: float, cost: LoopCost) -> torch.Tensor:
    """Return the whole steps of the highest scores, one more in part, and nothing at the others.

    That is what the paper's released gates for Stable Diffusion are. A step's score is that of the block next
    to the output, without which the others are dead.
    """
    of_steps = scores[:, output_block(cost)]
    count = max(1, most_steps(cost, (), kept, history=1)[-1])
    best = 1 + of_steps[1:].argsort(descending=True, stable=True)[: count - 1]
    keep = whole_steps((0, *sorted(best.tolist())), cost).keep(cost)
    return reopen_by_score(keep, of_steps[:, None].expand_as(scores), kept, cost, history=1)


def our_weights(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the mask of the paper's recipe, with forecasts whose weights were fitted on the pruned run.

    A step whose output is skipped closes the output head's gate too, for that is where we forecast. In
    steps that run in part, closed gates repeat or extrapolate, whichever is better on calibration samples.
    """
    mask, start = best_rate(case, ratio, effort, exactly), time.perf_counter()
    evaluator = case.evaluator()
    cost = evaluator.cost
    keep = on_our_blocks(mask.plan, LoopCost.of(case.loop_of(mask.plan)), evaluator)
    most = most_macs(kept_of(ratio, cost), cost)
    candidates = [
        Candidate(table, HISTORY, name=f"{mask.plan.origin['name']}, {inside}")
        for inside, table in forecast_tables(keep, cost.reads.heads).items()
        if cost.of_table(table).total <= most
    ]
    fitted = [fit_stepwise(evaluator, candidate) for candidate in candidates]
    return _with_cost_of([mask.plan], evaluator, fitted, start)


def on_our_blocks(plan: Plan, cost: LoopCost, evaluator: Evaluator) -> torch.Tensor:
    """Return a keep table of the paper's blocks as one of the evaluator's, which are parts of them.

    What is part of none is the output head; it runs where the block next to the output does.

    Args:
        plan: of the paper's blocks.
        cost: of its loop.
        evaluator: of the loop with our blocks.
    """
    owners = []
    for path in map(path_of, evaluator.loop.blocks):
        within = [n for n, block in enumerate(plan.blocks) if f"{path}.".startswith(f"{block}.")]
        owners.append(within[0] if within else output_block(cost))
    return plan.keep[:, owners]


def forecast_tables(keep: torch.Tensor, heads: Sequence[int]) -> dict[str, GateTable]:
    """Return tables whose heads extrapolate: what the other closed gates do, and the table."""
    linear = GateTable.of(keep, "linear")
    weights = GateTable.of(keep).weights.clone()
    weights[:, heads] = linear.weights[:, heads]
    return {"repeated": GateTable(keep, weights), "extrapolated": linear}


def output_block(cost: LoopCost) -> int:
    """Return the block with which most of a step dies: the one next to the output."""
    return int(mac_weights(cost).argmax())


def _with_cost_of(
    before: Sequence[Plan], evaluator: Evaluator, evaluated: Sequence[Candidate], start: float
) -> Found:
    """Return the best candidate; its origin and its price tell of searches `before` the evaluator's, too.

    An entry of its curve stands for as many images as the calibration has: see `quality.offers.spent_on`.
    """
    found, samples = found_by(evaluator, evaluated), len(evaluator.batch)
    best = min(evaluated, key=lambda candidate: candidate.loss)
    runs = found.full_runs + sum(found_in(plan).full_runs for plan in before)
    origin = {
        "name": best.name,
        "loss": best.loss,
        "samples": samples,
        "full_runs": runs * CALIBRATION / samples,
        "seconds": time.perf_counter() - start + sum(plan.origin["seconds"] for plan in before),
        "curve": [
            *(entry for plan in before for entry in _by_images(plan, samples)),
            *map(list, evaluator.curve),
        ],
    }
    return replace(found, plan=replace(found.plan, origin=origin), full_runs=runs)


def _by_images(plan: Plan, samples: int) -> list[list[float]]:
    """Return entries of a plan's curve, one for every `samples` images; a training makes images singly."""
    singly = plan.origin.get("recipe") == PaperConfig.__name__
    curve: list[list[float]] = plan.origin["curve"]
    return curve[:: samples if singly else 1]


def _key(rate: float) -> str:
    return f"paper's blocks, learning rate {rate:g}"


PAPER_EXACT = PlanMethod("paper's recipe, its blocks", partial(best_rate, resolve=exactly))
PAPER_STEPS = PlanMethod("paper's released idea", partial(best_rate, resolve=learned_steps))
PAPER_OUR_WEIGHTS = PlanMethod("paper's mask, our weights", our_weights)
