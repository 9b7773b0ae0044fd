"""The loop of a stock pipeline as a graph: its own Python is recorded, from the first latents to the last."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .denoiser import ForwardSlot
from .guidance import Guidance
from .inputs import InputGuard
from .lanes import CallArguments, joined
from .loop import Loop, LoopFacts
from .passes import Granularity, LoopRecorder, TraceError, find_blocks
from .passes.unify_rows import ROWS, unify_rows
from .step_clock import stepped_sample
from .tracing import GUARD, assemble

SOURCES = ("encode_prompt", "prepare_latents")
"""The methods of a pipeline whose results are the inputs of its loop."""


class _Enough(BaseException):
    """Ends a call of a pipeline from inside; no `except Exception` of its own may stop it."""


@dataclass(frozen=True)
class PipelineInputs:
    """What a pipeline made of prompts before its loop.

    Attributes:
        results: of the methods in `SOURCES`, in the order in which the pipeline called them.
        samples: how many samples the prompts are.
        rows: rows of the sample in the model's first call.
        calls: how often the pipeline calls the model at the first step.
    """

    results: tuple[tuple[str, Any], ...]
    samples: int
    rows: int
    calls: int

    @property
    def leaves(self) -> dict[str, torch.Tensor]:
        """All tensors among the results by name; the first one of `prepare_latents` is the `sample`."""
        named: dict[str, torch.Tensor] = {}
        for index, (method, result) in enumerate(self.results):
            tensors = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            for number, tensor in enumerate(tensors):
                is_sample = method == "prepare_latents" and number == 0
                named["sample" if is_sample else f"{method}_{index}_{number}"] = tensor
        return named


def capture(
    pipe: Any,
    model: nn.Module,
    prompts: list[str],
    call: Mapping[str, Any],
    *,
    first_step: bool = False,
) -> PipelineInputs:
    """Return what a pipeline makes of prompts before its loop.

    Args:
        call: further arguments of the pipeline.
        first_step: run the first step too, to see how it calls the model.
    """
    results: list[tuple[str, Any]] = []
    rows: list[int] = []

    def noting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            results.append((name, method(*args, **kwargs)))
            return results[-1][1]

        return noted

    def forward(*args: Any, **kwargs: Any) -> Any:
        rows.append(CallArguments.of(model, args, kwargs).rows)
        if not first_step:
            raise _Enough
        return type(model).forward(model, *args, **kwargs)

    def step(*args: Any, **kwargs: Any) -> Any:
        raise _Enough

    with as_found(pipe) as state, _forward_of(model, forward):
        state |= {name: noting(name, getattr(pipe, name)) for name in SOURCES if hasattr(pipe, name)}
        state["scheduler"].step = step
        with _until_enough():
            pipe(**_asked(prompts, call))
    if not any(name == "prepare_latents" for name, _ in results):
        raise TraceError(
            f"{type(pipe).__name__} has no prepare_latents, where its loop starts: search a plan "
            "with dipgo_fx.prune(model, scheduler, ...) instead"
        )
    return PipelineInputs(tuple(results), len(prompts), rows[0], len(rows))


def trace_pipeline(
    pipe: Any,
    model: nn.Module,
    call: Mapping[str, Any],
    *,
    split_guidance: bool = True,
    granularity: Granularity = "block",
) -> Loop:
    """Return the loop of `pipe(prompts, **call)`; its inputs are what `PipelineInputs.leaves` names.

    Guidance, schedulers and scaling are the pipeline's own Python. Under guidance the two conditions are
    calls of their own if `split_guidance` says so, see `trace`.

    Raises `TraceError` for Python that cannot be recorded.
    """
    two, three = (capture(pipe, model, [""] * n, call, first_step=n == 2) for n in (2, 3))
    varying = _rows_of(two, three)
    calls = _calls(two, split_guidance)
    recorded = [_record(pipe, model, two, varying, n, call, calls, granularity) for n in ROWS]
    recorder, scheduler = recorded[0]
    constants = unify_rows(recorder, recorded[1][0])
    leaves = two.leaves
    facts = LoopFacts(
        model=type(model).__name__,
        scheduler=type(scheduler).__name__,
        num_inference_steps=_argument(pipe, call, "num_inference_steps"),
        timesteps=tuple(scheduler.timesteps.tolist()),
        blocks=tuple(sorted(recorder.called_blocks, key=lambda name: not name.endswith("@unconditional"))),
        granularity=granularity,
        guidance=_guidance(pipe, call, two, calls),
    )
    guard = InputGuard(leaves["sample"], {name: leaves[name] for name in varying if name != "sample"}, 1)
    return assemble(model, recorder.graph, constants, guard, facts)


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
    varying: list[str],
    rows: int,
    call: Mapping[str, Any],
    calls: tuple[str, ...],
    granularity: Granularity,
) -> tuple[LoopRecorder, Any]:
    """Return the recorder of a pipeline's run with `rows` samples, and the scheduler that it used."""
    recorder = _PipelineRecorder(model, find_blocks(model, granularity), granularity != "stage", calls, rows)
    leaves = inputs.leaves
    given = {name: leaves[name] for name in varying if name != "sample"}
    sample, conditioning = recorder.inputs(GUARD, leaves["sample"], given, 1)
    named = iter({**leaves, **conditioning, "sample": sample}.values())
    results = [
        (name, pytree.tree_map_only(torch.Tensor, lambda _: next(named), result))
        for name, result in inputs.results
    ]
    final: list[torch.Tensor] = []
    with as_found(pipe) as state:
        scheduler = state["scheduler"]
        own_step, index = scheduler.step, 0

        @functools.wraps(own_step)  # pipelines read its signature
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal index
            if index == 0:
                recorder.mark_sample(0, stepped_sample(own_step, args, kwargs))
            result = own_step(*args, **kwargs)
            index += 1
            if index == len(scheduler.timesteps):
                final.append(result[0])
                raise _Enough
            recorder.start_step(index, result[0])
            return result

        scheduler.step = step
        state |= {name: _given(results, name) for name, _ in results}
        with ForwardSlot(model).bare(), _until_enough(), recorder.recording():
            pipe(**_asked([""] * rows, call))
    if not final:
        raise TraceError(f"the loop of {type(pipe).__name__} ended before its scheduler's last step")
    recorder.mark_sample(len(scheduler.timesteps), final[0])
    recorder.output(final[0])
    return recorder, scheduler


