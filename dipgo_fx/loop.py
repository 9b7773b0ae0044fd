"""A denoising loop as a graph, and the facts it was traced from."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, get_args
from weakref import WeakValueDictionary

import torch
from torch import fx

from .cuda_graphs import outliving
from .errors import PlanError
from .guidance import NO_GUIDANCE, Guidance
from .passes import Blocks, Granularity
from .passes.base import written_class
from .passes.blocks import path_of
from .passes.graph_state import GraphState, graph_of, state_of
from .passes.graph_writer import attribute
from .passes.share_calls import PREFIX as CALL
from .passes.share_calls import part_key, share_calls


@dataclass(frozen=True)
class LoopFacts:
    """What a loop was traced from; a plan carries the same facts and fits only an equal loop.

    Attributes:
        model: class name of the denoiser.
        scheduler: class name of the scheduler.
        num_inference_steps: what `set_timesteps` was given.
        timesteps: noise levels of the T calls of the model, in order.
        blocks: names of the N blocks, in the order in which the model calls them: their paths in the
            model. Where guidance is split those of the unconditional call come first, with
            `@unconditional` at their end.
        granularity: which modules are blocks, `own` for those of a caller's function.
        guidance: how a step calls the model.
    """

    model: str
    scheduler: str
    num_inference_steps: int
    timesteps: tuple[float, ...]
    blocks: tuple[str, ...]
    granularity: Granularity
    guidance: Guidance = field(default=NO_GUIDANCE)

    def __post_init__(self) -> None:
        """Raise `PlanError` for facts that no loop has."""
        sound = {
            "model": isinstance(self.model, str),
            "scheduler": isinstance(self.scheduler, str),
            "num_inference_steps": type(self.num_inference_steps) is int and self.num_inference_steps > 0,
            "timesteps": type(self.timesteps) is tuple and all(map(_is_number, self.timesteps)),
            "blocks": type(self.blocks) is tuple and all(map(_is_name, self.blocks)),
            "granularity": self.granularity in get_args(Granularity),
            "guidance": _is_guidance(self.guidance),
        }
        for name, is_sound in sound.items():
            if not is_sound:
                raise PlanError(f"{name} of facts cannot be {getattr(self, name)!r:.200}")
        if len({*self.blocks}) != len(self.blocks):
            raise PlanError(f"blocks of facts must have names of their own, got {self.blocks!r:.200}")

    @property
    def chosen(self) -> Blocks:
        """Which modules of a model are the blocks: a kind of them, or their paths where a caller chose."""
        return (
            self.granularity if self.granularity != "own" else tuple(dict.fromkeys(map(path_of, self.blocks)))
        )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_guidance(value: Any) -> bool:
    if type(value) is not Guidance or type(value.split) is not bool:
        return False
    return value.scale is None or _is_number(value.scale)


def _is_name(value: object) -> bool:
    """Tell whether a value is a name that may be printed."""
    return isinstance(value, str) and value.isprintable()


# The graph goes another way; a compiled call and hooks belong to the process.
UNPICKLED = frozenset({"_graph", "_compiled_call_impl", "_compiled", "_forward_hooks", "_forward_pre_hooks"})


class Loop(fx.GraphModule):
    """A denoising loop: `loop(sample, **conditioning, generator=None)` returns the final sample.

    Conditioning goes by the argument names of `model.forward`. One graph serves every batch size. The
    loop shares the model's parameters: their device, dtype and later edits follow. A loop that is cast from
    float32 also casts to the new dtype what the model's Python casts to float32; trace the cast model
    where that matters.

    Like a stock pipeline it records no gradients, see `records_gradients`.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4)
        >>> isinstance(loop, torch.fx.GraphModule), loop.num_steps, loop.facts.scheduler
        (True, 4, 'DDIMScheduler')
        >>> loop(torch.randn(3, 1, 8, 8), class_labels=torch.tensor([1, 2, 3])).shape
        torch.Size([3, 1, 8, 8])
    """

    _records_gradients: bool | None = None
    _compiled: Compiled | None = None

    @property
    def facts(self) -> LoopFacts:
        """What the loop was traced from."""
        if "facts" not in self.meta:
            raise TypeError("this loop must come from trace(), prune() or apply()")
        facts: LoopFacts = self.meta["facts"]
        return facts

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the N blocks, in the order in which the model calls them."""
        return self.facts.blocks

    @property
    def num_steps(self) -> int:
        """T, the number of calls of the model."""
        return len(self.facts.timesteps)

    @property
    def records_gradients(self) -> bool:
        """Whether a call keeps what a backward pass needs: the activations of every step.

        False unless it was set, but for a net whose gates or weights are inputs, there to be learned.
        """
        if self._records_gradients is None:
            return bool(self.meta.get("learnable"))
        return self._records_gradients

    @records_gradients.setter
    def records_gradients(self, value: bool) -> None:
        self._records_gradients = value

    def _without_gradients(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.records_gradients or not torch.is_grad_enabled():
            return run(*args, **kwargs)
        with torch.no_grad():
            return run(*args, **kwargs)

    def compile(self, **options: Any) -> None:
        """Compile the model's part of a step once for all steps that make it alike, with `torch.compile`.

        The time that takes depends neither on the number of steps nor on how many run, as that of
        `torch.compile(loop)` does, which makes one graph of all. Loops of one model share what is alike, at
        other ratios too. Whatever runs beside the model, a scheduler's arithmetic, stays as it is.

        Args:
            options: of `torch.compile`; `fullgraph` is True unless said otherwise.
        """
        self._compile(options)

    def _compile(self, options: dict[str, Any]) -> Compiled:
        if self.meta.get("stage") == "supernet":
            raise TypeError("a loop whose gates are inputs looks at their values: compile a plan's loop")
        shared = share_calls(self)
        for name, part in list(shared.named_children()):
            if name.startswith(CALL):
                setattr(shared, name, _compiled_part(part, {"fullgraph": True, **options}))
        held = {str(node.target) for node in self.graph.nodes if node.op in ("call_module", "get_attr")}
        compiled = Compiled(shared, options, {target: attribute(self, target) for target in held})
        object.__setattr__(self, "_compiled", compiled)
        return compiled

    def recompile(self) -> Any:
        """Make `forward` anew from the graph; what `compile` made of the one before is forgotten."""
        code = super().recompile()
        own: Any = type(self)
        own.forward = _as_compiled(own.forward)
        object.__setattr__(self, "_compiled", None)
        return code

    def __deepcopy__(self, memo: dict[int, Any]) -> Loop:
        """Return a loop with weights of its own."""
        copied: Any = super().__deepcopy__(memo)
        loop: Loop = copied._like(self.__dict__, copied.meta)
        return loop

    def __copy__(self) -> Loop:
        """Return a loop that shares the weights."""
        copied: Any = written_class(self)(self, self.graph)
        loop: Loop = copied._like(self.__dict__, dict(self.meta))
        return loop

    def __reduce__(self) -> tuple[Any, ...]:
        """Hand the graph over as it is; a GraphModule would be traced anew and lose its tags."""
        state = {name: value for name, value in self.__dict__.items() if name not in UNPICKLED}
        return _restored, (written_class(self), state, state_of(self.graph))

    def _like(self, state: dict[str, Any], meta: dict[str, Any]) -> Loop:
        """Take over what a GraphModule does not of the `__dict__` of a loop with the same graph."""
        self.meta, self.training = meta, state["training"]
        self._records_gradients = state.get("_records_gradients")
        self._non_persistent_buffers_set |= state["_non_persistent_buffers_set"] & set(self._buffers)
        return self


@dataclass(frozen=True)
class Compiled:
    """What `Loop.compile` made: the shared calls, its options, and the parts of the model that they call."""

    shared: fx.GraphModule
    options: dict[str, Any]
    parts: dict[str, Any]

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """Stay with its loop: a copy is not compiled."""


COMPILED_PARTS: WeakValueDictionary[Hashable, fx.GraphModule] = WeakValueDictionary()
"""What loops compiled and still hold: another loop of the same model, at another ratio say, takes it over."""


def _compiled_part(part: Any, options: dict[str, Any]) -> fx.GraphModule:
    """Return a part that computes the same of the same model and is compiled with the same options."""
    found = COMPILED_PARTS.setdefault((part_key(part), repr(sorted(options.items()))), part)
    if found is part:
        part.compile(**options)
        compiled: Any = part._compiled_call_impl
        part._compiled_call_impl = outliving(compiled, options)
    return found


def _as_compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `forward` without gradients, which goes to the shared calls once there are any."""

    @functools.wraps(forward)
    def run(self: Loop, *args: Any, **kwargs: Any) -> Any:
        compiled = self._compiled
        if compiled is None or torch.compiler.is_compiling():
            return self._without_gradients(functools.partial(forward, self), *args, **kwargs)
        if any(attribute(self, target) is not part for target, part in compiled.parts.items()):
            compiled = self._compile(compiled.options)  # the model was moved or got other parts
        return self._without_gradients(compiled.shared, *args, **kwargs)

    return run


def _restored(kind: type[Loop], state: dict[str, Any], nodes: GraphState) -> Loop:
    """Undo `Loop.__reduce__`."""
    root = torch.nn.Module()
    root.__dict__.update(state)
    return kind(root, graph_of(nodes))._like(state, state["meta"])
