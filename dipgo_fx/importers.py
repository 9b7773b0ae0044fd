"""Other methods' schedules as plans, so that a comparison differs in nothing but the schedule.

What is read is the schedule and the paths of the loop's blocks; no other method's package is needed.
All but `taylorseer` repeat values (`reuse`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .arguments import check, checked_model
from .errors import PlanError
from .loop import Loop
from .passes import HISTORY, find_blocks
from .passes.forward_slot import ForwardSlot
from .passes.graph_writer import MODEL
from .plan import Plan

__all__ = ["deepcache", "observed", "smoothcache", "step_mask", "taylorseer", "tgate"]

LAYERS = 3  # a DeepCache branch is 3 * level + layer
CROSS_ATTENTION = "attn2"  # its name in diffusers' transformer blocks

Schedule = Mapping[str, Sequence[int]]


def deepcache(loop: Loop, cache_interval: int, cache_branch_id: int = 0) -> Plan:
    """Return the uniform schedule of DeepCache (Ma et al. 2024) on a U-Net.

    Every `cache_interval`-th step runs whole; the others run what lies above the branch. The result
    equals that of the DeepCache 0.1.1 package bit for bit. It may cost less: what nobody reads does
    not run.

    Args:
        loop: a traced U-Net of granularity `block`. `branch` gives the same result at a little more
            cost, as what lies between a transformer's branches runs; `stage` does only for branches
            between stages.
        cache_interval: 1 or more; 1 prunes nothing.
        cache_branch_id: `3 * level + layer`. The level counts the down blocks from the input, the layer
            counts a level's resnets, then its downsampler.

    As in the package, calls of the model at one timestep (Heun, PNDM's warm-up) count as one step.

    Raises:
        ValueError: an interval or a branch out of range.
        PlanError: a loop that is no U-Net's, or whose blocks the branch cuts.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("unet"), num_inference_steps=4)
        >>> plan = dipgo_fx.importers.deepcache(loop, cache_interval=2, cache_branch_id=0)
        >>> [f"{kept:.2f}" for kept in plan.kept_by_step()]
        ['1.00', '0.08', '1.00', '0.08']
    """
    _check_loop(loop)
    _check_whole(cache_interval=cache_interval, cache_branch_id=cache_branch_id)
    if cache_interval < 1:
        raise ValueError(f"cache_interval must be at least 1, got {cache_interval}")
    runs = _UNet(loop).above(cache_branch_id)
    first_call = [loop.facts.timesteps.index(timestep) for timestep in loop.facts.timesteps]
    return _plan(loop, lambda t, n: first_call[t] % cache_interval == 0 or runs[n])


def smoothcache(loop: Loop, schedule: Schedule | str | Path) -> Plan:
    """Return a schedule of SmoothCache (Liu et al. 2025): a 0 or 1 for each component and step.

    The result equals that of the dit-smoothcache 0.1.1 package bit for bit.

    Args:
        loop: a traced transformer of granularity `branch`.
        schedule: from a component's name inside its block (`attn1`, `ff`) to a list of T values, 1 to
            compute and 0 to repeat; or the path of a JSON file with such a mapping. `attn1-3` means the
            `attn1` of block 3 and goes before `attn1`. Components without a list, and step 0, are
            always computed, as in the package.

    Raises:
        PlanError: a name that no block has, a list of another length, values other than 0 and 1.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4, granularity="branch")
        >>> plan = dipgo_fx.importers.smoothcache(loop, {"attn1": [1, 0, 1, 0], "ff": [1, 1, 1, 0]})
        >>> [f"{kept:.2f}" for kept in plan.kept_by_step()]
        ['1.00', '0.66', '1.00', '0.06']
    """
    _check_loop(loop)
    lists = _read(schedule)
    names = [_component_names(path) for path in loop.blocks]
    known = {name for pair in names for name in pair}
    unknown = [name for name in lists if name not in known]
    if unknown:
        raise PlanError(
            f"the schedule has {unknown}, but the blocks at granularity {loop.facts.granularity!r} are "
            f"named {sorted(pair[-1] for pair in set(names))}: trace with granularity='branch', or "
            "rename the schedule's components"
        )
    for name, values in lists.items():
        _check_mask(loop, values, f"schedule[{name!r}]")
    rows = [next((lists[name] for name in pair if name in lists), None) for pair in names]

    def keeps(t: int, n: int) -> bool:
        row = rows[n]
        return t == 0 or row is None or bool(row[t])

    return _plan(loop, keeps)


def step_mask(loop: Loop, mask: Sequence[int], *, first_blocks: int = 0, last_blocks: int = 0) -> Plan:
    """Return a static mask over steps: where it is 0, blocks repeat their last output.

    This is the schedule of step caches such as cache-dit's SCM. Those repeat what the middle blocks
    *added* to a stream; a plan repeats what blocks returned, so results differ.

    Args:
        loop: a traced loop.
        mask: T values, 1 to compute a step whole and 0 to repeat; the first is 1.
        first_blocks: how many blocks in front of the repeated ones are kept at every step. Whoever
            reads them repeats, so a block that nobody else reads is dropped again.
        last_blocks: how many blocks behind the repeated ones run at every step, the output head
            among them.

    Raises:
        PlanError: a mask of another length, values other than 0 and 1, or a 0 at the start.
        ValueError: first and last blocks that are negative or more than there are.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4)
        >>> plan = dipgo_fx.importers.step_mask(loop, [1, 0, 0, 1])
        >>> plan.ratio
        0.5
    """
    _check_loop(loop)
    _check_whole(first_blocks=first_blocks, last_blocks=last_blocks)
    count = len(loop.blocks)
    if first_blocks < 0 or last_blocks < 0 or first_blocks + last_blocks > count:
        raise ValueError(
            f"first_blocks and last_blocks must lie between 0 and {count} together, the number of "
            f"blocks; got {first_blocks} and {last_blocks}"
        )
    _check_mask(loop, mask, "mask")
    if not mask[0]:
        raise PlanError("mask[0] must be 1: step 0 has no earlier value to repeat")
    return _plan(loop, lambda t, n: bool(mask[t]) or n < first_blocks or n >= count - last_blocks)


def observed(model: nn.Module, run: Callable[[], object], block: str | None = None) -> list[int]:
    """Return for each call of a model in a run whether a block was computed: 1, or 0 where a cache did not.

    So the decisions of caches that decide while they run (MagCache, TeaCache, First Block Cache, cache-dit)
    become a static schedule: `step_mask(loop, observed(pipe.transformer, lambda: pipe("a fox")))`. Where
    guidance is two calls per step, every second entry is of the same condition.

    Args:
        model: the denoiser, with the other cache enabled.
        run: calls it, as a pipeline does.
        block: path of the block to watch; that in the middle of the model if omitted.

    Raises:
        ValueError: a path that is no module of the model, or a run that does not call the model.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> model, scheduler = load("dit")
        >>> loop = dipgo_fx.trace(model, scheduler, num_inference_steps=4)
        >>> timestep, labels = torch.tensor([500]), torch.tensor([3])
        >>> dipgo_fx.importers.observed(model, lambda: model(torch.randn(1, 1, 8, 8), timestep, labels))
        [1]
    """
    model = checked_model(model)
    check("run", run, Callable, "a function without arguments that runs the model")
    check("block", block, (str, type(None)), "the path of a block, or None")
    stages = find_blocks(model, "stage")
    path = stages[len(stages) // 2] if block is None else block
    if path not in dict(model.named_modules()):
        raise ValueError(f"block must be the path of a module such as {stages[0]!r}, got {block!r}")
    found: list[int] = []

    def of_model(*args: Any, **kwargs: Any) -> Any:
        found.append(0)
        return own_model(*args, **kwargs)

    def of_block(*args: Any, **kwargs: Any) -> Any:
        if found:
            found[-1] = 1
        return own_block(*args, **kwargs)

    slots = ForwardSlot(model), ForwardSlot(model.get_submodule(path))
    own_model, own_block = (slot.current for slot in slots)
    with slots[0].replaced(of_model), slots[1].replaced(of_block):
        run()
    if not found:
        raise ValueError(f"run must call the {type(model).__name__}, which was not called")
    return found


def tgate(loop: Loop, gate_step: int) -> Plan:
    """Return a schedule after T-GATE (Zhang et al. 2024): cross-attention stops at a step.

    From `gate_step` on every cross-attention repeats its output of the step before. T-GATE also
    averages that output over the two halves of the guidance and drops one half afterwards, which a
    plan does not do.

    Args:
        loop: a traced model with cross-attentions of granularity `branch`.
        gate_step: first step that repeats, from 1 to T; T prunes nothing.

    Raises:
        ValueError: a step out of range.
        PlanError: a loop whose granularity has no cross-attention of its own.

    Example:
        >>> from diffusers import DDIMScheduler, PixArtTransformer2DModel
        >>> heads = {"num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16}
        >>> sizes = {"sample_size": 8, "in_channels": 2, "out_channels": 4, "caption_channels": 12}
        >>> model = PixArtTransformer2DModel(num_layers=2, **heads, **sizes)
        >>> loop = dipgo_fx.trace(model, DDIMScheduler(), num_inference_steps=4, granularity="branch")
        >>> plan = dipgo_fx.importers.tgate(loop, gate_step=2)
        >>> plan.keep[:, [path.endswith("attn2") for path in loop.blocks]].all(dim=1).tolist()
        [True, True, False, False]
    """
    _check_loop(loop)
    _check_whole(gate_step=gate_step)
    if not 1 <= gate_step <= loop.num_steps:
        raise ValueError(f"gate_step must lie between 1 and {loop.num_steps}, the steps, got {gate_step}")
    cross = [path.rpartition(".")[2] == CROSS_ATTENTION for path in loop.blocks]
    if not any(cross):
        raise PlanError(
            f"no block of {loop.facts.model} at granularity {loop.facts.granularity!r} is a "
            f"cross-attention ({CROSS_ATTENTION}): trace a text-conditioned model with "
            "granularity='branch'"
        )
    return _plan(loop, lambda t, n: t < gate_step or not cross[n])


def taylorseer(loop: Loop, cache_interval: int, *, max_order: int = 1, first_steps: int = 3) -> Plan:
    """Return the schedule and forecast of TaylorSeer (Liu et al. 2025), as diffusers 0.42 runs it.

    Every block but the output head runs at the first steps and then at every `cache_interval`-th; in
    between its output is a Taylor series about its last computed value, with differences between
    computed values for derivatives. The result is that of `apply_taylorseer_cache` with float32 factors
    and patterns that match the loop's blocks, up to rounding.

    Args:
        loop: a traced loop.
        cache_interval: 1 or more; 1 prunes nothing.
        max_order: 1 or 2; fewer where too few values were computed so far.
        first_steps: diffusers' `disable_cache_before_step`, at least 1.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=6)
        >>> plan = dipgo_fx.importers.taylorseer(loop, cache_interval=2)
        >>> plan.keep[:, 0].tolist()
        [True, True, True, False, True, False]
    """
    _check_loop(loop)
    _check_whole(cache_interval=cache_interval, max_order=max_order, first_steps=first_steps)
    if cache_interval < 1 or first_steps < 1 or not 1 <= max_order < HISTORY:
        raise ValueError(
            "expected cache_interval and first_steps of at least 1 and max_order from 1 to "
            f"{HISTORY - 1}, got {cache_interval}, {first_steps} and {max_order}"
        )
    _refuse_split(loop)
    head = {path for path in loop.blocks[-1:] if "." not in path}
    keep = torch.zeros(loop.num_steps, len(loop.blocks), dtype=torch.bool)
    keep[:, [path in head for path in loop.blocks]] = True
    weights = torch.zeros(*keep.shape, HISTORY, dtype=torch.float64)
    computed: list[int] = []
    for t in range(loop.num_steps):
        if t < first_steps or (t - first_steps - 1) % cache_interval == 0:
            keep[t] = True
            computed.insert(0, t)
        else:
            weights[t] = _taylor_weights(t, computed[: max_order + 1])
    return Plan.from_keep(loop, keep, weights=weights)


def _taylor_weights(t: int, computed: Sequence[int]) -> torch.Tensor:
    """Return what a Taylor series at step `t` takes of the values at the steps `computed`, newest first."""
    value = torch.eye(HISTORY, dtype=torch.float64)
    ahead, weights = t - computed[0], value[0].clone()
    if len(computed) > 1:
        gap = computed[0] - computed[1]
        slope = (value[0] - value[1]) / gap
        weights += ahead * slope
        if len(computed) > 2:
            earlier = (value[1] - value[2]) / (computed[1] - computed[2])
            weights += ahead**2 / 2 * (slope - earlier) / gap
    return weights


@dataclass(frozen=True)
class _Layer:
    """A layer of a U-Net: entry `index` of the module list `kind` of a stage."""

    side: str
    stage: int
    kind: str
    index: int


class _UNet:
    """The layers of a U-Net behind the blocks of a loop, read from the blocks' paths."""

    STAGE = re.compile(r"(down|up)_blocks\.(\d+)$")
    LAYER = re.compile(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)(?:\.|$)")

    def __init__(self, loop: Loop) -> None:
        _refuse_split(loop)
        self.facts = loop.facts
        self.layers = {path: tuple(self._layers(loop, path)) for path in loop.blocks}
        every = {layer for layers in self.layers.values() for layer in layers}
        self.resnets = Counter((x.side, x.stage) for x in every if x.kind == "resnets")
        down, up = (sum(side == s for s, _ in self.resnets) for side in ("down", "up"))
        if not down or down != up:
            raise PlanError(
                f"DeepCache needs a U-Net with as many up_blocks as down_blocks that hold resnets; the "
                f"blocks of {self.facts.model} at granularity {self.facts.granularity!r} show {down} and {up}"
            )
        self.levels = down

    def above(self, branch: int) -> list[bool]:
        """Tell for each block whether it runs at the steps that repeat the rest.

        Blocks outside of the U-Net's halves and middle, such as the output head, always do.
        """
        level, layer = divmod(branch, LAYERS)
        if not 0 <= level < self.levels or layer > self.resnets["down", level]:
            raise ValueError(
                f"cache_branch_id must be {LAYERS} * level + layer with level below {self.levels} and layer "
                f"at most the level's number of resnets, got {branch}"
            )
        return [self._runs(path, level, layer) for path in self.facts.blocks]

    def _runs(self, path: str, level: int, layer: int) -> bool:
        if path.split(".")[0] == "mid_block":
            return False
        # A downsampler below the branch has no reader at those steps, so it may as well run.
        parts = [x for x in self.layers[path] if x.kind != "downsamplers"] or self.layers[path]
        answers = {self._is_above(x, level, layer) for x in parts} or {True}
        if len(answers) > 1:
            raise PlanError(
                f"branch {LAYERS * level + layer} cuts through {path!r}, which is one block at granularity "
                f"{self.facts.granularity!r}: trace with granularity='block'"
            )
        return answers.pop()

    def _is_above(self, part: _Layer, level: int, layer: int) -> bool:
        """Tell whether DeepCache computes a layer at every step."""
        own_level = part.stage if part.side == "down" else self.levels - 1 - part.stage
        if own_level != level:
            return own_level < level
        count = self.resnets[part.side, part.stage]
        if part.side == "down":
            at = {"resnets": part.index, "attentions": part.index, "downsamplers": count}.get(part.kind, 0)
            return at < layer
        last = count - 1
        at = {"resnets": last - part.index, "attentions": last - part.index}.get(part.kind, 0)
        return at <= layer

    def _layers(self, loop: Loop, path: str) -> Iterator[_Layer]:
        """Yield the layers that a block is, is inside of, or holds."""
        if match := self.LAYER.match(path):
            side, stage, kind, index = match.groups()
            yield _Layer(side, int(stage), kind, int(index))
        elif match := self.STAGE.match(path):
            side, stage = match.groups()
            for kind, child in loop.get_submodule(f"{MODEL}.{path}").named_children():
                if isinstance(child, nn.ModuleList):
                    yield from (_Layer(side, int(stage), kind, index) for index in range(len(child)))


def _plan(loop: Loop, keeps: Callable[[int, int], bool]) -> Plan:
    """Return the plan of a rule over steps and block numbers."""
    _refuse_split(loop)
    blocks = range(len(loop.blocks))
    return Plan.from_keep(loop, torch.tensor([[keeps(t, n) for n in blocks] for t in range(loop.num_steps)]))


def _check_loop(loop: object) -> None:
    check("loop", loop, Loop, "a loop that trace() returned")


def _check_whole(**numbers: object) -> None:
    for name, number in numbers.items():
        check(name, number, Integral, "a whole number")


def _refuse_split(loop: Loop) -> None:
    """Raise `PlanError` for a loop of split guidance: other methods call the model once a step."""
    if loop.facts.guidance.split:
        raise PlanError("schedules of other methods are for loops traced without split_guidance")


def _component_names(path: str) -> tuple[str, str]:
    """Return the names by which SmoothCache knows a module: with its block's index, and without."""
    *_, block, component = ("", "", *path.split("."))
    return f"{component}-{block}", component


def _read(schedule: Schedule | str | Path) -> Schedule:
    """Return a schedule, from a file if it is a path."""
    check(
        "schedule", schedule, (Mapping, str, Path), "a mapping of components to lists, or a JSON file's path"
    )
    if isinstance(schedule, (str, Path)):
        try:
            schedule = json.loads(Path(schedule).read_text(encoding="utf-8"))
        except ValueError as error:
            raise PlanError(f"{schedule} is not a JSON file: {error}") from error
    if not isinstance(schedule, Mapping):
        raise PlanError(f"a schedule maps components to lists of 0 and 1, got {type(schedule).__name__}")
    return schedule


def _check_mask(loop: Loop, mask: object, name: str) -> None:
    if not isinstance(mask, Sequence) or len(mask) != loop.num_steps:
        got = len(mask) if isinstance(mask, Sequence) else type(mask).__name__
        raise PlanError(
            f"{name} must be a list of {loop.num_steps} values, one for each call of the model, got {got}"
        )
    strange = [value for value in mask if value not in (0, 1)]
    if strange:
        raise PlanError(f"{name} may only hold 0 and 1, got {strange[0]!r}")
