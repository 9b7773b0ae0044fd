"""The arguments of one call of a denoiser: by name, by row, and what makes two calls alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..passes import TraceError
from ..passes.forward_slot import parameters_of
from ..passes.loop_recorder import TIMESTEP, tensors_in
from ..passes.stored_weights import autocast_dtype


@dataclass(frozen=True)
class CallArguments:
    """The arguments of one call of a denoiser."""

    named: dict[str, Any]

    @classmethod
    def of(cls, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallArguments:
        """Return arguments by name; a timestep that is a number as the tensor that a model makes of it.

        They are in the model's order, whatever that of the call is: the sample comes first.
        """
        parameters = parameters_of(model)
        given = {**dict(zip(parameters, args, strict=False)), **kwargs}
        named = {name: given[name] for name in [*(p for p in parameters if p in given), *given]}
        for name, value in named.items():
            if name in TIMESTEP and isinstance(value, (int, float)):
                dtype = torch.float64 if isinstance(value, float) else torch.int64
                named[name] = torch.tensor(value, dtype=dtype)
        return cls(_copied(named))

    def fresh(self) -> dict[str, Any]:
        """Return the arguments for one call of the model: some take lists apart that they are given."""
        return _copied(self.named)

    @property
    def timestep(self) -> torch.Tensor:
        """What the model is told of the timestep. Raises `TraceError` if it is told nothing."""
        for name, value in self.named.items():
            if name in TIMESTEP:
                return value  # type: ignore[no-any-return]
        raise TraceError(f"the denoiser is called without a timestep, with {sorted(self.named)}")

    def told(self, factor: float) -> CallArguments:
        """Return the arguments with another timestep, this many times theirs."""
        name = next(name for name in self.named if name in TIMESTEP)
        return CallArguments({**self.named, name: self.named[name] * factor})

    @cached_property
    def leaves(self) -> list[Any]:
        """All values among nested arguments, in order."""
        return pytree.tree_leaves(self.named)

    @cached_property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among them."""
        return tensors_in(self.named)

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """What calls that may share a graph have in common: structure, shapes, and all that is no tensor.

        Under autocast a recording holds casts.
        """
        cast = autocast_dtype(self.tensors[0].device)
        return (pytree.tree_structure(self.named), cast, *map(_kind, self.leaves))

    @property
    def rows(self) -> int:
        """Rows of the sample, the first tensor."""
        return self.tensors[0].shape[0]

    def halves(self) -> tuple[CallArguments, CallArguments]:
        """Return the arguments of both conditions of guidance: the halves of all tensors that have rows."""

        def half(index: int) -> CallArguments:
            return CallArguments(
                pytree.tree_map(
                    lambda leaf: leaf.chunk(2)[index] if self._has_rows(leaf) else leaf, self.named
                )
            )

        return half(0), half(1)

    def _has_rows(self, leaf: Any) -> bool:
        """Tell whether a value has a row for each of the sample, or for each of its frames."""
        if not isinstance(leaf, torch.Tensor) or leaf.dim() == 0:
            return False
        sample = self.tensors[0]
        # AnimateDiff repeats embeddings (rows, tokens, channels) by frame; tables of positions have no rows.
        is_by_frame = sample.dim() == 5 and leaf.dim() > 2 and len(leaf) == self.rows * sample.shape[2]
        return len(leaf) == self.rows or is_by_frame


def joined(results: Sequence[Any]) -> Any:
    """Return the results of several calls as that of one, row by row."""
    if len(results) == 1:
        return results[0]
    leaves, structures = zip(*map(pytree.tree_flatten, results), strict=True)
    rows = [
        torch.cat(parts) if isinstance(parts[0], torch.Tensor) else parts[0]
        for parts in zip(*leaves, strict=True)
    ]
    return pytree.tree_unflatten(rows, structures[0])


def _copied(named: dict[str, Any]) -> dict[str, Any]:
    """Return nested arguments with lists and mappings of their own."""
    copied: dict[str, Any] = pytree.tree_map(lambda leaf: leaf, named)
    return copied


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.shape, leaf.dtype, leaf.device
    if isinstance(leaf, (int, float, str, bool, type(None), torch.dtype, torch.device)):
        return type(leaf), leaf
    if not isinstance(leaf, Hashable):
        raise TraceError(f"an argument of type {type(leaf).__name__} cannot be part of a graph")
    return leaf
