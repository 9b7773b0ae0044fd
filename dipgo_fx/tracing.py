"""`trace`: a model and a scheduler become one `torch.fx.GraphModule` of the whole denoising loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from .inputs import InputGuard, example_conditioning, example_sample
from .loop import denoise, forward_parameters, prepared
from .passes.blocks import Granularity, find_blocks
from .passes.recorder import MODEL
from .passes.trace import LoopRecorder

if TYPE_CHECKING:
    from .plan import Plan
    from .report import Report

GUARD = "_inputs"
UNCONDITIONAL = "@unconditional"


@dataclass(frozen=True)
class LoopFacts:
    """What a loop was traced from; a plan carries the same facts and fits only an equal loop.

    Attributes:
        model: class name of the denoiser.
        scheduler: class name of the scheduler.
        num_inference_steps: what `set_timesteps` was given.
        timesteps: noise levels of the T calls of the model, in order.
        blocks: paths of the N blocks, in the order in which the model calls them; under `split_guidance`
            first all of the unconditional call, with the suffix `@unconditional`.
        granularity: which modules are blocks.
        guidance_scale: classifier-free guidance, or `None`.
        split_guidance: whether the two halves of guidance are calls of their own.
    """

    model: str
    scheduler: str
    num_inference_steps: int
    timesteps: tuple[float, ...]
    blocks: tuple[str, ...]
    granularity: Granularity
    guidance_scale: float | None
    split_guidance: bool = False

    @property
    def halves(self) -> int:
        """How many calls of the model a step makes, each with N / halves of the blocks."""
        return 1 + self.split_guidance

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as plain values for a file."""
        return asdict(self)


class Loop(fx.GraphModule):
    """A denoising loop: `loop(sample, **conditioning, generator=None)` returns the final sample.

    Conditioning goes by the argument names of `model.forward`. One graph serves every batch size. The
    loop shares the model's parameters: their device, dtype and later edits follow.
    """

    @property
    def facts(self) -> LoopFacts:
        """What the loop was traced from."""
        facts: LoopFacts = self.meta["facts"]
        return facts

    @property
    def blocks(self) -> tuple[str, ...]:
        """Paths of the N blocks, in the order in which the model calls them."""
        return self.facts.blocks

    @property
    def plan(self) -> Plan:
        """The `Plan` that was compiled; an unpruned loop has none."""
        plan: Plan = self._made("plan")
        return plan

    @property
    def report(self) -> Report:
        """The `Report` of the compilation; an unpruned loop has none."""
        report: Report = self._made("report")
        return report

    def _made(self, name: str) -> Any:
        # Not AttributeError: nn.Module would hide its message.
        if name not in self.meta:
            raise ValueError(f"this loop was traced, not pruned: it has no {name}; see prune() and apply()")
        return self.meta[name]

    @property
    def num_steps(self) -> int:
        """T, the number of calls of the model."""
        return len(self.facts.timesteps)


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
        model: a diffusers denoiser (U-Net or transformer), left as found.
        scheduler: a diffusers scheduler, left as found.
        num_inference_steps: steps as the scheduler counts them, at least 1.
        sample: example of the initial noise, `(any batch, ...)`; made from `model.config` if omitted.
        conditioning: examples of the other arguments of `model.forward`, any number of rows; made from
            `model.config` if omitted.
        guidance_scale: if given, conditioning has 2 * batch rows, unconditional first.
        split_guidance: call the model once for the unconditional rows and once for the conditional
            ones, so that a plan can skip either. The same numbers up to rounding.
        granularity: which modules are blocks, see `dipgo_fx.passes.find_blocks`.

    Raises:
        TraceError: the model's or scheduler's Python cannot be recorded; names the module.
        ValueError: shapes that neither the arguments nor `model.config` give; `split_guidance` without
            guidance.
    """
    if split_guidance and guidance_scale is None:
        raise ValueError("split_guidance needs a guidance_scale: without guidance there is one call a step")
    own = prepared(scheduler, num_inference_steps)
    sample = example_sample(model) if sample is None else sample
    conditioning = example_conditioning(model) if conditioning is None else dict(conditioning)
    _check_names(model, conditioning)
    rows = 1 if guidance_scale is None else 2

    # The paper's stages leave the output head alone.
    suffixes = (UNCONDITIONAL, "") if split_guidance else ("",)
    recorder = LoopRecorder(model, find_blocks(model, granularity), granularity != "stage", suffixes)
    x, inputs = recorder.inputs(GUARD, sample, conditioning, rows)
    with recorder.recording():
        result = denoise(
            model,
            own,
            x,
            inputs,
            guidance_scale=guidance_scale,
            split_guidance=split_guidance,
            on_step=recorder.start_step,
        )
    recorder.mark_sample(len(own.timesteps), result)
    recorder.output(result)

    facts = LoopFacts(
        model=type(model).__name__,
        scheduler=type(scheduler).__name__,
        num_inference_steps=num_inference_steps,
        timesteps=tuple(t.item() for t in own.timesteps),
        blocks=tuple(recorder.called_blocks),
        granularity=granularity,
        guidance_scale=guidance_scale,
        split_guidance=split_guidance,
    )
    return _assemble(model, recorder, InputGuard(sample, conditioning, rows), facts)


def _assemble(model: nn.Module, recorder: LoopRecorder, guard: InputGuard, facts: LoopFacts) -> Loop:
    attributes: dict[str, Any] = {GUARD: guard, **recorder.constants}
    for node in recorder.graph.nodes:
        target = str(node.target)
        if node.op in ("call_module", "get_attr") and target not in attributes:
            attributes[target] = _part(model, target.removeprefix(f"{MODEL}."))
    loop = Loop(attributes, recorder.graph)
    loop.training = model.training
    loop.meta = {"stage": "loop", "facts": facts}
    return loop


def _part(model: nn.Module, path: str) -> Any:
    """Return a submodule, parameter or buffer of a model."""
    owner, _, name = path.rpartition(".")
    return getattr(model.get_submodule(owner), name)


def _check_names(model: nn.Module, conditioning: Mapping[str, Any]) -> None:
    accepted = set(forward_parameters(model))
    unknown = [name for name in conditioning if name not in accepted]
    if unknown:
        raise ValueError(
            f"conditioning has {unknown}, but {type(model).__name__}.forward takes {sorted(accepted)}"
        )
