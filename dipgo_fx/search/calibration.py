"""Calibration inputs of a search: noises, conditioning, and the unpruned results to stay close to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..conditioning import leaves, map_named, map_rows, tensors
from ..inputs import InputGuard, num_classes
from ..loop import Loop
from ..passes import split_steps
from ..passes.stored_weights import compute_device, compute_dtype
from ..tracing import guard_of
from .batch import Batch
from .chunks import Chunks
from .journal import NO_JOURNAL, Journal, fingerprint
from .stepwise import sample_path

logger = logging.getLogger(__name__)
Conditioning = Mapping[str, Any] | Iterable[Mapping[str, Any]]


def calibrate(
    loop: Loop,
    model: nn.Module,
    conditioning: Conditioning | None,
    samples: int,
    noise_scale: float,
    generator: torch.Generator,
    chunk: int = 16,
    journal: Journal = NO_JOURNAL,
) -> Batch:
    """Draw the noise of `samples` samples, repeat the conditioning for them and run the loop once.

    Args:
        loop: the unpruned loop.
        conditioning: rows for `model.forward`'s arguments, or an iterable of such mappings; repeated
            if there are fewer than `samples`; made up if `None`: random classes, random embeddings, and
            what all samples share as in the examples of `trace`.
        samples: number of samples, at least 1.
        noise_scale: what noise is multiplied by, see `dipgo_fx.denoise.noise_scale`.
        generator: source of all randomness.
        chunk: samples that are in the model at once, at most.
        journal: notes the run.

    Raises:
        ValueError: wrong names, shapes or too few rows, naming the argument.
    """
    guard = guard_of(loop)
    device, dtype = compute_device(model), compute_dtype(model)
    shape = (samples, *guard.sample_shape)
    noise = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
    sample = noise.to(device, dtype) * noise_scale
    if conditioning is None:
        given = _invented(guard, model, samples, generator)
    else:
        given = _joined(conditioning, guard)
    rows = _repeated(guard, given, samples)

    def moved(name: str, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        casts = leaf.is_floating_point() and name not in guard.shared  # half precision has no position ids
        return leaf.to(device, dtype if casts else None)

    rows = map_named(moved, rows)
    seeds = Batch.drawn_seeds(samples, generator)
    batch = Batch(sample, rows, sample[None], guard.rows, seeds, guard.shared)
    return with_path(loop, batch, chunk, journal)


def with_path(loop: Loop, batch: Batch, chunk: int, journal: Journal = NO_JOURNAL) -> Batch:
    """Return a batch with the path of the unpruned loop, of which `chunk` samples run together at most.

    The path is kept on the host: beside a large model it would be what a device has no room for.

    Raises `ValueError` if that is not finite.
    """
    split = split_steps(loop)

    @torch.no_grad()
    def path_of(part: Batch) -> torch.Tensor:
        return sample_path(split, part).cpu()

    def measured() -> dict[str, torch.Tensor]:
        return {"path": torch.cat(Chunks(chunk).map(path_of, batch), dim=1)}

    journal.check("the unpruned path of the first sample", lambda: path_of(batch.first(1)))
    given = fingerprint((batch.sample, *tensors(batch.conditioning).values()))
    path = journal.once(f"the unpruned path of {given}", measured)["path"]
    if not bool(torch.isfinite(path).all()):
        raise ValueError(
            "the unpruned loop returns values that are not finite on the calibration inputs: check the "
            "model's weights, its dtype and the calibration"
        )
    return replace(batch, path=path)


def _joined(given: Conditioning, guard: InputGuard) -> dict[str, Any]:
    """Join an iterable of mappings row by row; what has no rows must be the same in all."""
    if isinstance(given, Mapping):
        return dict(given)

    def join(name: str, *values: Any) -> Any:
        if name in guard.shapes:
            return torch.cat(values)
        if not all(_equal(values[0], value) for value in values):
            raise ValueError(f"{name} has no row per sample and must be the same in all")
        return values[0]

    items = [dict(item) for item in given]
    for item in items:
        if set(item) != set(items[0]):
            raise ValueError(
                f"items of calibration must hold the same names, got {sorted(items[0])} and {sorted(item)}"
            )
    try:
        return map_named(join, *items)
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"items of calibration must be alike but for their rows: {error}") from error


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _repeated(guard: InputGuard, given: dict[str, Any], samples: int) -> dict[str, Any]:
    """Check the given rows and repeat them up to `samples` samples."""
    flat = leaves(given)
    wanted = {*guard.shapes, *guard.fixed}
    if set(flat) != wanted:
        raise ValueError(f"calibration must hold {sorted(wanted) or 'nothing'}, got {sorted(flat)}")
    counts = {name: len(flat[name]) for name in guard.shapes}
    for name, shape in guard.shapes.items():
        if tuple(flat[name].shape[1:]) != shape:
            raise ValueError(
                f"calibration {name!r} must have shape (n, {', '.join(map(str, shape))}), "
                f"got {tuple(flat[name].shape)}"
            )
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"calibration tensors must have equally many rows, got {counts}; name in shared= those "
            "that all samples share"
        )
    rows = next(iter(counts.values()), guard.rows)
    if rows < guard.rows or rows % guard.rows:
        raise ValueError(
            f"calibration has {rows} rows: with guidance each sample needs {guard.rows}, all "
            "unconditional rows first, then the conditional ones"
        )
    each = rows // guard.rows
    index = torch.arange(samples) % max(each, 1)
    take = torch.cat([index + i * each for i in range(guard.rows)])
    return map_rows(lambda t: t[take.to(t.device)], given, guard.shared)


def _invented(
    guard: InputGuard, model: nn.Module, samples: int, generator: torch.Generator
) -> dict[str, Any]:
    """Make conditioning up: random classes are as good as real ones, random embeddings are not.

    Masks leave nothing out. Raises `ValueError` for other whole numbers: nobody knows what they stand for.
    """

    def made(name: str, example: Any) -> Any:
        if name not in guard.shapes:
            return example
        if guard.kinds[name] == "booleans":
            return torch.ones((guard.rows * samples, *guard.shapes[name]), dtype=torch.bool)
        if guard.kinds[name] == "whole numbers" and name != "class_labels":
            raise ValueError(f"{name} holds whole numbers, which cannot be made up: pass them as calibration")
        return torch.cat(list(_rows(name, guard.shapes[name], guard, model, samples, generator)))

    return map_named(made, guard.example)


def _rows(
    name: str,
    shape: tuple[int, ...],
    guard: InputGuard,
    model: nn.Module,
    samples: int,
    generator: torch.Generator,
) -> Iterator[torch.Tensor]:
    classes = num_classes(model) if name == "class_labels" else None
    for row in reversed(range(guard.rows)):
        if classes is None:
            yield torch.randn((samples, *shape), generator=generator, device=generator.device)
        elif row == 1:  # unconditional rows come first and carry the null class
            yield torch.full((samples,), classes, device=generator.device)
        else:
            yield torch.randint(classes, (samples,), generator=generator, device=generator.device)
    if classes is None:
        logger.warning(
            "searching on random %s: the plan will fit real inputs better if you pass "
            "calibration={%r: a tensor of shape (n, %s)} made from real prompts",
            name,
            name,
            ", ".join(map(str, shape)),
        )
