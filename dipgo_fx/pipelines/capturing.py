"""What a stock pipeline makes of its arguments before its loop: embeddings, masks, latents."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..own_draws import own_draws
from ..passes import TraceError
from ..passes.forward_slot import ForwardSlot
from ..passes.loop_recorder import tensors_in
from ..passes.stored_weights import compute_device
from .call_arguments import CallArguments
from .lending import Enough, cut_short
from .pipeline_call import ArgumentsFor
from .step_clock import step_arguments
from .step_watcher import Stepped

SOURCES = ("encode_", "prepare_", "_encode_", "_prepare_")
"""How the methods of a pipeline begin whose results are inputs of its loop."""
LATENTS = ("prepare_latents", "prepare_intermediate_images")
"""The methods that draw the sample that a loop starts with."""


@dataclass(frozen=True)
class Rows:
    """Where a tensor that a pipeline made has its rows.

    Attributes:
        dim: the dimension of its rows.
        conditions: rows per sample, all of one condition first: 2 or 3 where it is made for guidance already.
    """

    dim: int = 0
    conditions: int = 1

    @classmethod
    def of(cls, two: torch.Tensor, three: torch.Tensor) -> Rows | None:
        """Return where tensors made for two and for three samples have their rows, `None` if nowhere."""
        if two.dim() != three.dim():
            return None
        differing = [
            dim for dim, sizes in enumerate(zip(two.shape, three.shape, strict=True)) if len({*sizes}) > 1
        ]
        if len(differing) != 1:
            return None
        sizes = two.shape[differing[0]], three.shape[differing[0]]
        found = [conditions for conditions in (1, 2, 3) if sizes == (2 * conditions, 3 * conditions)]
        return cls(differing[0], found[0]) if found else None

    def by_sample(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor with a row per sample, its conditions in the dimension after that."""
        tensor = tensor if self.dim == 0 else tensor.movedim(self.dim, 0)
        if self.conditions == 1:
            return tensor
        return tensor.reshape(self.conditions, -1, *tensor.shape[1:]).transpose(0, 1)

    def as_made(self, tensor: torch.Tensor) -> torch.Tensor:
        """Undo `by_sample`."""
        if self.conditions > 1:
            tensor = tensor.transpose(0, 1).flatten(0, 1)
        return tensor if self.dim == 0 else tensor.movedim(0, self.dim)


@dataclass(frozen=True)
class PipelineInputs:
    """What a pipeline made of its arguments before its loop.

    Attributes:
        results: of the methods that `SOURCES` names, in the order in which the pipeline called them.
        samples: for how many samples.
        rows: rows of the sample in the model's first call.
        weights: how much of the prediction for each condition of guidance the scheduler is given at the first
            step, by calls of the model, or by rows of the only call; empty without guidance.
        calls: how often the pipeline calls the model at the first step.
    """

    results: tuple[tuple[str, Any], ...]
    samples: int
    rows: int
    calls: int
    weights: tuple[float, ...]

    @property
    def leaves(self) -> dict[str, torch.Tensor]:
        """All tensors among the results by name; the first one of `LATENTS` is the `sample`."""
        named: dict[str, torch.Tensor] = {}
        for index, (method, result) in enumerate(self.results):
            for number, tensor in enumerate(tensors_in(result)):
                is_sample = method in LATENTS and "sample" not in named
                named["sample" if is_sample else f"{method}_{index}_{number}"] = tensor
        return named

    def by_sample(self, rows: Mapping[str, Rows]) -> dict[str, torch.Tensor]:
        """Return the tensors with rows, one per sample."""
        leaves = self.leaves
        return {name: place.by_sample(leaves[name]) for name, place in rows.items()}


