"""A search in several processes: each has its share of the samples in the model, and all decide alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import distributed
from torch.utils import _pytree as pytree

Part = TypeVar("Part")


class Shares(Generic[Part]):
    """This process's share of some parts, and what all processes make of theirs together.

    Where `torch.distributed` is initialised, as by an `Accelerator()`, part k belongs to process k modulo
    their number; too few parts, or a process by itself, and each does all.

    Attributes:
        own: the parts of this process, in order.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._total, self._count, rank = len(parts), processes(), 0
        if self._count > 1 and self._total >= self._count:
            rank = distributed.get_rank()
        else:
            self._count = 1
        self.own = list(parts[rank :: self._count])

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes, on the CPU."""
        total = tensor.detach().cpu().clone()
        if self._count > 1:
            device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
            total = total.to(device)
            distributed.all_reduce(total)
        return total.cpu()

    def join(self, made: Sequence[Any]) -> list[Any]:
        """Return what all processes made of their parts, nested tensors, in the order of the parts."""
        if self._count == 1:
            return list(made)
        devices = {leaf.device for leaf in pytree.tree_leaves(made)}
        everyone: list[Any] = [None] * self._count
        distributed.all_gather_object(everyone, _moved(list(made), torch.device("cpu")))
        joined = [everyone[k % self._count][k // self._count] for k in range(self._total)]
        return list(_moved(joined, next(iter(devices))))


def processes() -> int:
    """Return how many processes search together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def _moved(made: Any, device: torch.device) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), made)
