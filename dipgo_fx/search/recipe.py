"""A search from its config to its plan: the recipe that the config is of, and what is written down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from ..budget import kept_of, warn_of_miss
from ..cost import LoopCost
from ..frontier import Point
from ..loop import Loop
from ..plan import Plan
from ..tracing import guard_of
from .batch import Batch
from .candidate import Candidate
from .config import Config, PaperConfig, PruneConfig
from .evaluator import Evaluator
from .journal import NO_JOURNAL, Journal, fingerprint
from .paper import thresholded, train_pruner
from .refine import refine
from .shares import processes
from .spacing import farthest_first


def search(
    loop: Loop,
    make_batch: Callable[[Journal], Batch],
    ratio: float,
    config: Config,
    generator: torch.Generator,
    progress: bool,
    journal: str | Path | None,
) -> Plan:
    """Search by the recipe of the config and write the plan down.

    Args:
        loop: the traced loop.
        make_batch: gives the calibration samples with their unpruned results, and notes them.
        ratio: share of the loop's MACs to remove.
        config: says which recipe.
        generator: source of all randomness.
        progress: show a progress bar.
        journal: a file to note in what is measured.

    Raises `ValueError` for a ratio out of reach or a loss of images on other samples, before samples are
    made, or a journal of another search, and `FloatingPointError` if no plan with finite samples is found.
    """
    kept = kept_of(ratio, LoopCost.of(loop))
    shape = guard_of(loop).sample_shape
    if "ssim" in config.loss and config.decode is None and len(shape) != 3:
        raise ValueError(
            f"loss={config.loss!r} compares images (channels, h, w), and samples of this loop are {shape}: "
            "choose loss='l2', or give a decode that returns images"
        )
    with _opened(journal, loop, config, kept, generator) as notes:
        return _searched(loop, make_batch(notes), config, kept, generator, progress, notes)


def _searched(
    loop: Loop,
    batch: Batch,
    config: Config,
    kept: float,
    generator: torch.Generator,
    progress: bool,
    journal: Journal,
) -> Plan:
    """Return what the recipe finds for these samples, and what it cost."""
    start, read = time.perf_counter(), journal.seconds
    limit = config.full_runs if isinstance(config, PruneConfig) else math.inf
    evaluator = Evaluator(loop, LoopCost.of(loop), batch, config, limit, journal)
    if config.decode is not None:
        journal.check("what decode makes of the first sample", partial(evaluator.seen, batch.target[:1]))
    frontier: tuple[Point, ...] = ()
    if isinstance(config, PaperConfig):
        trained = train_pruner(evaluator, config, generator, progress)
        best = thresholded(evaluator, trained.scores, kept, config.backup, config.exact_fill)
        scores, notes = trained.scores, trained.notes
    else:
        refined = refine(evaluator, kept, generator.initial_seed(), progress)
        best, frontier, notes = refined.best, refined.frontier, refined.notes
        scores = scores_of(best)
    _check_finite(best)
    left = evaluator.cost.kept(best.table)
    warn_of_miss(left, kept)
    origin = {
        **_origin(evaluator, best),
        "asked": round(1 - kept, 6),
        "seed": generator.initial_seed(),
        "seconds": round(time.perf_counter() - start + journal.seconds - read, 1),
        **notes,
    }
    facts, steering = evaluator.loop.facts, best.steering
    steering = None if steering is None or steering.is_neutral else steering
    return Plan(facts, best.table, 1 - left, scores, frontier, evaluator.cost, origin, steering)


def _check_finite(found: Candidate) -> None:
    """Raise `FloatingPointError` for a plan whose samples overflow: of all that were tried it is the best."""
    if not math.isfinite(found.loss):
        raise FloatingPointError(
            f"the samples of the best plan that the search found ({found.name}) are infinite or NaN: ask "
            "for a lower ratio, or run the model in float32 or bfloat16"
        )


def _opened(
    journal: str | Path | None, loop: Loop, config: Config, kept: float, generator: torch.Generator
) -> Journal:
    """Return the journal of a search, not yet entered; it notes which search that is.

    Raises `ValueError` where several processes search together: they could not go on from one place.
    """
    if journal is None:
        return NO_JOURNAL
    if processes() > 1:
        raise ValueError("a journal is for a search in one process: leave journal out, or start one process")
    # What a function does shows in what it makes of the unpruned samples.
    options = {field.name: getattr(config, field.name) for field in fields(config) if field.name != "decode"}
    code = torch.frombuffer(bytearray(loop.graph.python_code("self").src.encode()), dtype=torch.uint8)
    identity = {
        "recipe": type(config).__name__,
        **{f"config.{name}": _text(value) for name, value in options.items()},
        "share to keep": repr(kept),
        "seed": str(generator.initial_seed()),
        "loop": repr(loop.facts),
        "graph": fingerprint([code]),
        "weights": fingerprint([*loop.parameters(), *loop.buffers()]),
        **_versions(),
    }
    return Journal(journal, identity)


def _text(value: Any) -> str:
    """Return an option as a text; 5 and 5.0 are one number."""
    return repr(float(value)) if isinstance(value, Real) and not isinstance(value, bool) else repr(value)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("dipgo-fx", "torch", "diffusers")}


def scores_of(found: Candidate) -> torch.Tensor:
    """Return `(T, N)` scores whose threshold is the plan at its budget and evenly placed at others."""
    keep = found.table.keep
    steps, blocks = keep.shape
    entire = tuple(t for t in range(steps) if bool(keep[t].all()))
    ranks = {step: 1 - index / steps for index, step in enumerate(farthest_first(steps, entire))}
    rows = torch.tensor([ranks[t] for t in range(steps)], dtype=torch.float64)[:, None]
    # Within a step the blocks next to the output first: the others are dead without them.
    columns = torch.arange(1, blocks + 1, dtype=torch.float64)[None] / (steps * (blocks + 1))
    return keep.double() + (rows + columns) / 2


def _origin(evaluator: Evaluator, found: Candidate) -> dict[str, Any]:
    return {
        "recipe": type(evaluator.config).__name__,
        "name": found.name,
        "loss": found.loss,
        "loss_kind": evaluator.config.loss,
        "samples": len(evaluator.batch),
        "full_runs": round(evaluator.budget.spent, 2),
        "versions": _versions(),
        "curve": [list(entry) for entry in evaluator.curve],
    }
