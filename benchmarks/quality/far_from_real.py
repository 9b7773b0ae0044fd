"""How much further from real images a method is than the unpruned loop, on thousands of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from benchmarks import frechet, metrics
from benchmarks.cases import Case
from benchmarks.results_store import ResultStore

from .measuring import missing, run_in_chunks
from .offers import Offer, Options
from .rows import UNPRUNED, FrechetRow


@dataclass(frozen=True)
class _Drawn:
    """Images as features, and the share of them that a classifier recognises."""

    features: torch.Tensor
    recognised: float | None


class Distances:
    """Measures offers of one case against real images, beside its unpruned loop."""

    def __init__(self, case: Case, options: Options) -> None:
        if case.reference is None:
            raise ValueError(f"{case.name} has no features of real images")
        self.case, self.options, self.reference = case, options, case.reference
        self.inputs = case.inputs(options.samples, held_out=True)
        self.unpruned = self._drawn(options.targets.unpruned(case, self.inputs))

    def row(self, method: str, offer: Offer) -> FrechetRow:
        """Draw the images of an offer and compare them."""
        assert offer.run is not None
        images, _ = run_in_chunks(offer.run, offer.cost, self.inputs, self.options.chunk)
        drawn, base, case = self._drawn(images), self.unpruned, self.case
        difference = frechet.paired_difference(drawn.features, base.features, self.reference)
        own, unpruned = (frechet.distance(each.features, self.reference) for each in (drawn, base))
        numbers = (own, unpruned, difference.value, difference.low, difference.high)
        return FrechetRow(
            *(case.name, case.scheduler_name, case.steps, method, offer.ratio, self.options.samples),
            *(float(f"{number:.5g}") for number in numbers),
            *(drawn.recognised, base.recognised, case.seed, case.other_guidance),
        )

    def _drawn(self, images: torch.Tensor) -> _Drawn:
        case, labels = self.case, self.inputs.labels
        assert case.features is not None
        if labels is None or case.classifier is None:
            return _Drawn(case.features(images), None)
        seen = float(metrics.recognised(images, labels, case.classifier).mean())
        return _Drawn(case.features(images), round(seen, 5))


def measure_distances(
    case: Case,
    store: ResultStore[FrechetRow],
    ratios: Sequence[float],
    options: Options,
    methods: Sequence[str] | None,
) -> Iterator[FrechetRow]:
    """Measure what the store does not have of a case, add each row and yield it; what cannot run is left."""
    known = {row.key for row in store.rows()}
    todo = [each for each in missing(case, known, ratios, options, methods) if each[0].name != UNPRUNED]
    distances = Distances(case, options) if todo else None
    for contender, wanted in todo:
        for offer in contender.offers(wanted):
            if offer.run is not None and distances is not None:
                row = distances.row(contender.name, offer)
                store.add(row)
                yield row
