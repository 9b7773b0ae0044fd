"""How much each step matters: the error of the final samples if only that step is skipped."""

from __future__ import annotations

import numpy as np

from ..frontier import whole_steps_table
from ..passes import HISTORY
from ..placement import Placement, Runs
from .candidate import Candidate
from .evaluator import Evaluator
from .least_squares import fit_stepwise
from .spacing import Sensitivity

POSITIONS, FEWEST = 28, 8
"""Most and fewest pairs of a step and a call that are measured; those between are interpolated."""
SAMPLES = 4


def sensitivities(evaluator: Evaluator, most: float) -> Sensitivity:
    """Return for each call of the model the root of the loss without it at each of the T steps, above 0.

    Step 0, which always runs, counts as step 1. A skipped step gets the weights that serve it best.
    Measured on so few samples, and if a single one is too dear at so few steps, that it costs no more than
    `most` full runs, unless that is too little for the fewest.
    """
    cost, batch = evaluator.cost, evaluator.batch
    steps, calls = cost.num_steps, cost.num_calls
    if steps < 2:
        return [[1.0] * steps] * calls
    runs = most * len(batch)
    places = np.linspace(0, 1, int(min(POSITIONS, max(FEWEST, runs))) // calls)
    measured = sorted({round(1 + place * (steps - 2)) for place in places})
    affordable = max(1, min(SAMPLES, int(runs / (calls * len(measured)))))
    few = batch.first(min(affordable, len(batch)))
    every = tuple(range(steps))

    def loss(call: int, gone: int) -> float:
        kept = every[:gone] + every[gone + 1 :]
        runs = tuple(kept if index == call else every for index in range(calls))
        return fit_stepwise(evaluator, whole_steps_candidate(evaluator, runs), few).loss

    losses = [[loss(call, gone) for gone in measured] for call in range(calls)]
    # Between them errors differ by orders of magnitude; none is so small that its step can be forgotten.
    floor = 1e-12 * max(max(own) for own in losses) + 1e-30
    logs = [np.log(np.maximum(own, floor)) / 2 for own in losses]
    return [[float(value) for value in np.exp(np.interp(every, measured, own))] for own in logs]


def whole_steps_candidate(evaluator: Evaluator, runs: Runs) -> Candidate:
    """Return the candidate that makes each call of the model at its steps and nothing at the others.

    Runs that begin after step 0 are for loops whose calls can be steered.
    """
    placement, table = Placement(runs), whole_steps_table(evaluator.cost, runs)
    return Candidate(table, HISTORY, placement, str(placement), evaluator.steering(runs))
