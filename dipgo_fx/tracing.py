"""`trace`: a model and a scheduler become one `torch.fx.GraphModule` of the whole denoising loop."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from .arguments import check_loop_arguments, check_shared_names, checked_model
from .conditioning import tensors
from .denoise import denoise, prepared
from .guidance import Guidance
from .inputs import InputGuard, example_conditioning, example_sample
from .loop import Loop, LoopFacts
from .passes import Blocks, LoopRecorder, TraceError, find_blocks, granularity_of
from .passes.forward_slot import ForwardSlot
from .passes.graph_writer import parts_of
from .passes.stored_weights import compute_device, without_autocast
from .passes.uncompiled import refuse_wrapped_parts

GUARD = "_inputs"
UNRELATED = DataDependentOutputException, DynamicOutputShapeException, TraceError
"""What goes wrong inside a model whatever has rows."""
MOST_GUESSED = 2
"""How many tensors without rows are looked for where the examples do not tell them; more must be named."""


@torch.inference_mode(False)  # its tensors could not tell whether they were edited
def trace(
    model: nn.Module,
    scheduler: Any,
    num_inference_steps: int = 50,
    *,
    sample: torch.Tensor | None = None,
    conditioning: Mapping[str, Any] | None = None,
    guidance_scale: float | None = None,
    split_guidance: bool = False,
    granularity: Blocks = "block",
    shared: Collection[str] | None = None,
) -> Loop:
    """Return the unpruned loop as a graph; its output equals the eager loop's bit for bit.

    Args:
        model: a diffusers denoiser (U-Net or transformer); left as found.
        scheduler: a diffusers scheduler; left as found.
        num_inference_steps: steps as the scheduler counts them, at least 1.
        sample: example of the initial noise, `(any batch, ...)`; made from `model.config` if omitted.
        conditioning: examples of the other arguments of `model.forward`, any number of rows; made from
            `model.config` if omitted. What is no tensor (`None`, numbers, texts) becomes part of the graph.
        guidance_scale: if given, conditioning has 2 * batch rows, unconditional first.
        split_guidance: call the model once for the unconditional rows and once for the conditional
            ones, so that a plan can skip either. The same numbers up to rounding.
        granularity: which modules are blocks, a word or a function `(path, module) -> bool`; see
            `dipgo_fx.passes.find_blocks`.
        shared: names of the tensors in `conditioning` that all samples share, position ids say, dotted where
            they are nested; if omitted they are found by trying: none, those whose examples have other rows
            than the sample's, or as few as the model can run with, at most two.

    The model gets the scheduler's timesteps as they are. Where a pipeline hands on others (that of Flux
    divides them by 1000), wrap the model, or search with `prune_pipeline`, which records that loop.

    A compiled model is traced as it was written; modules compiled in place (`block.compile()`) stay compiled
    in the loop; parts that `torch.compile(part)` wrapped are refused.

    Raises:
        TraceError: the model's or scheduler's Python cannot be recorded; names the module.
        TypeError: an argument of another kind, by name.
        ValueError: shapes that neither the arguments nor `model.config` give; `split_guidance` without
            guidance; `shared` names of no tensor.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> model, scheduler = load("dit")  # draws digits of 8 by 8 pixels; shipped with this package
        >>> loop = dipgo_fx.trace(model, scheduler, num_inference_steps=4)
        >>> loop.num_steps, len(loop.blocks), loop.blocks[-1]
        (4, 9, 'proj_out_2')
        >>> loop(torch.randn(2, 1, 8, 8), class_labels=torch.tensor([3, 7])).shape
        torch.Size([2, 1, 8, 8])
    """
    model = checked_model(model)
    check_loop_arguments(
        model, scheduler, num_inference_steps, sample, conditioning, guidance_scale, split_guidance, shared
    )
    refuse_wrapped_parts(model)
    num_inference_steps = int(num_inference_steps)
    guidance = Guidance(None if guidance_scale is None else float(guidance_scale), split_guidance)
    sample = example_sample(model) if sample is None else sample
    conditioning = example_conditioning(model) if conditioning is None else dict(conditioning)
    own = prepared(scheduler, num_inference_steps)

    def record(shared: frozenset[str]) -> LoopRecorder:
        """Record the loop with these tensors shared by all samples."""
        # The paper's stages leave the output head alone.
        recorder = LoopRecorder(
            model, find_blocks(model, granularity), granularity != "stage", guidance.calls
        )
        x, inputs = recorder.inputs(GUARD, sample, conditioning, guidance.rows, shared)
        stepped = copy.deepcopy(own)
        with without_autocast(compute_device(model)), ForwardSlot(model).unpruned(), recorder.recording():
            result = denoise(model, stepped, x, inputs, guidance, shared=shared, on_step=recorder.start_step)
        recorder.refuse_scales()
        recorder.mark_sample(len(own.timesteps), result)
        recorder.output(result)
        return recorder

    without_rows, recorder = _recorded(record, conditioning, shared, guidance.rows * len(sample))
    facts = LoopFacts(
        model=type(model).__name__,
        scheduler=type(scheduler).__name__,
        num_inference_steps=num_inference_steps,
        timesteps=tuple(t.item() for t in own.timesteps),
        blocks=tuple(recorder.called_blocks),
        granularity=granularity_of(granularity),
        guidance=guidance,
    )
    guard = InputGuard(sample, conditioning, guidance.rows, without_rows)
    return assemble(model, recorder.graph, recorder.constants, guard, facts)


def _recorded(
    record: Callable[[frozenset[str]], LoopRecorder],
    conditioning: Mapping[str, Any],
    shared: Collection[str] | None,
    rows: int,
) -> tuple[frozenset[str], LoopRecorder]:
    """Return which tensors all samples share, and the recording that takes them so.

    A tensor without rows meets others of fixed size in the model, one with rows others of the batch size:
    the wrong guess fails at the first call of the model. After none, those are tried whose examples cannot
    be the `rows` of the sample's.
    """
    given = tensors(conditioning)
    always = frozenset(name for name, tensor in given.items() if tensor.dim() == 0)
    if shared is not None:
        check_shared_names(shared, given)
        names = always.union(shared)
        return names, record(names)
    maybe = [name for name in given if name not in always]
    guess = tuple(name for name in maybe if len(given[name]) not in (1, rows))
    subsets = (itertools.combinations(maybe, count) for count in range(1, MOST_GUESSED + 1))
    failed: TraceError | None = None
    for chosen in itertools.chain([(), guess], *subsets):
        try:
            return always.union(chosen), record(always.union(chosen))
        except TraceError as error:
            if isinstance(error.__cause__, UNRELATED):
                raise
            failed = failed or error
    assert failed is not None
    if not maybe:
        raise failed
    raise TraceError(f"{failed}; name in shared= those of {maybe} that have no row per sample") from failed


def guard_of(loop: Loop) -> InputGuard:
    """Return what checks the inputs of a loop, and knows their shapes."""
    return loop.get_submodule(GUARD)  # type: ignore[return-value]


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
