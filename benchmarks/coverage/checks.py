"""What a pipeline must do to count as covered. Each check raises where it fails, and says why."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch.utils import _pytree as pytree

import dipgo_fx
from dipgo_fx.pipelines.capturing import capture
from dipgo_fx.pipelines.denoiser import denoisers, only_denoiser
from dipgo_fx.pipelines.lending import as_found
from dipgo_fx.pipelines.pipeline_call import completed
from dipgo_fx.pipelines.tracing import inputs_of, record_pipeline

from .skipping import calls_of, recorded
from .subject import SEED, Subject

ROUNDING = 1e-4
"""How far a compiled run may be from the same run uncompiled, relative to its largest value."""
LAST_BITS = 1e-6
"""How far a recorded loop may be from the pipeline, likewise."""


def traced(subject: Subject) -> None:
    """The graph of a call of the denoiser returns what the denoiser returns, bit for bit."""
    pipe = subject.build()
    call, _ = recorded(pipe, subject.run)
    arguments = calls_of(pipe, subject.run)[0]
    with torch.no_grad():
        expected = pytree.tree_leaves(denoisers(pipe)[0](**arguments.fresh()))
        found = call.module(*arguments.tensors)
    wanted = [leaf for leaf in expected if isinstance(leaf, torch.Tensor)]
    _require(all(map(torch.equal, found, wanted)), "the graph returns other values than the denoiser")


def enabled(subject: Subject) -> None:
    """A run by a plan is one whose blocks are skipped by hand, bit for bit (law 7).

    A plan that keeps all changes nothing, and a disabled pipeline is as it was.
    """
    pipe = subject.build()
    expected = subject.run(pipe)
    before = [
        dict(vars(model)) for model in denoisers(pipe)
    ]  # after a run: some pipelines leave hooks of their own
    with dipgo_fx.enabled(pipe, subject.plan(open_share=1.1)):
        _require(torch.equal(subject.run(pipe), expected), "a plan that keeps all changes what comes out")
    plan = subject.plan()
    reference = subject.skipped(pipe, plan)
    with dipgo_fx.enabled(pipe, plan):
        for _ in range(2):
            _require(torch.equal(subject.run(pipe), reference), "a run differs from one skipped by hand")
    _require(torch.equal(subject.run(pipe), expected), "a disabled pipeline gives something else")
    _require(
        [dict(vars(model)) for model in denoisers(pipe)] == before, "disable leaves traces on the denoiser"
    )


def compiled(subject: Subject) -> None:
    """Every step of a run by a plan is one graph for `torch.compile(fullgraph=True)`.

    What the compiler's backend makes of it is not looked at: the graph runs as captured.
    """
    pipe, plan = subject.build(), subject.plan()
    with dipgo_fx.enabled(pipe, plan):
        expected = subject.run(pipe)
    torch._dynamo.reset()
    with dipgo_fx.enabled(pipe, plan, compile={"backend": "eager"}):
        found = subject.run(pipe)
    margin = ROUNDING * float(expected.abs().max())
    close = torch.allclose(found, expected, rtol=ROUNDING, atol=margin, equal_nan=True)
    _require(close, "a compiled run gives other values")


def searchable(subject: Subject, rounding: float = LAST_BITS) -> None:
    """The pipeline's whole loop is one graph, for any number of samples, that ends with its own latents.

    Up to `rounding` of their largest value: what some ControlNets make of a timestep is a constant of the
    loop, computed for another number of samples.
    """
    _require(subject.arguments is not None, "it makes one sample a call")
    assert subject.arguments is not None
    pipe = subject.build()
    model, fixed = only_denoiser(pipe), dict(subject.fixed or {})
    fixed |= {"strength": 1.0} if "strength" in fixed else {}
    loop = record_pipeline(pipe, model, completed(subject.arguments, fixed), split_guidance=False)
    generators = [torch.Generator().manual_seed(SEED) for _ in range(2)]
    captured = capture(pipe, model, completed(subject.arguments, {**fixed, "generator": generators[0]}), 3)
    found = loop(**inputs_of(loop, captured), generator=generators[0])  # goes on where the latents ended
    expected = _last_sample(pipe, {**subject.arguments(3), **fixed, "generator": generators[1]})
    margin = rounding * float(expected.abs().max())
    _require(bool((found - expected).abs().max() <= margin), "the recorded loop ends elsewhere")


CHECKS: dict[str, Callable[[Subject], None]] = {
    "traced": traced,
    "enabled": enabled,
    "compiled": compiled,
    "searchable": searchable,
}


def _last_sample(pipe: DiffusionPipeline, arguments: Mapping[str, Any]) -> torch.Tensor:
    """Return what the last step of a pipeline's scheduler returns."""
    samples: list[torch.Tensor] = []
    with as_found(pipe) as state:
        step = state["scheduler"].step

        @functools.wraps(step)  # pipelines read its signature
        def noting(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            samples.append(result[0])
            return result

        state["scheduler"].step = noting
        pipe(**arguments)
    return samples[-1]


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise AssertionError(otherwise)
