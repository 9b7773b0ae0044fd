"""Run what methods offer on held-out inputs and measure it against the unpruned loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.cases import Case
from benchmarks.results_store import ResultStore
from dipgo_fx.macs import Cost

from .offers import Offer, Options, Sampler, contenders
from .rows import UNPRUNED, CurvePoint, Row

PICTURED = 8  # samples of every measurement that are kept for the pictures


class Measurement:
    """Measures offers on one case's held-out inputs against its unpruned result."""

    def __init__(self, case: Case, options: Options, pictured: Path | None = None) -> None:
        self.case, self.options, self.pictured = case, options, pictured
        self.inputs = case.inputs(options.samples, held_out=True)
        self.target, _ = self._run(case.loop(), lambda: case.full)

    def unpruned(self) -> Row:
        """Return the row of the unpruned loop, which says how good the model itself is."""
        self._keep_samples(UNPRUNED, 0.0, self.target)
        return self._row(UNPRUNED, Offer(0.0), self.target, self.case.full)

    def row(self, method: str, offer: Offer) -> Row:
        """Run and measure an offer; a package's error becomes the row's."""
        if offer.run is None:
            return self._failed(method, offer, offer.error)
        try:
            result, cost = self._run(offer.run, offer.cost)
        except Exception as error:  # whatever a package raises is a finding
            if isinstance(offer.run, torch.fx.GraphModule):
                raise
            return self._failed(method, offer, f"{type(error).__name__}: {error}")
        self._keep_samples(method, offer.ratio, result)
        return self._row(method, offer, result, cost)

    @torch.no_grad()
    def _run(self, run: Sampler, cost: Callable[[], Cost]) -> tuple[torch.Tensor, Cost]:
        """Return the samples, and MACs of one sample, which may differ by chunk."""
        results: list[torch.Tensor] = []
        total, attention, count = 0.0, 0.0, len(self.inputs.sample)
        for start in range(0, count, self.options.chunk):
            part = self.inputs.part(start, start + self.options.chunk)
            results.append(run(part.sample, **part.conditioning))
            total += cost().total * len(part.sample) / count
            attention += cost().attention * len(part.sample) / count
        return torch.cat(results), Cost(round(total), round(attention))

    def _row(self, method: str, offer: Offer, result: torch.Tensor, cost: Cost) -> Row:
        full = self.case.full
        quality = asdict(self.case.quality(result, self.target, self.inputs))
        scores: dict[str, Any] = {name: _rounded(value) for name, value in quality.items()}
        return Row(
            *self._about(method, offer.ratio),
            macs_kept=_rounded(cost.total / full.total),
            macs_kept_without_attention=_rounded(cost.without_attention / full.without_attention),
            **scores,
            search_full_runs=round(offer.full_runs, 1),
            held_out_samples=self.options.samples,
            search_samples=offer.search_samples,
            tuning_samples=offer.tuning_samples,
            seed=self.case.seed,
        )

    def _failed(self, method: str, offer: Offer, error: str) -> Row:
        return Row(*self._about(method, offer.ratio), seed=self.case.seed, error=error)

    def _about(self, method: str, ratio: float) -> tuple[str, str, int, str, float]:
        return (self.case.name, self.case.scheduler_name, self.case.steps, method, ratio)

    def _keep_samples(self, method: str, ratio: float, result: torch.Tensor) -> None:
        """Keep the first few samples for the pictures, in 8 bits."""
        if self.pictured is None:
            return
        kept = load_file(self.pictured) if self.pictured.exists() else {}
        levels = ((result[:PICTURED].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        kept[f"{method} @ {ratio:g}"] = levels.contiguous()
        self.pictured.parent.mkdir(parents=True, exist_ok=True)
        save_file(kept, self.pictured)


def measure(
    case: Case,
    store: ResultStore[Row],
    ratios: Sequence[float],
    options: Options,
    methods: Sequence[str] | None = None,
    curves: ResultStore[CurvePoint] | None = None,
    pictured: Path | None = None,
) -> Iterator[Row]:
    """Measure what the store does not have of a case, add each row to it and yield it."""
    todo = [
        (contender, missing)
        for contender in contenders(case, methods, options, curves)
        if (missing := _missing(store, case, contender.name, ratios))
    ]
    first = _missing(store, case, UNPRUNED, [0.0])
    if not todo and not first:
        return
    measurement = Measurement(case, options, pictured)
    if first:
        yield _added(store, measurement.unpruned())
    for contender, missing in todo:
        for offer in contender.offers(missing):
            yield _added(store, measurement.row(contender.name, offer))


def _missing(store: ResultStore[Row], case: Case, method: str, ratios: Sequence[float]) -> list[float]:
    """Return the ratios of a method that were not measured."""
    known = store.keys()
    about = (case.name, case.scheduler_name, case.steps, method)
    return [ratio for ratio in ratios if (*about, ratio, case.seed) not in known]


def _added(store: ResultStore[Row], row: Row) -> Row:
    store.add(row)
    return row


def _rounded(value: float | None) -> float | None:
    """Keep five digits."""
    return None if value is None else float(f"{value:.5g}")
