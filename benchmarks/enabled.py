"""What a plan inside a pipeline costs a step, and what it holds, at the width of Stable Diffusion 1.5.

The U-Net has the real config and random weights; the other parts of the pipeline are tiny. Overhead: a step
by a plan that keeps all, and by one that closes a single gate at the end, beside a step of the plain
pipeline, interleaved in one process. Held: bytes of earlier steps that are alive after each step, for plans
and for the DeepCache package on the same pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import torch
from DeepCache import DeepCacheSDHelper
from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from torch.utils import _pytree as pytree
from tqdm import tqdm

import dipgo_fx
from benchmarks.architectures import SETTINGS
from benchmarks.command_line import CommandLine
from benchmarks.coverage.pipelines.stable_diffusion import sd_parts
from benchmarks.coverage.skipping import recorded
from benchmarks.tables import Row, Table, write
from dipgo_fx import Plan
from dipgo_fx.cost import LoopCost
from dipgo_fx.frontier import whole_steps_table
from dipgo_fx.importers import deepcache
from dipgo_fx.loop import LoopFacts
from dipgo_fx.passes import GateTable
from dipgo_fx.passes.forward_slot import ForwardSlot

TOKENS, MEBI = 77, 2**20
SCHEDULER = {"steps_offset": 1, "clip_sample": False}
SMOKE = {"side": 8, "held_side": 8, "steps": 4, "rounds": 1, "widths": [32, 32, 32, 32]}
OVERHEAD_NOTE = (
    "`ratio`: median time of the pipeline's loop over that of the plain pipeline, rounds interleaved; at "
    "most what is `asked`. The plan with one gate closed carries values from step to step, as any plan does."
)
HELD_NOTE = (
    "Both conditions of guidance in one call of the model. `DeepCache 0.1.1` keeps what it has cached."
)


class Pipeline:
    """Stable Diffusion with a U-Net of any width, and how it is called."""

    def __init__(self, widths: Sequence[int] | None, seed: int) -> None:
        torch.manual_seed(seed)
        config = {**SETTINGS["sd15"].config, **({"block_out_channels": widths} if widths else {})}
        unet = UNet2DConditionModel(**config).eval()
        self.pipe: Any = StableDiffusionPipeline(**sd_parts(unet=unet, scheduler=DDIMScheduler(**SCHEDULER)))
        self.pipe.set_progress_bar_config(disable=True)
        width = unet.config.cross_attention_dim
        names = ("prompt_embeds", "negative_prompt_embeds")
        self.embeds = {name: torch.randn(1, TOKENS, width) for name in names}

    def run(self, side: int, steps: int, pipe: DiffusionPipeline | None = None) -> torch.Tensor:
        """Draw one image, up to its latents of `side` x `side`."""
        size = side * self.pipe.vae_scale_factor
        given: dict[str, Any] = {**self.embeds, "height": size, "width": size, "num_inference_steps": steps}
        found: torch.Tensor = (pipe or self.pipe)(
            **given, generator=torch.Generator().manual_seed(0), output_type="latent"
        ).images
        return found

    def facts(self, side: int, steps: int) -> LoopFacts:
        """Return what plans for such a run are for."""
        return recorded(self.pipe, lambda pipe: self.run(side, steps, pipe))[1]


def overhead(subject: Pipeline, side: int, steps: int, rounds: int) -> Iterator[Row]:
    """Time the plain pipeline, and plans that skip nothing or next to nothing."""
    facts = subject.facts(side, steps)
    keep = torch.ones(steps, len(facts.blocks), dtype=torch.bool)
    one = keep.clone()
    one[-1, 0] = False
    forwards = {
        name: dipgo_fx.enable(subject.pipe, Plan(facts, GateTable.of(table), 0.0))
        for name, table in (("keeps all", keep), ("closes one gate", one))
    }
    slot, times = ForwardSlot(subject.pipe.unet), dict[str, list[float]]()
    for number in tqdm(range(rounds + 1), desc="rounds"):
        for name in ("plain pipeline", *forwards):
            if name in forwards:
                slot.put(forwards[name])
            else:
                slot.restore()
            start = time.perf_counter()
            subject.run(side, steps)
            if number:  # the first traces
                times.setdefault(name, []).append(time.perf_counter() - start)
    slot.restore()
    for name, found in times.items():
        ratio = median(found) / median(times["plain pipeline"])
        yield {"run": name, "seconds a step": median(found) / steps, "ratio": ratio, "asked": 1.02}


def held(subject: Pipeline, side: int, steps: int, ratio: float) -> Iterator[Row]:
    """Run plans at a ratio and the DeepCache package, and tell what each keeps from step to step."""
    width = subject.pipe.unet.config.cross_attention_dim
    loop = dipgo_fx.trace(
        subject.pipe.unet,
        subject.pipe.scheduler,
        steps,
        sample=torch.zeros(1, 4, side, side),
        conditioning={"encoder_hidden_states": torch.zeros(2, TOKENS, width)},
        guidance_scale=7.5,
    )
    cost, every = LoopCost.of(loop), round(1 / (1 - ratio))
    runs = (tuple(range(0, steps, every)),)
    plans = {
        "whole steps, linear": Plan(loop.facts, whole_steps_table(cost, runs), 0.0),
        f"DeepCache's schedule, interval {every}, as a plan": deepcache(loop, every),
    }
    for name, plan in plans.items():
        with dipgo_fx.enabled(subject.pipe, plan) as forward:
            subject.run(side, steps)
            found = forward.bytes_held()
        yield {"run": name, "kept": cost.kept(plan.table), **_held(max(found), found[-1])}
    held = _of_package(subject, side, steps, every)
    yield {"run": f"DeepCache 0.1.1, interval {every}", "kept": None, **_held(held, held)}


def _held(most: int, last: int) -> Row:
    return {"held at most, MiB": most / MEBI, "after the last step, MiB": last / MEBI}


def _of_package(subject: Pipeline, side: int, steps: int, every: int) -> int:
    """Return what the DeepCache package holds on the same pipeline."""
    helper = DeepCacheSDHelper(pipe=subject.pipe)
    helper.set_params(cache_interval=every, cache_branch_id=0)
    helper.enable()
    subject.run(side, steps)
    tensors = [
        leaf for leaf in pytree.tree_leaves(dict(helper.cached_output)) if isinstance(leaf, torch.Tensor)
    ]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    helper.disable()
    return sum(storages.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    made = CommandLine(__doc__, SMOKE)
    made.add_argument("--side", type=int, default=32, help="of the latents whose time is taken")
    made.add_argument("--held-side", type=int, default=64, help="of the latents of plans that hold values")
    made.add_argument("--steps", type=int, default=10)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--ratio", type=float, default=0.8)
    made.add_argument("--widths", type=int, nargs=4, help="of the U-Net's levels, the real ones if omitted")
    made.add_argument("--seed", type=int, default=0)
    options = made.read(argv)
    subject = Pipeline(options.widths, options.seed)
    with torch.no_grad():
        times = list(overhead(subject, options.side, min(4, options.steps), options.rounds))
        values = list(held(subject, options.held_side, options.steps, options.ratio))
    size = f"{options.side * 8}² pixels, one image under guidance, {min(4, options.steps)} steps"
    found = [
        Table(f"Overhead, {size}", times, OVERHEAD_NOTE, "overhead"),
        Table(f"Held, {options.held_side * 8}² pixels, {options.steps} steps", values, HELD_NOTE, "held"),
    ]
    print(
        write("enabled", "A plan inside a pipeline, at the width of Stable Diffusion 1.5", found, options.out)
    )


if __name__ == "__main__":
    main()
