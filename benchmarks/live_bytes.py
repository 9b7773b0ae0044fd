"""Bytes of tensors that are alive while something runs, and their peak.

On a CPU torch has no allocator to ask, so every operation's storages are counted. What an operation makes
and frees inside of itself is not seen there; the allocator of CUDA sees it.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class Meter(Protocol):
    """Counts bytes inside a `with` block, less what was alive before."""

    @property
    def current(self) -> int:
        """Bytes alive now."""

    @property
    def peak(self) -> int:
        """Most bytes alive at once since the block began, or since `restart`."""

    def restart(self) -> None:
        """Forget the peak so far."""

    def __enter__(self) -> Any:
        """Begin to count."""

    def __exit__(self, *raised: Any) -> Any:
        """Stop counting."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._seen: dict[int, int] = {}

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak = self.current

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count its new storages, not those that it was given from outside."""
        for tensor in pytree.tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), 0)
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), tensor.untyped_storage().nbytes())
        return result

    def _count(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen[key] = size
        self.current += size
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.current -= self._seen.pop(key, 0)


class CudaBytes:
    """Bytes that the allocator of CUDA has given out since the block began."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._before = device, 0

    def __enter__(self) -> CudaBytes:
        """Begin to count."""
        torch.cuda.synchronize(self.device)
        self._before = torch.cuda.memory_allocated(self.device)
        self.restart()
        return self

    def __exit__(self, *raised: Any) -> None:
        """Stop counting; the allocator goes on by itself."""
        torch.cuda.synchronize(self.device)

    @property
    def current(self) -> int:
        """Bytes alive now."""
        return torch.cuda.memory_allocated(self.device) - self._before

    @property
    def peak(self) -> int:
        """Most bytes alive at once since the last restart."""
        return torch.cuda.max_memory_allocated(self.device) - self._before

    def restart(self) -> None:
        """Forget the peak so far."""
        torch.cuda.reset_peak_memory_stats(self.device)


def meter(device: torch.device) -> Meter:
    """Return what counts bytes on a device."""
    return CudaBytes(device) if device.type == "cuda" else LiveBytes()
