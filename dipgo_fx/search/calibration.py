"""Calibration inputs of a search: noises, conditioning, and the unpruned results to stay close to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..inputs import InputGuard, num_classes, tensors
from ..loop import Loop
from ..passes import split_steps
from ..tracing import GUARD
from .batch import Batch
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
    chunk: int = 8,
) -> Batch:
    """Draw the noise of `samples` samples, repeat the conditioning for them and run the loop once.

    Args:
        loop: the unpruned loop.
        conditioning: rows for `model.forward`'s arguments, or an iterable of such mappings; repeated
            if there are fewer than `samples`; made up if `None`: random classes, random embeddings.
        samples: number of samples, at least 1.
        noise_scale: `scheduler.init_noise_sigma`.
        generator: source of all randomness.
        chunk: samples that run through the loop together.

    Raises:
        ValueError: wrong names, shapes or too few rows, naming the argument.
    """
    guard: InputGuard = loop.get_submodule(GUARD)  # type: ignore[assignment]
    first = next(model.parameters())
    shape = (samples, *guard.sample_shape)
    noise = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
    sample = noise.to(first.device, first.dtype) * noise_scale
    given = _invented(guard, model, samples, generator) if conditioning is None else conditioning
    rows = _repeated(guard, _joined(given), samples)
    rows = pytree.tree_map_only(
        torch.Tensor,
        lambda t: t.to(first.device, first.dtype if t.is_floating_point() else None),
        rows,
    )
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    return with_path(loop, Batch(sample, rows, sample[None], guard.rows, seed), chunk)


def with_path(loop: Loop, batch: Batch, chunk: int = 8) -> Batch:
    """Return a batch with the path of the unpruned loop, of which `chunk` samples run together.

    Raises `ValueError` if that is not finite.
    """
    with torch.no_grad():
        split = split_steps(loop)
        path = torch.cat([sample_path(split, part) for part in batch.chunks(chunk)], dim=1)
    if not bool(torch.isfinite(path).all()):
        raise ValueError(
            "the unpruned loop returns values that are not finite on the calibration inputs: check the "
            "model's weights, its dtype and the calibration"
        )
    return replace(batch, path=path)


def _joined(given: Conditioning) -> dict[str, Any]:
    """Join an iterable of mappings row by row."""
    if isinstance(given, Mapping):
        return dict(given)
    items = [dict(item) for item in given]
    for item in items:
        if set(item) != set(items[0]):
            raise ValueError(
                f"items of calibration must hold the same names, got {sorted(items[0])} and {sorted(item)}"
            )
    try:
        return {name: _concatenate([item[name] for item in items]) for name in items[0]}
    except (TypeError, RuntimeError, KeyError) as error:
        raise ValueError(f"items of calibration must be alike but for their rows: {error}") from error


def _concatenate(values: list[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {key: _concatenate([value[key] for value in values]) for key in values[0]}
    return torch.cat(values)


def _repeated(guard: InputGuard, given: dict[str, Any], samples: int) -> dict[str, Any]:
    """Check the given rows and repeat them up to `samples` samples."""
    flat = dict(tensors(given))
    if set(flat) != set(guard.shapes):
        raise ValueError(f"calibration must hold {sorted(guard.shapes) or 'nothing'}, got {sorted(flat)}")
    counts = {name: len(tensor) for name, tensor in flat.items()}
    for name, tensor in flat.items():
        if tuple(tensor.shape[1:]) != guard.shapes[name]:
            raise ValueError(
                f"calibration {name!r} must have shape (n, {', '.join(map(str, guard.shapes[name]))}), "
                f"got {tuple(tensor.shape)}"
            )
    if len(set(counts.values())) > 1:
        raise ValueError(f"calibration tensors must have equally many rows, got {counts}")
    rows = next(iter(counts.values()), guard.rows)
    if rows < guard.rows or rows % guard.rows:
        raise ValueError(
            f"calibration has {rows} rows: with guidance each sample needs {guard.rows}, all "
            "unconditional rows first, then the conditional ones"
        )
    each = rows // guard.rows
    index = torch.arange(samples) % max(each, 1)
    take = torch.cat([index + i * each for i in range(guard.rows)])
    return pytree.tree_map_only(torch.Tensor, lambda t: t[take.to(t.device)], given)  # type: ignore[no-any-return]


def _invented(
    guard: InputGuard, model: nn.Module, samples: int, generator: torch.Generator
) -> dict[str, Any]:
    """Make conditioning up: random classes are as good as real ones, random embeddings are not."""
    made: dict[str, Any] = {}
    for name, shape in guard.shapes.items():
        owner, _, key = name.rpartition(".")
        target = made.setdefault(owner, {}) if owner else made
        target[key] = torch.cat(list(_rows(name, shape, guard, model, samples, generator)))
    return made


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
