"""How alike what a block returns at one step is to what it returns at another: what there is to reuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from .arguments import check
from .loop import Loop
from .passes.tags import is_block_output, tag

ENTRIES = 8192
"""Most entries of a block's output that are compared; of larger ones as many, at places drawn at random."""


@torch.no_grad()
def measure_similarity(
    loop: Loop,
    sample: torch.Tensor,
    conditioning: Mapping[str, Any] | None = None,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, torch.Tensor]:
    """Return for each block how alike its outputs are between all pairs of steps, see figure 7 of DiP-GO.

    That is the cosine of the whole outputs, all samples together: 1 where they point the same way, whatever
    their sizes. Of outputs with more than 8192 entries that many are compared, always at the same places.

    Args:
        loop: an unpruned loop of T steps, as `trace` returns it.
        sample: initial noise `(n, channels, ...)`, as the loop takes it.
        conditioning: the other arguments of the loop; none if omitted.
        generator: source of the noise that a stochastic scheduler draws.

    The result maps names of blocks to symmetric float64 tensors `(T, T)` in [-1, 1], for
    `Report.html(similarity=...)`. It costs one run of the unpruned loop, and memory for 32 KiB a block and
    step.

    Raises:
        TypeError: an argument of another kind, by name.
        ValueError: a pruned loop, other conditioning than the loop takes, outputs that are not finite.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4)
        >>> noise, labels = torch.ones(1, 1, 8, 8), torch.tensor([3])
        >>> maps = dipgo_fx.measure_similarity(loop, noise, {"class_labels": labels})
        >>> maps["transformer_blocks.0"].shape
        torch.Size([4, 4])
    """
    given = _checked(loop, sample, conditioning, generator)
    watched = _Watched(loop)
    watched.run(*(given.get(str(node.target)) for node in loop.graph.nodes if node.op == "placeholder"))
    return {block: _cosines(watched.outputs_of(block)) for block in loop.blocks}


def _checked(loop: Any, sample: Any, conditioning: Any, generator: Any) -> dict[str, Any]:
    """Return all inputs of the loop by name."""
    check("loop", loop, Loop, "a loop, as trace() returns it")
    check("sample", sample, torch.Tensor, "a tensor like the initial noise")
    check("conditioning", conditioning, (Mapping, type(None)), "a mapping of the loop's other arguments")
    check("generator", generator, (torch.Generator, type(None)), "a torch.Generator, or None")
    if loop.meta.get("stage") != "loop":
        raise ValueError("loop must be unpruned: in a pruned one blocks have no outputs at some steps")
    taken = [str(node.target) for node in loop.graph.nodes if node.op == "placeholder"]
    given = dict(conditioning or {})
    wanted = {*taken} - {"sample", "generator"}
    if {*given} != wanted:
        raise ValueError(f"conditioning must hold {sorted(wanted) or 'nothing'}, got {sorted(given)}")
    return {**given, "sample": sample, "generator": generator}


class _Watched(fx.Interpreter):
    """Runs a loop and keeps some entries of what its blocks return."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.steps = loop.num_steps
        self.kept: dict[tuple[str, int], list[torch.Tensor]] = {}

    def run_node(self, node: fx.Node) -> Any:
        """Run a node; whatever changes its value in place comes later."""
        value = super().run_node(node)
        if is_block_output(node):
            self.kept.setdefault((tag(node, "block"), tag(node, "step")), []).append(_some(value))
        return value

    def outputs_of(self, block: str) -> torch.Tensor:
        """Return `(T, entries)`: all tensors that a block returns are one output."""
        outputs = torch.stack([torch.cat(self.kept[block, step]) for step in range(self.steps)])
        if not bool(torch.isfinite(outputs).all()):
            raise ValueError(f"block {block} returns values that are not finite on this sample")
        return outputs


def _some(value: torch.Tensor) -> torch.Tensor:
    """Return a copy of a tensor's entries on the host, of a large one the same few every time."""
    entries = value.flatten()
    if len(entries) > ENTRIES:
        places = torch.randint(len(entries), (ENTRIES,), generator=torch.Generator().manual_seed(0))
        entries = entries[places.to(entries.device)]
    return entries.to("cpu", torch.float32, copy=True)


def _cosines(outputs: torch.Tensor) -> torch.Tensor:
    """Return the `(T, T)` cosines of T outputs; one of zeros alone is like another such one only."""
    outputs = outputs.double()
    sizes = outputs.norm(dim=1, keepdim=True)
    is_zero = sizes == 0
    unit = outputs / sizes.masked_fill(is_zero, 1)
    cosines = (unit @ unit.T).clamp(-1, 1).fill_diagonal_(1)
    return torch.where(is_zero & is_zero.T, 1.0, cosines)
