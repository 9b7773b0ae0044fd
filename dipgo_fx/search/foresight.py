"""Choosing steps without running the model: how far the unpruned path is from what a plan can know of it."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from functools import cache

import numpy as np

from .batch import Batch
from .spacing import Sensitivity

RIDGE = 1e-5
"""Pull of a fit towards 0, relative to the size of the samples that it weighs."""
SMOOTHED = 0.15
"""Over which share of the steps, to either side, what errors do is averaged: few samples measured it."""
REACH = 3.0
"""How many times the mean gap a gap between two runs is at most."""


Steps = tuple[int, ...]
Plans = list[tuple[float, Steps]]
"""Steps that run, each with the foretold loss."""


class Foresight:
    """Foretells which steps a plan of whole steps should run, by the unpruned path of the samples.

    A solver's samples before and after a step say what the model predicted there. So between two runs b and
    c a forecast can only combine the samples at a, a + 1, b and b + 1, where a is the run before b. What a
    least-squares fit on these leaves of the sample at c is the error of that gap. What such an
    error does to the final sample goes by the measured sensitivity of a step, over the error of the gap that
    skipping it alone makes. The errors of all gaps are taken to add up, squared, and dynamic programming
    over the last two runs finds the steps for which that is least (compare Watson et al. 2021).

    It is a guess for finding steps, not for judging them: it knows nothing of how errors meet, and where
    the scheduler draws noise it takes that for error too.
    """

    def __init__(self, batch: Batch, sensitivity: Sensitivity) -> None:
        self.steps = len(batch.path)
        self.gram = _gram(batch)
        self._errors = cache(self._left)
        without = [tuple(range(max(0, step - 2), step)) for step in range(1, self.steps)]
        alone = np.array([self._errors(known)[known[-1] + 2] for known in without])
        measured = np.square(sensitivity).sum(0)[1:]
        self.gain = _smoothed(measured / alone.clip(min=1e-12 * alone.max(initial=1e-18)))

    def placements(self, count: int, most: int, first: int = 0) -> list[Steps]:
        """Return at most `most` sets of `count` steps that begin with `first`, the most promising first."""
        reach = math.ceil(REACH * (self.steps - first) / count)
        found: dict[Steps, Plans] = {(first,): [(self._cost((), first), (first,))]}
        for _ in range(count - 1):
            longer: dict[Steps, Plans] = defaultdict(list)
            for known, plans in found.items():
                last = known[-1]
                for step in range(last + 1, min(last + reach + 1, self.steps)):
                    cost = self._cost(known, step)
                    longer[last, step] += [(loss + cost, (*steps, step)) for loss, steps in plans]
            found = {known: heapq.nsmallest(most, plans) for known, plans in longer.items()}
        ended: Plans = []
        for known, plans in found.items():
            cost = self._cost(known, self.steps)
            ended += [(loss + cost, steps) for loss, steps in plans]
        return [steps for _, steps in heapq.nsmallest(most, ended)]

    def _cost(self, known: Steps, stop: int) -> float:
        """Return what the gap between the last of some runs and `stop` adds to the loss."""
        if stop == (known[-1] + 1 if known else 0):
            return 0.0
        return float(self._errors(known)[stop] * self.gain[max(stop - 2, 0)])

    def _left(self, known: Steps) -> np.ndarray:
        """Return what is left of the sample at each step, squared, after a fit on what some runs know."""
        rows = sorted({row for run in known for row in (run, run + 1)}) or [0]
        own, others = self.gram[np.ix_(rows, rows)], self.gram[rows]
        # Samples before a step that changes nothing are equal, and a first step may find none at all.
        weights = np.linalg.lstsq(own + RIDGE * np.diag(own.diagonal()), others, rcond=None)[0]
        explained = weights * (2 * others - own @ weights)
        left: np.ndarray = self.gram.diagonal() - explained.sum(0)
        return left.clip(min=0.0)


def _gram(batch: Batch) -> np.ndarray:
    """Return the mean products of the samples at any two steps, `(T + 1, T + 1)`: from noise to image."""
    total = np.zeros((len(batch.path) + 1,) * 2)
    for sample, path in zip(batch.sample.cpu(), batch.path.unbind(1), strict=True):
        whole = np.concatenate([sample[None].flatten(1).double(), path.flatten(1).double()])
        total += whole @ whole.T / whole.shape[1]
    return total / len(batch)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return values, all above 0, averaged over their neighbours by order of magnitude."""
    logs, width = np.log(values), round(SMOOTHED * len(values))
    around = [logs[max(0, place - width) : place + width + 1].mean() for place in range(len(logs))]
    return np.exp(around)
