"""Run what methods offer on held-out inputs and measure it against the targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks import statistics
from benchmarks.cases import CALIBRATION, Case, Inputs
from benchmarks.results_store import ResultStore
from dipgo_fx.macs import Cost

from .image_store import ImageStore, packed, unpacked
from .offers import Contender, Offer, Options, Sampler, Spent, contenders
from .rows import UNPRUNED, CurvePoint, Row
from .targets import write_at_once

PICTURED = 8  # samples of every measurement that are kept for the pictures


@dataclass(frozen=True)
class Stores:
    """Where measurements go: rows, and the errors of their images."""

    rows: ResultStore[Row]
    images: ImageStore

    @classmethod
    def in_folder(cls, results: Path, name: str = "quality") -> Stores:
        """Return those of a folder of results: `{name}.csv` and `{name}-images`."""
        return cls(ResultStore(results / f"{name}.csv", Row), ImageStore(results, f"{name}-images"))

    def add(self, row: Row, errors: statistics.ImageErrors | None) -> None:
        """Keep a row, its images first: a row without them would be measured again."""
        self.rows.check(row)
        if errors is not None:
            self.images.add(row, errors)
        self.rows.add(row)

    def measured(self, samples: int) -> set[tuple[Any, ...]]:
        """Return the keys of the rows that stand: of as many images at least, each of them kept."""
        return {row.key for row in self.rows.rows() if self._stands(row, samples)}

    def merge(self, file: Path) -> int:
        """Take over the rows of another quality.csv that are not here, or only without images; count them."""
        images, mine = ImageStore(file.parent), {row.key: row for row in self.rows.rows()}
        new = [
            row
            for row in ResultStore(file, Row).rows()
            if row.key not in mine or (images.of(row) is not None and self.images.of(row) is None)
        ]
        for row in new:
            self.add(row, images.of(row))
        return len(new)

    def _stands(self, row: Row, samples: int) -> bool:
        enough = row.held_out_samples is not None and row.held_out_samples >= samples
        return enough and (bool(row.error) or self.images.of(row) is not None)


class Measurement:
    """Measures offers on one case's held-out inputs against its targets."""

    def __init__(self, case: Case, options: Options, pictured: Path | None = None) -> None:
        self.case, self.options, self.pictured = case, options, pictured
        self.inputs = case.inputs(options.samples, held_out=True)
        self.target = options.targets.unpruned(case, self.inputs)
        self.converged = options.targets.converged(case, self.inputs)

    def unpruned(self, start: float) -> tuple[Row, statistics.ImageErrors]:
        """Return the row of the unpruned loop, which says how good the model itself is."""
        self._keep_samples(UNPRUNED, 0.0, self.target)
        return self._row(UNPRUNED, Offer(0.0), self.target, self.case.full, start)

    def row(self, method: str, offer: Offer, start: float) -> tuple[Row, statistics.ImageErrors | None]:
        """Run and measure an offer; a package's error becomes the row's."""
        if offer.run is None:
            return self._failed(method, offer, offer.error, start), None
        try:
            result, cost = run_in_chunks(offer.run, offer.cost, self.inputs, self.options.chunk)
        except Exception as error:  # whatever a package raises is a finding
            if isinstance(offer.run, torch.fx.GraphModule):
                raise
            return self._failed(method, offer, f"{type(error).__name__}: {error}", start), None
        self._keep_samples(method, offer.ratio, result)
        return self._row(method, offer, result, cost, start)

    def _row(
        self, method: str, offer: Offer, result: torch.Tensor, cost: Cost, start: float
    ) -> tuple[Row, statistics.ImageErrors]:
        measured = self.case.errors(result, self.target, self.inputs, self.converged)
        errors = unpacked(packed(measured))  # what is kept: statistics of it can be made again
        full = self.case.full
        scores: dict[str, Any] = {name: _rounded(value) for name, value in statistics.told(errors).items()}
        row = Row(
            *self._about(method, offer.ratio),
            macs_kept=_rounded(cost.total / full.total),
            macs_kept_without_attention=_rounded(cost.without_attention / full.without_attention),
            **scores,
            **self._effort(offer.spent),
            search_samples=offer.search_samples,
            tuning_samples=offer.tuning_samples,
            settings_tried=offer.settings_tried,
            settings_failed=offer.settings_failed,
            converged_steps=self.options.targets.converged_steps or None,
            **self._end(start),
        )
        return row, errors

    def _failed(self, method: str, offer: Offer, error: str, start: float) -> Row:
        return Row(*self._about(method, offer.ratio), error=error, **self._end(start))

    def _about(self, method: str, ratio: float) -> tuple[str, str, int, str, float]:
        return (self.case.name, self.case.scheduler_name, self.case.steps, method, ratio)

    def _effort(self, spent: Spent) -> dict[str, Any]:
        calls = spent.full_runs * CALIBRATION * self.case.loop().num_steps
        return {
            "search_full_runs": round(spent.full_runs, 1),
            "search_seconds": round(spent.seconds, 1),
            "search_calls": round(calls),
            "search_images": spent.images,
        }

    def _end(self, start: float) -> dict[str, Any]:
        seconds = round(time.perf_counter() - start, 1)
        return {
            "held_out_samples": self.options.samples,
            "row_seconds": seconds,
            "guidance": self.case.other_guidance,
            "seed": self.case.seed,
            "device": self.case.device.type,
        }

    def _keep_samples(self, method: str, ratio: float, result: torch.Tensor) -> None:
        """Keep the first few samples for the pictures, in 8 bits."""
        if self.pictured is None:
            return
        kept = load_file(self.pictured) if self.pictured.exists() else {}
        levels = ((result[:PICTURED].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        kept[f"{method} @ {ratio:g}"] = levels.contiguous()
        write_at_once(self.pictured, kept)


@torch.no_grad()
def run_in_chunks(
    run: Sampler, cost: Callable[[], Cost], inputs: Inputs, chunk: int
) -> tuple[torch.Tensor, Cost]:
    """Return the samples, and MACs of one sample, which may differ by chunk."""
    results: list[torch.Tensor] = []
    total, attention, count = 0.0, 0.0, len(inputs.sample)
    for start in range(0, count, chunk):
        part = inputs.part(start, start + chunk)
        results.append(run(part.sample, **part.conditioning))
        total += cost().total * len(part.sample) / count
        attention += cost().attention * len(part.sample) / count
    return torch.cat(results), Cost(round(total), round(attention))


def measure(
    case: Case,
    stores: Stores,
    ratios: Sequence[float],
    options: Options,
    methods: Sequence[str] | None = None,
    curves: ResultStore[CurvePoint] | None = None,
    pictured: Path | None = None,
) -> Iterator[Row]:
    """Measure what the stores do not have of a case, add each row to them and yield it."""
    start = time.perf_counter()
    todo = missing(case, stores.measured(options.samples), ratios, options, methods, curves)
    if not todo:
        return
    measurement = Measurement(case, options, pictured)
    for contender, wanted in todo:
        if contender.name == UNPRUNED:
            yield _added(stores, *measurement.unpruned(start))
            start = time.perf_counter()
            continue
        for offer in contender.offers(wanted):
            yield _added(stores, *measurement.row(contender.name, offer, start))
            start = time.perf_counter()


def missing(
    case: Case,
    known: set[tuple[Any, ...]],
    ratios: Sequence[float],
    options: Options,
    methods: Sequence[str] | None = None,
    curves: ResultStore[CurvePoint] | None = None,
) -> list[tuple[Contender, list[float]]]:
    """Return the methods of a case with the ratios that were not measured, the unpruned loop first."""
    unpruned = Contender(UNPRUNED, lambda ratios: iter(()))
    every = [(unpruned, [0.0]), *((each, ratios) for each in contenders(case, methods, options, curves))]
    left = [
        (each, [ratio for ratio in asked if row_about(case, each.name, ratio).key not in known])
        for each, asked in every
    ]
    return [(each, asked) for each, asked in left if asked]


def row_about(case: Case, method: str, ratio: float) -> Row:
    """Return the row of a measurement before it was made."""
    about = (case.name, case.scheduler_name, case.steps, method, ratio)
    return Row(*about, guidance=case.other_guidance, seed=case.seed)


def _added(stores: Stores, row: Row, errors: statistics.ImageErrors | None) -> Row:
    stores.add(row, errors)
    return row


def _rounded(value: float | None) -> float | None:
    """Keep five digits."""
    return None if value is None else float(f"{value:.5g}")
