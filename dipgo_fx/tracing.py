"""`trace`: a model and a scheduler become one `torch.fx.GraphModule` of the whole denoising loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from .arguments import check_loop_arguments, checked_model
from .denoise import denoise, prepared
from .guidance import Guidance
from .inputs import InputGuard, example_conditioning, example_sample
from .loop import Loop, LoopFacts
from .passes import Granularity, LoopRecorder, find_blocks
from .passes.graph_writer import parts_of
from .passes.uncompiled import refuse_wrapped_parts
from .pipelines.denoiser import ForwardSlot

GUARD = "_inputs"


def trace(
    model: nn.Module,
    scheduler: Any,
    num_inference_steps: int = 50,
    *,
    sample: torch.Tensor | None = None,
    conditioning: Mapping[str, Any] | None = None,
    guidance_scale: float | None = None,
    split_guidance: bool = False,
    granularity: Granularity = "block",
) -> Loop:
    """Return the unpruned loop as a graph; its output equals the eager loop's bit for bit.

    Args:
        model: a diffusers denoiser (U-Net or transformer); left as found.
        scheduler: a diffusers scheduler; left as found.
        num_inference_steps: steps as the scheduler counts them, at least 1.
        sample: example of the initial noise, `(any batch, ...)`; made from `model.config` if omitted.
        conditioning: examples of the other arguments of `model.forward`, any number of rows; made from
            `model.config` if omitted.
        guidance_scale: if given, conditioning has 2 * batch rows, unconditional first.
        split_guidance: call the model once for the unconditional rows and once for the conditional
            ones, so that a plan can skip either. The same numbers up to rounding.
        granularity: which modules are blocks, see `dipgo_fx.passes.find_blocks`.

    A compiled model is traced as it was written; modules compiled in place (`block.compile()`) stay compiled
    in the loop; parts that `torch.compile(part)` wrapped are refused.

    Raises:
        TraceError: the model's or scheduler's Python cannot be recorded; names the module.
        TypeError: an argument of another kind, by name.
        ValueError: shapes that neither the arguments nor `model.config` give; `split_guidance` without
            guidance.
    """
    model = checked_model(model)
    check_loop_arguments(
        model, scheduler, num_inference_steps, sample, conditioning, guidance_scale, split_guidance
    )
    refuse_wrapped_parts(model)
    num_inference_steps = int(num_inference_steps)
    guidance = Guidance(None if guidance_scale is None else float(guidance_scale), split_guidance)
    own = prepared(scheduler, num_inference_steps)
    sample = example_sample(model) if sample is None else sample
    conditioning = example_conditioning(model) if conditioning is None else dict(conditioning)

    # The paper's stages leave the output head alone.
    recorder = LoopRecorder(model, find_blocks(model, granularity), granularity != "stage", guidance.calls)
    x, inputs = recorder.inputs(GUARD, sample, conditioning, guidance.rows)
    with ForwardSlot(model).unpruned(), recorder.recording():
        result = denoise(model, own, x, inputs, guidance, on_step=recorder.start_step)
    recorder.mark_sample(len(own.timesteps), result)
    recorder.output(result)

    facts = LoopFacts(
        model=type(model).__name__,
        scheduler=type(scheduler).__name__,
        num_inference_steps=num_inference_steps,
        timesteps=tuple(t.item() for t in own.timesteps),
        blocks=tuple(recorder.called_blocks),
        granularity=granularity,
        guidance=guidance,
    )
    guard = InputGuard(sample, conditioning, guidance.rows)
    return assemble(model, recorder.graph, recorder.constants, guard, facts)


def assemble(
    model: nn.Module,
    graph: fx.Graph,
    constants: Mapping[str, torch.Tensor],
    guard: InputGuard,
    facts: LoopFacts,
) -> Loop:
    """Return the loop of a recorded graph, which shares the parts of `model` that it calls."""
    loop = Loop(parts_of(graph, model, {GUARD: guard, **constants}), graph)
    loop.training = model.training
    loop.meta = {"stage": "loop", "facts": facts}
    return loop
