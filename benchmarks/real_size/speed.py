"""Time, peak memory and differences of contestants in one process."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.live_bytes import meter
from benchmarks.speed.clocks import CLOCKS, Run, interleaved
from benchmarks.tables import Row

from .contestants import Offer
from .rows import speed_row
from .subjects import Size, Subject

LINE = 200
"""Characters of an error that a table shows."""


@torch.no_grad()
def speed_rows(
    subject: Subject, offers: Iterable[Offer], size: Size, options: argparse.Namespace
) -> list[Row]:
    """Measure contestants; the first is what the others' speed-ups are over. One that fails is a row too."""
    device, cells, runs = torch.device(options.device), dict[Offer, dict[str, Any]](), dict[Offer, Run]()
    results: dict[str, torch.Tensor] = {}
    for offer in tqdm(list(offers), desc=subject.name, unit="contestant", leave=False):
        try:
            run, kept = offer.make()
            result, peak = metered(run, device)
        except Exception as error:  # whatever a package or a device raises
            cells[offer] = {"error": told(error)}
            continue
        runs[offer], results[offer.method] = run, result
        cells[offer] = {"macs_kept": kept, "peak_bytes": peak, "max_abs_diff": difference(offer, results)}
    seconds = interleaved(runs, size.rounds, CLOCKS[options.clock], warm_up=False)
    base = seconds.get(next(iter(cells)))
    for offer, own in seconds.items():
        cells[offer] |= timed(own, base, cells[offer]["macs_kept"])
    about = about_rows(subject, size, options)
    return [
        speed_row(**about, method=offer.method, ratio_asked=offer.asked, **each)
        for offer, each in cells.items()
    ]


def about_rows(subject: Subject, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Return the cells that all rows of a model have in common."""
    return {
        "model": subject.name,
        "device": options.device,
        "dtype": options.dtype,
        "steps": subject.steps,
        "batch": options.batch,
        "rounds": size.rounds,
        "clock": options.clock,
    }


def metered(run: Run, device: torch.device) -> tuple[torch.Tensor, int]:
    """Return the result of a run and its peak of live bytes; it is not timed."""
    with meter(device) as live:
        result = run()
    return result, live.peak


def difference(offer: Offer, results: dict[str, torch.Tensor]) -> float | None:
    """Return the largest difference to what must be equal, nothing where that is unknown."""
    if offer.equals not in results:
        return None
    return float((results[offer.method] - results[offer.equals]).abs().max())


def timed(seconds: list[float], base: list[float] | None, kept: float) -> dict[str, float]:
    """Return the cells of a contestant, given its seconds by round and those of what it is compared with."""
    found = {"seconds_median": median(seconds), "seconds_min": min(seconds)}
    if base is None:
        return found
    speed_up = median(plain / own for plain, own in zip(base, seconds, strict=True))
    return {**found, "speedup": speed_up, "efficiency": speed_up * kept}


def told(error: Exception) -> str:
    """Return an error as one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LINE]
