"""`enable`: a plan inside a stock diffusers pipeline, whose own Python keeps running around it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline

from ..arguments import check, check_ratio
from ..deriving import at_ratio
from ..errors import PlanError
from ..passes.forward_slot import ForwardSlot
from ..passes.uncompiled import without_wrapper
from ..plan import Plan
from .denoiser import denoisers_of, parts, refuse_caches
from .graphs import Graphs
from .pruned_forward import PipelineRun, PrunedForward, check_scheduler

COMPILE_OPTIONS = frozenset(inspect.signature(torch.compile).parameters) - {"model"}


def enable(
    pipe: DiffusionPipeline,
    plan: Plan,
    *,
    ratio: float | None = None,
    compile: bool | Mapping[str, Any] = False,
) -> PrunedForward:
    """Let a stock pipeline run by a plan: `pipe(...)` then computes of its denoiser what the plan keeps.

    Only the denoiser's `forward` is replaced (and, where the plan has the conditions of guidance apart, the
    scheduler's `step` watched once a run), so callbacks, guidance, adapters, offloading and precision stay
    the pipeline's own. Enabling again takes another plan or ratio; what both need is traced and compiled
    once. Another number of steps follows the plan's frontier, as in `apply`. A strength below 1 starts at a
    later step, which then runs whole, by the dearest plan of the frontier that is within the ratio there.
    Where two denoisers of the plan's class take turns (Wan 2.2), the first step of each runs whole.

    Args:
        pipe: has a denoiser of the plan's class, or more, and a scheduler of the plan's class.
        plan: as `prune` found it, `Plan.load` read it or `Plan.from_keep` wrote it.
        ratio: another share of MACs to remove, in [0, 1), from the plan's frontier; its own if omitted.
        compile: compile each distinct step with `torch.compile(fullgraph=True)`, twice where its weights
            differ from step to step; a mapping holds further options of it.

    The result tells which plan runs, after a run the one of that run, and what it holds in memory; of two
    denoisers it is the first one's, with the memory of both. Undo it with `disable`.

    Raises:
        PlanError: the plan is for another model or scheduler, or holds nothing for this ratio.
        TypeError: an argument of another kind, by name.
        ValueError: a ratio out of range; a denoiser that is compiled as a whole, or that another cache has.

    While the pipeline runs: `TraceError` for a model whose Python cannot be recorded, `PlanError` for another
    scheduler or a step count that the plan has nothing for, `RuntimeError` for a loop that does not walk
    through its scheduler's timesteps.

    Example:
        >>> from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
        >>> small = {"sample_size": 8, "block_out_channels": (8, 8), "norm_num_groups": 4}
        >>> kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
        >>> pipe = DDIMPipeline(UNet2DModel(**small, **kinds), DDIMScheduler())
        >>> loop = dipgo_fx.trace(pipe.unet, pipe.scheduler, num_inference_steps=4)
        >>> keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
        >>> keep[1::2] = False
        >>> plan = dipgo_fx.Plan.from_keep(loop, keep)  # or one that prune_pipeline found

        >>> pipe.set_progress_bar_config(disable=True)
        >>> forward = dipgo_fx.enable(pipe, plan)
        >>> image = pipe(num_inference_steps=4).images[0]  # half of the MACs
        >>> forward.plan.ratio
        0.5
        >>> dipgo_fx.disable(pipe)
    """
    check("pipe", pipe, DiffusionPipeline, "a diffusers DiffusionPipeline (a modular one will not do)")
    check("plan", plan, Plan, "a dipgo_fx.Plan, as Plan.load() returns it")
    check("compile", compile, (bool, Mapping), "True, False or a mapping of options of torch.compile")
    unknown = (
        [name for name in compile if name not in COMPILE_OPTIONS] if isinstance(compile, Mapping) else []
    )
    if unknown:
        raise ValueError(f"compile has {unknown}, but torch.compile takes {sorted(COMPILE_OPTIONS)}")
    if ratio is not None:
        check_ratio(ratio)
        plan = _at_ratio(plan, float(ratio))
    options = None if compile is False else {"fullgraph": True, **({} if compile is True else compile)}
    slots = [ForwardSlot(module) for module in denoisers_of(pipe, plan.facts.model)]
    check_scheduler(pipe, plan)
    for slot in slots:
        refuse_caches(slot.module)
        if not (slot.is_own or isinstance(slot.current, PrunedForward)):
            name = getattr(slot.current, "__qualname__", type(slot.current).__name__)
            raise ValueError(
                f"the forward of {plan.facts.model} belongs to another cache already ({name}): disable that "
                "one first"
            )
    run = PipelineRun(pipe)
    for slot in slots:
        graphs = Graphs(slot.module, plan.facts, options)
        if isinstance(slot.current, PrunedForward):
            slot.current.leave()
            graphs = slot.current.graphs if slot.current.graphs.is_like(graphs) else graphs
        run.forwards.append(PrunedForward(run, slot.module, plan, graphs))
        slot.put(run.forwards[-1])
    return run.forwards[0]


def disable(pipe: DiffusionPipeline) -> None:
    """Let a pipeline run as before `enable`; nothing happens if it was not enabled.

    Example:
        >>> from diffusers import DDIMPipeline
        >>> from dipgo_fx.demo.models import load
        >>> unet, scheduler = load("unet")
        >>> dipgo_fx.disable(DDIMPipeline(unet, scheduler))
    """
    check("pipe", pipe, DiffusionPipeline, "a diffusers DiffusionPipeline (a modular one will not do)")
    for module in parts(pipe).values():
        slot = ForwardSlot(without_wrapper(module))  # it may have been compiled since
        if isinstance(slot.current, PrunedForward):
            slot.current.leave()
            slot.restore()


@contextmanager
def enabled(
    pipe: DiffusionPipeline,
    plan: Plan,
    *,
    ratio: float | None = None,
    compile: bool | Mapping[str, Any] = False,
) -> Iterator[PrunedForward]:
    """`enable` for a `with` block; at its end the pipeline is as before, whatever happens inside.

    Example:
        >>> from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
        >>> small = {"sample_size": 8, "block_out_channels": (8, 8), "norm_num_groups": 4}
        >>> kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
        >>> pipe = DDIMPipeline(UNet2DModel(**small, **kinds), DDIMScheduler())
        >>> loop = dipgo_fx.trace(pipe.unet, pipe.scheduler, num_inference_steps=4)
        >>> keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
        >>> keep[1::2] = False
        >>> plan = dipgo_fx.Plan.from_keep(loop, keep)  # or one that prune_pipeline found

        >>> pipe.set_progress_bar_config(disable=True)
        >>> with dipgo_fx.enabled(pipe, plan):
        ...     pruned = pipe(num_inference_steps=4, generator=torch.Generator().manual_seed(0)).images
        >>> full = pipe(num_inference_steps=4, generator=torch.Generator().manual_seed(0)).images
    """
    check("pipe", pipe, DiffusionPipeline, "a diffusers DiffusionPipeline (a modular one will not do)")
    slots = [ForwardSlot(without_wrapper(module)) for module in parts(pipe).values()]
    before = [(slot, slot.current) for slot in slots if isinstance(slot.current, PrunedForward)]
    forward = enable(pipe, plan, ratio=ratio, compile=compile)
    try:
        yield forward
    finally:
        disable(pipe)
        for slot, earlier in before:
            slot.put(earlier)


def _at_ratio(plan: Plan, ratio: float) -> Plan:
    if ratio == plan.ratio:
        return plan
    if plan.cost is None:
        raise PlanError(
            "this plan does not know what its loop costs: dipgo_fx.apply it once and save its plan anew"
        )
    return at_ratio(plan, ratio, plan.cost)