def capture(
    pipe: Any, model: nn.Module, arguments_for: ArgumentsFor, samples: int, *, first_step: bool = False
) -> PipelineInputs:
    """Return what a pipeline makes of its arguments before its loop.

    Args:
        arguments_for: the arguments of the call.
        samples: for how many.
        first_step: run the first step too, to see how it calls the model and guides it. Raises `TraceError`
            if that is not the scheduler's.
    """
    results: list[tuple[str, Any]] = []
    rows: list[int] = []
    predictions: list[torch.Tensor] = []
    weights: list[float] = []

    def note(name: str, method: Callable[[], Any]) -> Any:
        """Keep what a method makes before the model is called."""
        result = method()
        if not rows:
            results.append((name, result))
        return result

    def forward(*args: Any, **kwargs: Any) -> Any:
        """Stand in for the model: it ends the run, unless the first step is wanted."""
        rows.append(CallArguments.of(model, args, kwargs).rows)
        if not first_step:
            raise Enough
        result = _noise_like(type(model).forward(model, *args, **kwargs), len(rows))
        predictions.append(tensors_in(result)[0])
        return result

    def step(own_step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """End the run, and see what guidance made of the predictions, if there is any."""
        given = step_arguments(own_step, args, kwargs)
        if "timestep" in given:  # KarrasVeScheduler is told sigmas
            _check_begins(pipe, float(torch.as_tensor(given["timestep"]).max()), state["scheduler"].timesteps)
        if len({*rows}) == 1 and (len(rows) > 1 or rows[0] > samples):
            weights.extend(Stepped.of(own_step, args, kwargs).weights(predictions))
        raise Enough

    with (
        cut_short(pipe, step) as state,
        ForwardSlot(model).replaced(forward),
        own_draws(compute_device(model)),
    ):
        state |= watched(pipe, note)
        pipe(**arguments_for(samples))
    if not any(name in LATENTS for name, _ in results):
        raise TraceError(
            f"{type(pipe).__name__} has no {LATENTS[0]}, where its loop starts: search a plan with "
            "dipgo_fx.prune(model, scheduler, ...) instead"
        )
    return PipelineInputs(tuple(results), samples, rows[0], len(rows), tuple(weights))


def _check_begins(pipe: Any, timestep: float, levels: torch.Tensor) -> None:
    """Raise `TraceError` unless a run begins at the first timestep of its scheduler."""
    distances = (levels.double() - timestep).abs()
    if distances[0] > distances.min():
        raise TraceError(
            f"the loop of {type(pipe).__name__} begins at timestep {timestep:g}, its scheduler at "
            f"{float(levels[0]):g}: search with arguments that run all (strength=1.0, no denoising_start); "
            "with others the plan that is enabled starts later by itself"
        )


def _noise_like(result: Any, seed: int) -> Any:
    """Return noise in place of what a model predicts: conditions differ then, whatever the prompts are."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator).to(tensor)

    return pytree.tree_map_only(torch.Tensor, noise, result)


def watched(pipe: Any, handle: Callable[[str, Callable[[], Any]], Any]) -> dict[str, Any]:
    """Return stand-ins for the methods that `SOURCES` names: each call goes to `handle(name, method)`.

    So does what is drawn of an image's encoding by `pipe.vae`, as some do in passing for a ControlNet. What
    such a method calls of its like is left alone.
    """
    inside = False

    def stand_in(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return what goes to `handle` unless another stand-in called it."""

        @functools.wraps(method)
        def called(*args: Any, **kwargs: Any) -> Any:
            """Go to `handle`, but from inside another stand-in."""
            nonlocal inside
            if inside:
                return method(*args, **kwargs)
            inside = True
            try:
                return handle(name, functools.partial(method, *args, **kwargs))
            finally:
                inside = False

        return called

    names = [name for name in dir(type(pipe)) if name.startswith(SOURCES) and callable(getattr(pipe, name))]
    methods = {name: stand_in(name, getattr(pipe, name)) for name in names}
    vae = getattr(pipe, "vae", None)
    return methods if vae is None else {**methods, "vae": _WatchedEncoder(vae, stand_in)}


class _WatchedEncoder:
    """Stands in for the autoencoder of a pipeline: what is drawn of its encodings goes through `stand_in`."""

    def __init__(self, vae: Any, stand_in: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
        self._vae, self._stand_in = vae, stand_in

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vae, name)

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        """Return the encoding of images."""
        result = self._vae.encode(*args, **kwargs)
        encoding = getattr(result, "latent_dist", None)
        if encoding is not None:
            encoding.sample = self._stand_in("encoding_sample", encoding.sample)
        return result


def rows_of(two: PipelineInputs, three: PipelineInputs) -> dict[str, Rows]:
    """Return the inputs that differ by sample, by name, and where they have their rows.

    Raises `TraceError` for one that changes in another way.
    """
    found: dict[str, Rows] = {}
    others = three.leaves
    for name, tensor in two.leaves.items():
        other = others.get(name)
        if other is None:
            raise TraceError(
                f"the pipeline makes {name} for {two.samples} samples, but not for {three.samples}"
            )
        if tensor.shape == other.shape and torch.equal(tensor, other):
            continue
        rows = Rows.of(tensor, other)
        if rows is None or (name == "sample" and rows != Rows()):
            raise TraceError(
                f"{name} has shape {tuple(tensor.shape)} for {two.samples} samples and {tuple(other.shape)} "
                f"for {three.samples}: expected one row per sample"
            )
        found[name] = rows
    return found