def _asked(prompts: list[str], call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a pipeline's call; some pipelines want a negative prompt for each prompt."""
    asked = {
        name: [value] * len(prompts)
        if name.startswith("negative_prompt") and isinstance(value, str)
        else value
        for name, value in call.items()
    }
    return {"prompt": prompts, **asked}


def _given(results: list[tuple[str, Any]], name: str) -> Callable[..., Any]:
    """Return a method that gives what was captured, one result a call."""
    mine = iter([result for method, result in results if method == name])
    return lambda *args, **kwargs: next(mine)


def _rows_of(two: PipelineInputs, three: PipelineInputs) -> list[str]:
    """Return the names of the inputs with a row a sample: those that grow with the prompts."""
    found = []
    for name, tensor in two.leaves.items():
        other = three.leaves[name]
        if tensor.shape == other.shape and torch.equal(tensor, other):
            continue
        if tensor.shape[:1] != (two.samples,) or other.shape != (three.samples, *tensor.shape[1:]):
            raise TraceError(
                f"{name} has shape {tuple(tensor.shape)} for {two.samples} prompts and {tuple(other.shape)} "
                f"for {three.samples}: expected one row a sample"
            )
        found.append(name)
    return found


def _calls(inputs: PipelineInputs, split: bool) -> tuple[str, ...]:
    """Return the names of the model's calls in a step, in order."""
    if inputs.calls == 2:  # stock pipelines make the conditional call first
        return "", "unconditional"
    if inputs.calls != 1:
        raise TraceError(
            f"the pipeline calls its model {inputs.calls} times a step; one or two can be recorded"
        )
    return ("unconditional", "") if split and inputs.rows == 2 * inputs.samples else ("",)


def _guidance(pipe: Any, call: Mapping[str, Any], inputs: PipelineInputs, calls: tuple[str, ...]) -> Guidance:
    if len(calls) == 1 and inputs.rows == inputs.samples:
        return Guidance()
    # Where a model has a guidance of its own, the pipeline's is the "true" one.
    scales = (_argument(pipe, call, name) for name in ("true_cfg_scale", "guidance_scale"))
    scale = next((scale for scale in scales if scale is not None), None)
    if scale is None:
        raise TraceError(f"{type(pipe).__name__} guides its model, but takes no guidance_scale")
    return Guidance(float(scale), split=len(calls) == 2)


def _argument(pipe: Any, call: Mapping[str, Any], name: str) -> Any:
    """Return an argument of a pipeline's call, its default if it is not given, `None` if there is none."""
    parameters = inspect.signature(type(pipe).__call__).parameters
    return call.get(name, parameters[name].default if name in parameters else None)


@contextmanager
def as_found(pipe: Any) -> Iterator[dict[str, Any]]:
    """Lend a pipeline's attributes, with a scheduler of their own; afterwards it is as it was."""
    state = vars(pipe)
    before = dict(state)
    state["scheduler"] = copy.deepcopy(pipe.scheduler)
    state["_progress_bar_config"] = {**getattr(pipe, "_progress_bar_config", {}), "disable": True}
    try:
        yield state
    finally:
        state.clear()
        state.update(before)


@contextmanager
def _forward_of(model: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    slot = ForwardSlot(model)
    before = slot.current
    slot.put(forward)
    try:
        yield
    finally:
        slot.restore()
        if slot.current != before:
            slot.put(before)


@contextmanager
def _until_enough() -> Iterator[None]:
    with torch.no_grad(), suppress(_Enough):
        yield
