"""What a search costs: unpruned runs spent, and how the memory of one gradient step grows with the steps.

`python -m benchmarks.search_cost` writes results/search_cost.md. Memory is the peak of live tensor bytes
during one gradient step through the SuperNet, counted storage by storage, less what was there before.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

import dipgo_fx
from benchmarks.tables import Row, Table, write
from dipgo_fx import PruneConfig
from dipgo_fx.arena import Arena, frozen
from dipgo_fx.calibration import calibrate
from dipgo_fx.demo.models import DigitModel, load
from dipgo_fx.macs import LoopCost


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count its new storages."""
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen[key] = storage.nbytes()
        self.current += storage.nbytes()
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.current -= self._seen.pop(key, 0)


def gradient_step(model: Any, scheduler: Any, steps: int, checkpoint: bool, samples: int) -> Row:
    """Measure one gradient step through the SuperNet of `reuse` backups, all gates half open."""
    config = PruneConfig(samples=samples, batch_size=samples, checkpoint=checkpoint)
    with frozen(model):
        loop = dipgo_fx.trace(model, scheduler, steps)
        generator = torch.Generator().manual_seed(0)
        batch = calibrate(loop, model, None, samples, 1.0, generator)
        arena = Arena(loop, LoopCost.of(loop), batch, config, generator)
        net = arena.supernet(1)
        gates = torch.full((steps, len(loop.blocks)), 0.5, requires_grad=True)
        with LiveBytes() as live:
            arena.backward(net, 1.0, batch, gates=gates)
    features = sum(
        node.meta["val"][:1].numel() * samples * 4
        for node in loop.graph.nodes
        if node.op == "call_module" and node.meta["custom"]["block"] is not None
    )
    return {
        "steps": steps,
        "checkpoint": checkpoint,
        "peak_MiB": live.peak / 2**20,
        "peak_MiB_per_step": live.peak / 2**20 / steps,
        "block_outputs_MiB": features / 2**20,
    }


def search(model: Any, scheduler: Any, steps: int, ratio: float, seed: int) -> Row:
    """Measure a default search."""
    generator = torch.Generator().manual_seed(seed)
    pruned = dipgo_fx.prune(
        model, scheduler, ratio, num_inference_steps=steps, generator=generator, progress=False
    )
    origin = pruned.plan.origin
    return {
        "steps": steps,
        "ratio": ratio,
        "full_runs": origin["full_runs"],
        "seconds": origin["seconds"],
        "rungs": len(pruned.plan.rungs),
        "loss": origin["loss"],
    }


def tables(name: DigitModel, steps: Iterable[int], samples: int, seed: int) -> list[Table]:
    """Measure memory with and without checkpoints, then searches, for every step count."""
    model, scheduler = load(name)
    cases = [(count, checkpoint) for count in steps for checkpoint in (True, False)]
    memory = [gradient_step(model, scheduler, *case, samples) for case in tqdm(cases, desc="memory")]
    runs = [search(model, scheduler, count, 0.8, seed) for count in tqdm(steps, desc="searches")]
    return [
        Table("memory", f"Memory of a gradient step, digits {name}, {samples} samples", memory),
        Table("runs", f"Default searches, digits {name}", runs),
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("dit", "unet"), default="dit")
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 20, 50])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = tables(options.model, options.steps, options.samples, options.seed)
    write("search_cost", "What a search costs", found)


if __name__ == "__main__":
    main()
