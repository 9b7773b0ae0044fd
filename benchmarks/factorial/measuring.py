"""Find the plan of each combination and measure it on held-out samples."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from benchmarks.cases import Case
from benchmarks.plans import Effort, Found, PlanMethod
from benchmarks.plans.method import found_by
from benchmarks.quality.measuring import Measurement, Stores, row_about
from benchmarks.quality.offers import Options, offers_of_plans
from benchmarks.quality.rows import Row

from .designs import Design, designs
from .forecasting import Forecasts
from .placing import Places

FINALISTS = 4  # tables that are evaluated on all calibration samples


class Combinations:
    """Plans of combinations on one case."""

    def __init__(self, case: Case, effort: Effort) -> None:
        self.case = case
        self.places, self.forecasts = Places(case, effort), Forecasts()

    def find(self, design: Design, ratio: float) -> Found:
        """Return the best plan of a combination. Raises `OutOfReachError` where there is none."""
        evaluator = self.case.evaluator(split_guidance=design.splits_guidance)
        keeps = self.places.keeps(design, ratio, evaluator)
        batch, forecast = evaluator.batch, self.forecasts.evaluated
        few = batch.first(len(batch) // 3)
        if len(keeps) > FINALISTS:
            short = [forecast(design.forecast, evaluator, keep, few) for keep in keeps]
            short.sort(key=lambda candidate: candidate.loss)
            keeps = [candidate.table.keep for candidate in short[:FINALISTS]]
        return found_by(evaluator, [forecast(design.forecast, evaluator, keep, batch) for keep in keeps])


def measure(case: Case, stores: Stores, ratios: Sequence[float], options: Options) -> Iterator[Row]:
    """Measure what the stores do not have of a case, add each row to them and yield it."""
    known = stores.measured(options.samples)
    todo = [
        (design, ratio)
        for ratio in ratios
        for design in designs(case.guidance is not None)
        if row_about(case, design.name, ratio).key not in known
    ]
    if not todo:
        return
    measurement, combinations = Measurement(case, options), Combinations(case, options.effort)
    for design, ratio in todo:
        start = time.perf_counter()
        for offer in offers_of_plans(case, method_of(combinations, design), options, [ratio]):
            row, errors = measurement.row(design.name, offer, start)
            stores.add(row, errors)
            yield row


def method_of(combinations: Combinations, design: Design) -> PlanMethod:
    """Return a combination as a way to a plan."""
    return PlanMethod(design.name, lambda case, ratio, effort: combinations.find(design, ratio))
