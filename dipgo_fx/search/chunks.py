"""How many samples are in the model at once, and what happens when that is too many."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from .batch import Batch
from .shares import Shares, processes

logger = logging.getLogger(__name__)
T = TypeVar("T")
OUT_OF_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Words of errors that torch has no class of its own for."""


class Chunks:
    """Splits work on a batch; halved, with a warning, whenever memory runs out.

    Several processes share the chunks, see `Shares`. As they must go on alike, one that runs out of memory
    ends with the error.

    Attributes:
        size: samples that run together, at most.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def map(self, function: Callable[[Batch], T], batch: Batch) -> list[T]:
        """Return what `function`, which returns tensors, makes of each chunk of a batch."""

        def work(size: int) -> list[T]:
            shares = Shares(batch.chunks(size))
            return shares.join([function(part) for part in shares.own])

        return self.retried(work, len(batch))

    def retried(self, work: Callable[[int], T], samples: int, shared: bool = True) -> T:
        """Return `work(size)` on so many samples, which begins anew with half the size where memory runs out.

        The size leaves a chunk for each process, unless each does all the work: then it is not `shared`.
        Raises the error itself where a single sample is too much.
        """
        while True:
            size = max(1, min(self.size, samples // (processes() if shared else 1)))
            try:
                return work(size)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error) or size == 1 or processes() > 1:
                    raise
            # Out here, where the error no longer holds on to what it was raised among.
            self.size = size // 2
            logger.warning("out of memory with %d samples at once: going on with %d", size, self.size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _is_out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(words in str(error) for words in OUT_OF_MEMORY)
