"""The loop of a stock pipeline as a graph: its own Python is recorded, from the first latents to the last."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import fx, nn
from torch.utils import _pytree as pytree

from ..arguments import check
from ..frozen import frozen
from ..guidance import Guidance
from ..inputs import InputGuard
from ..loop import Loop, LoopFacts
from ..own_draws import own_draws
from ..passes import Blocks, LoopRecorder, TraceError, find_blocks, granularity_of
from ..passes.blocks import call_of
from ..passes.drop_dead_blocks import erase_dead_nodes
from ..passes.forward_slot import ForwardSlot
from ..passes.stored_weights import awake, compute_device
from ..passes.tags import tag
from ..passes.unify_rows import ROWS, unify_rows
from ..tracing import GUARD, assemble
from .call_arguments import CallArguments, joined
from .capturing import PipelineInputs, Rows, capture, rows_of, watched
from .denoiser import only_denoiser
from .graphs import RECORDED
from .lending import Enough, attention_as_found, cut_short
from .pipeline_call import ArgumentsFor, blank_prompts, check_call, check_inputs, completed
from .step_clock import stepped_sample
from .step_watcher import conditional


@torch.inference_mode(False)  # its tensors could not tell whether they were edited
def trace_pipeline(
    pipe: DiffusionPipeline,
    *,
    inputs: ArgumentsFor | None = None,
    split_guidance: bool = False,
    granularity: Blocks = "block",
    **call: Any,
) -> Loop:
    """Return the unpruned loop of `pipe(...)` as one graph: to write a plan for it, or to import one.

    It is what `prune_pipeline` searches on. Prompts do not matter, as nothing is computed.

    Args:
        pipe: a diffusers pipeline that has `prepare_latents`; left as found. If it perturbs attention, the
            loop serves for plans only: run by itself it has the attention that is left on the model.
        inputs: for pipelines that take more than prompts, as for `prune_pipeline`.
        split_guidance: have the two conditions of guidance as calls of their own, with blocks of their own.
        granularity: which modules are blocks, as for `trace`.
        **call: further arguments of `pipe(...)`, as for `prune_pipeline`.

    Raises:
        TypeError: an argument of another kind or that the pipeline does not take, by name.
        TraceError: Python that cannot be recorded; names the module.

    Example:
        >>> from diffusers import StableDiffusionPipeline
        >>> pipe = StableDiffusionPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5")
        >>> loop = dipgo_fx.trace_pipeline(pipe, num_inference_steps=4)
        >>> every_other = dipgo_fx.importers.step_mask(loop, [1, 0, 1, 0])
        >>> forward = dipgo_fx.enable(pipe, every_other)
    """
    check("pipe", pipe, DiffusionPipeline, "a diffusers DiffusionPipeline (a modular one will not do)")
    check_inputs(inputs)
    check("split_guidance", split_guidance, bool, "True or False")
    model = only_denoiser(pipe)
    find_blocks(model, granularity)  # refuses an unknown one
    check_call(pipe, call, inputs is not None)
    arguments_for = completed(inputs or blank_prompts, call)
    with frozen(model), attention_as_found(pipe):
        return record_pipeline(
            pipe, model, arguments_for, split_guidance=split_guidance, granularity=granularity
        )


def record_pipeline(
    pipe: Any,
    model: nn.Module,
    arguments_for: ArgumentsFor,
    *,
    split_guidance: bool = True,
    granularity: Blocks = "block",
) -> Loop:
    """Return the loop of `pipe(**arguments_for(n))` for any n; `inputs_of` gives what it takes.

    Guidance, schedulers and scaling are the pipeline's own Python. Under guidance the two conditions are
    calls of their own if `split_guidance` says so, see `trace`.

    Raises `TraceError` for Python that cannot be recorded.
    """
    two, three = (capture(pipe, model, arguments_for, n, first_step=n == 2) for n in (2, 3))
    rows = rows_of(two, three)
    calls = _calls(two, split_guidance)
    recorded = [_record(pipe, model, two, rows, n, arguments_for, calls, granularity) for n in ROWS]
    recorder, scheduler, timesteps = recorded[0]
    constants = unify_rows(recorder, recorded[1][0])
    facts = LoopFacts(
        model=type(model).__name__,
        scheduler=type(scheduler).__name__,
        num_inference_steps=_steps(pipe, arguments_for(2)),
        timesteps=timesteps,
        blocks=tuple(sorted(recorder.called_blocks, key=call_of, reverse=True)),  # unconditional ones first
        granularity=granularity_of(granularity),
        guidance=_guidance(pipe, arguments_for(2), two, calls),
    )
    conditioning = two.by_sample(rows)
    loop = assemble(
        model, recorder.graph, constants, InputGuard(conditioning.pop("sample"), conditioning, 1), facts
    )
    loop.meta["rows"] = rows
    return loop


def check_first_step(
    pipe: Any, model: nn.Module, loop: Loop, arguments_with: Callable[[torch.Generator], ArgumentsFor]
) -> None:
    """Raise `TraceError` unless the recorded loop makes of two samples what the pipeline makes of them.

    One step is compared, of which kernels and the order of sums may change the last digits; many steps may
    make anything of those.

    Args:
        arguments_with: the arguments of the pipeline's call, given a generator.
    """
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    inputs = inputs_of(loop, capture(pipe, model, arguments_with(generators[0]), 2))
    # The noise of a step comes after that of the latents.
    with awake(model):
        found = _first_step(loop)(**inputs, generator=generators[0])
    samples: list[torch.Tensor] = []

    def step(own_step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        samples.append(own_step(*args, **kwargs)[0])
        raise Enough

    with cut_short(pipe, step), ForwardSlot(model).unpruned(), own_draws(compute_device(model)):
        pipe(**arguments_with(generators[1])(2))
    (expected,) = samples
    margin = RECORDED * float(expected.abs().max())
    if not torch.allclose(found, expected, rtol=RECORDED, atol=margin):
        raise TraceError(
            f"the recorded loop of {type(pipe).__name__} makes other samples than the pipeline: its Python "
            "does something between the calls of its model that was not seen"
        )


def _first_step(loop: Loop) -> fx.GraphModule:
    """Return the first step of a loop as a graph of its own."""
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    graph.graph_copy(loop.graph, copies)
    graph.output(next(copies[node] for node in loop.graph.nodes if 1 in (tag(node, "starts") or ())))
    erase_dead_nodes(graph)
    return fx.GraphModule(loop, graph)


def inputs_of(loop: Loop, captured: PipelineInputs) -> dict[str, torch.Tensor]:
    """Return what the recorded loop of a pipeline takes of what the pipeline made."""
    taken = {str(node.target) for node in loop.graph.nodes if node.op == "placeholder"}
    rows: Mapping[str, Rows] = loop.meta["rows"]
    return {name: tensor for name, tensor in captured.by_sample(rows).items() if name in taken}


class _PipelineRecorder(LoopRecorder):
    """Records the model's calls of a pipeline; those that hold both conditions of guidance as two."""

    def _module(self, call: Callable[..., Any], module: nn.Module, path: str, args: Any, kwargs: Any) -> Any:
        if path != "":
            return super()._module(call, module, path, args, kwargs)
        arguments = CallArguments.of(module, args, kwargs)
        arguments = CallArguments(pytree.tree_map_only(torch.Tensor, self._as_recorded, arguments.named))
        if len(self._calls) == 1 or arguments.rows == self.batch:
            return super()._module(call, module, path, (), arguments.named)
        record = super()._module
        return joined([record(call, module, path, (), half.named) for half in arguments.halves()])

    def _as_recorded(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a fake tensor for a real one, a timestep say: the model must not see its value."""
        if id(tensor) in self._recorded:
            return tensor
        return self._stand_in(tensor, self._tensor(tensor))


def _record(
    pipe: Any,
    model: nn.Module,
    inputs: PipelineInputs,
    rows: Mapping[str, Rows],
    samples: int,
    arguments_for: ArgumentsFor,
    calls: tuple[str, ...],
    granularity: Blocks,
) -> tuple[LoopRecorder, Any, tuple[float, ...]]:
    """Return the recorder of a pipeline's run with so many samples, its scheduler, and its timesteps.

    Some pipelines end before the last of the scheduler's timesteps (Sana-Sprint, Stable Cascade), and so does
    a run with `denoising_end`.
    """
    recorder = _PipelineRecorder(
        model, find_blocks(model, granularity), granularity != "stage", calls, samples
    )
    given = inputs.by_sample(rows)
    sample, conditioning = recorder.inputs(GUARD, given.pop("sample"), given, 1)
    made: list[torch.Tensor] = []
    # Before recording starts, so that the caller's Python is not recorded; nor is decoding, should a run that
    # ends early reach it.
    arguments = {**_without_decoding(pipe), **arguments_for(samples)}

    def step(own_step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Tell the recorder where a step ends, and end the pipeline after the last."""
        if not made:
            recorder.mark_sample(0, stepped_sample(own_step, args, kwargs))
        result = own_step(*args, **kwargs)
        made.append(result[0])
        recorder.start_step(len(made), result[0])
        if len(made) == len(scheduler.timesteps):
            raise Enough
        return result

    with cut_short(pipe, step) as state, awake(model), ForwardSlot(model).bare():
        scheduler = state["scheduler"]
        state |= watched(pipe, _stand_ins(inputs, {**conditioning, "sample": sample}, rows))
        with recorder.recording():
            pipe(**arguments)
        _check_says_its_end(pipe, len(made), len(scheduler.timesteps))
    recorder.refuse_scales()
    recorder.output(made[-1])
    return recorder, scheduler, tuple(scheduler.timesteps.tolist()[: len(made)])


def _check_says_its_end(pipe: Any, steps: int, timesteps: int) -> None:
    """Raise `TraceError` if a loop ends early and its pipeline does not say so: a run could not know."""
    if getattr(pipe, "num_timesteps", None) != steps:
        raise TraceError(
            f"the loop of {type(pipe).__name__} ended after {steps} of its scheduler's {timesteps} timesteps "
            "and pipe.num_timesteps does not say so: search a plan with dipgo_fx.prune(model, scheduler, ...)"
        )


def _without_decoding(pipe: Any) -> dict[str, Any]:
    """Return the arguments of a call that ends at the latents, if it knows such."""
    return (
        {"output_type": "latent"}
        if "output_type" in inspect.signature(type(pipe).__call__).parameters
        else {}
    )


def _stand_ins(
    inputs: PipelineInputs, fakes: Mapping[str, torch.Tensor], rows: Mapping[str, Rows]
) -> Callable[[str, Callable[[], Any]], Any]:
    """Return what gives a pipeline the inputs of the graph where its own methods would make them anew."""
    names = iter(inputs.leaves)
    results = []
    for method, result in inputs.results:
        leaves = [next(names) for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        results.append((method, result, leaves))
    coming = iter(results)

    def handle(method: str, run: Callable[[], Any]) -> Any:
        """Return what the method made when it was captured, with fake tensors where it has rows."""
        noted, result, leaves = next(coming, (method, None, []))
        if noted != method:
            raise TraceError(
                f"the pipeline calls {method} where it called {noted} for {inputs.samples} samples"
            )
        if not any(name in rows for name in leaves):
            return run()
        left = iter(leaves)

        def given(tensor: torch.Tensor) -> torch.Tensor:
            name = next(left)
            return rows[name].as_made(fakes[name]) if name in rows else tensor

        return pytree.tree_map_only(torch.Tensor, given, result)

    return handle


def _calls(inputs: PipelineInputs, split: bool) -> tuple[str, ...]:
    """Return the names of the model's calls in a step, in order; calls apart of a batched one by rows."""
    if inputs.calls == 2 and inputs.weights:
        return _names(conditional(inputs.weights, 0))
    if inputs.calls != 1:
        raise TraceError(
            f"the pipeline calls its model {inputs.calls} times per step; one or two with as many rows can "
            "be recorded"
        )
    is_doubled = split and inputs.rows == 2 * inputs.samples
    return _names(conditional(inputs.weights, 1)) if is_doubled else ("",)


def _names(of_condition: int) -> tuple[str, ...]:
    return ("", "unconditional") if of_condition == 0 else ("unconditional", "")


def _guidance(pipe: Any, call: Mapping[str, Any], inputs: PipelineInputs, calls: tuple[str, ...]) -> Guidance:
    if len(calls) == 1 and inputs.rows == inputs.samples:
        return Guidance()
    # Where a model has a guidance of its own, the pipeline's is the "true" one.
    scales = (_argument(pipe, call, name) for name in ("true_cfg_scale", "guidance_scale"))
    scale = next((scale for scale in scales if scale is not None), None)
    if scale is None:
        raise TraceError(f"{type(pipe).__name__} guides its model, but takes no guidance_scale")
    return Guidance(float(scale), split=len(calls) == 2)


def _steps(pipe: Any, call: Mapping[str, Any]) -> int:
    """Return the number of inference steps: of timesteps or sigmas that are given, else as the call says."""
    given = next((call[name] for name in ("timesteps", "sigmas") if call.get(name) is not None), None)
    return int(_argument(pipe, call, "num_inference_steps")) if given is None else len(given)


def _argument(pipe: Any, call: Mapping[str, Any], name: str) -> Any:
    """Return an argument of a pipeline's call, its default if it is not given, `None` if there is none."""
    parameters = inspect.signature(type(pipe).__call__).parameters
    return call.get(name, parameters[name].default if name in parameters else None)
