"""Results of compiled calls that have to outlive the next call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

MODES = ("reduce-overhead", "max-autotune")
"""Of `torch.compile`, those that record CUDA graphs."""
BACKEND, OPTION = "cudagraphs", "triton.cudagraphs"


def outliving(call: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a compiled call whose results stay what they are.

    A CUDA graph writes its results where those of the last replay lie. A loop makes the same call many times
    and reads values of earlier ones, so they are copied: a few latents, or features of a partial step.

    Args:
        call: what `torch.compile` made.
        options: of `torch.compile`; without CUDA graphs the call is returned as it is.
    """
    asked = options.get("options") or {}
    if options.get("mode") not in MODES and options.get("backend") != BACKEND and not asked.get(OPTION):
        return call

    def copied(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return pytree.tree_map_only(torch.Tensor, torch.clone, call(*args, **kwargs))

    return copied
