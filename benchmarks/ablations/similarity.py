"""How alike a block's outputs are across steps, as in DiP-GO's figure 7."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.cases import Case
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import Guidance

BLOCKS = 4


@torch.no_grad()
def similarities(case: Case, samples: int) -> dict[str, torch.Tensor]:
    """Return `(T, T)` cosine similarities of some blocks' outputs between all pairs of steps.

    Each is the mean over samples of the cosine of two whole feature maps.
    """
    inputs = case.inputs(samples, held_out=True)
    seen: dict[str, list[torch.Tensor]] = {block: [] for block in _spread(case.loop().blocks, BLOCKS)}
    hooks = [case.model.get_submodule(block).register_forward_hook(_keeper(seen[block])) for block in seen]
    try:
        scheduler, guidance = prepared(case.scheduler, case.steps), Guidance(case.guidance)
        denoise(case.model, scheduler, inputs.sample, inputs.conditioning, guidance)
    finally:
        for hook in hooks:
            hook.remove()
    return {block: _cosines(torch.stack(outputs)) for block, outputs in seen.items()}


def _keeper(outputs: list[torch.Tensor]) -> Callable[..., None]:
    def keep(module: Any, args: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        outputs.append(tensor.flatten(1).clone())

    return keep


def _cosines(outputs: torch.Tensor) -> torch.Tensor:
    """Return the `(T, T)` mean cosines of `(T, samples, features)`."""
    unit = F.normalize(outputs, dim=-1)
    return torch.einsum("tnd,snd->nts", unit, unit).mean(0)


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Return some names, evenly spread, the last one that has company included."""
    last = len(names) - 2 if len(names) > 2 else len(names) - 1  # the output head shows little
    return list(dict.fromkeys(names[round(i * last / max(count - 1, 1))] for i in range(count)))
