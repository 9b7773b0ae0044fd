"""Search a plan by each variant and measure it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from benchmarks.cases import CALIBRATION, Case
from benchmarks.plans import Effort, Found, compiled
from benchmarks.plans.learned import at_other_ratio, found_in, searched, train_paper
from benchmarks.plans.table_search import genetic_search, random_search
from benchmarks.results_store import ResultStore
from dipgo_fx import PaperConfig, Plan, PruneConfig

from .variants import DEFAULT, GENETIC, PAPER, RANDOM, Row, Variant

logger = logging.getLogger("benchmarks.ablations")
FEW_STEPS = 8  # of LCM, which is made for few
TABLE_SEARCHES = {RANDOM: random_search, GENETIC: genetic_search}


class Lab:
    """Runs searches on one model; equal searches of different studies run once.

    Args:
        effort: what a search may spend.
        samples: held-out samples.
        calibration: samples of a search.
    """

    def __init__(
        self,
        model: str,
        steps: int,
        seed: int,
        effort: Effort,
        samples: int = 64,
        calibration: int = CALIBRATION,
    ) -> None:
        self.model, self.steps, self.seed = model, steps, seed
        self.effort, self.samples, self.calibration = effort, samples, calibration
        self._cases: dict[str, Case] = {}
        self._known: dict[str, tuple[Found, float]] = {}

    def case(self, scheduler: str = "DDIM") -> Case:
        """Return the model under a sampler."""
        if scheduler not in self._cases:
            steps = min(self.steps, FEW_STEPS) if scheduler == "LCM" else self.steps
            self._cases[scheduler] = Case(self.model, steps, scheduler, self.seed, self.calibration)
        return self._cases[scheduler]

    def about(self, variant: Variant, ratio: float) -> Row:
        """Return the row of a variant that is still to be measured."""
        return Row(
            self.model,
            variant.scheduler,
            self.case(variant.scheduler).steps,
            variant.study,
            variant.name,
            variant.recipe,
            ratio,
            paper_clip=variant.paper_clip,
            seed=self.seed,
        )

    def row(self, variant: Variant, ratio: float) -> Row:
        """Search, run the plan on held-out noise and measure it; a ratio out of reach is an error's row."""
        about = self.about(variant, ratio)
        try:
            found, seconds = self.found(variant, ratio)
        except (ValueError, FloatingPointError) as error:
            return replace(about, error=f"{type(error).__name__}: {error}")
        return replace(
            about,
            **self._measured(self.case(variant.scheduler), found.plan),
            search_full_runs=round(found.full_runs, 1),
            search_seconds=round(seconds, 1),
        )

    def found(self, variant: Variant, ratio: float) -> tuple[Found, float]:
        """Return the plan of a variant, and seconds of its search."""
        case, changes = self.case(variant.scheduler), variant.changes
        if variant.recipe == PAPER:  # one training for all ratios
            name = f"{variant.scheduler}, {PaperConfig(**changes)}"
            found, seconds = self._once(name, lambda: found_in(train_paper(case, self.effort, **changes)))
            return at_other_ratio(case, found, ratio), seconds
        name = f"{variant.scheduler} at {ratio}"
        if variant.recipe == DEFAULT:
            config = PruneConfig(samples=self.calibration, full_runs=self.effort.of_default, **changes)
            return self._once(f"{name}, {config}", lambda: found_in(searched(case, ratio, config)))
        search = TABLE_SEARCHES[variant.recipe]
        return self._once(f"{name}, {variant.recipe}", lambda: search(case, ratio, self.effort))

    def _once(self, name: str, make: Callable[[], Found]) -> tuple[Found, float]:
        if name not in self._known:
            start = time.perf_counter()
            made = make()
            self._known[name] = (made, time.perf_counter() - start)
        return self._known[name]

    def _measured(self, case: Case, plan: Plan) -> dict[str, Any]:
        loop = compiled(case, plan)
        quality = case.quality_of(loop, self.samples)
        return {
            "macs_kept": round(loop.report.after.total / loop.report.before.total, 4),
            "psnr_db": round(quality.psnr_db, 2),
            "ssim": round(quality.ssim, 4),
            "class_accuracy": quality.class_accuracy,
        }


def measure(lab: Lab, store: ResultStore[Row], chosen: Sequence[Variant], ratios: Sequence[float]) -> None:
    """Add the rows that a store does not have."""
    known = store.keys()
    bar = tqdm([(variant, ratio) for variant in chosen for ratio in ratios], unit="row")
    for variant, ratio in bar:
        bar.set_postfix_str(f"{variant.study}: {variant.name}, {variant.recipe}, {ratio}")
        if lab.about(variant, ratio).key in known:
            continue
        try:
            store.add(lab.row(variant, ratio))
        except Exception:  # a bug: no row, so that the next run tries again, and the others go on
            logger.exception("%s: %s, %s at %s", variant.study, variant.name, variant.recipe, ratio)
