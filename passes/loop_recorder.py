"""Record a denoising loop: run its real Python on fake tensors and write down what it calls.

`torch.fx.symbolic_trace` fails on diffusers models (their control flow looks at shapes and types), so
values here are fake tensors, which have true shapes and dtypes, and the graph is written on the side.
Modules without a block inside are leaves (`call_module`); the others are entered. The model's part is
recorded at its first call and replayed at every later one, so tracing hardly depends on the number of
steps, and the steps' graphs are equal by construction.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils import _pytree as pytree

from .blocks import block_name
from .call_state import Scales, plain_state, refuse_changes, refuse_hooks, scaled, scales_of
from .errors import TraceError
from .forward_slot import parameters_of
from .graph_writer import MODEL, storage
from .lazy_caches import left_as_found
from .recorder import Recorder
from .signature import call_signature
from .stored_weights import as_computed, refuse_hidden_weights
from .tags import tag
from .uncompiled import uncompiled

logger = logging.getLogger(__name__)

ONE_AT_A_TIME = threading.RLock()
"""Held while something is recorded, as calls of all modules of the process are looked at then."""
TIMESTEP = ("timestep", "timesteps", "timestep_ratio", "t")
"""What the models of diffusers call their argument of the noise level; the sample is their first."""
SAMPLE = "sample"
"""Tag of the node that stands for the first argument; that of the other is `TIMESTEP[0]`."""


@dataclass(frozen=True)
class _Call:
    """The model's part of a step: tensors in, nodes, result, and which node stands for each tensor.

    `paths` are those of the blocks that the nodes of `body` belong to, `None` for the others; `after` is what
    stands for the inputs once the model has edited them.
    """

    inputs: list[fx.Node]
    after: list[fx.Node]
    body: list[fx.Node]
    paths: list[str | None]
    result: Any
    nodes: dict[int, fx.Node]


@dataclass(frozen=True)
class _Made:
    """A tensor that a leaf returned, and which of those that it was given has the same memory, if any."""

    value: torch.Tensor
    source: int | None


class LoopRecorder(Recorder):
    """Records a loop around `model`; its calls of `blocks` are tagged with the block's path.

    With `gate_head` the last module with weights that the model calls outside the blocks is a block
    too: closing its gate makes a whole step free. `called_blocks` lists the blocks in the order in
    which the model calls them. `calls` name the calls of the model within a step: a block's name is made
    of its path and the call's, see `block_name`.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: tuple[str, ...],
        gate_head: bool = False,
        calls: tuple[str, ...] = ("",),
        rows: int | None = None,
    ) -> None:
        super().__init__(model, rows)
        self.model = model
        self.gate_head = gate_head
        self._called: list[str] = []
        self._blocks = frozenset(blocks)
        self._entered = {"", *(p for block in blocks for p in _parents(block))}
        self._paths = {module: path for path, module in model.named_modules()}
        self._results: dict[Hashable, Any] = {}
        self._stack: list[str] = []
        self._calls = calls
        self._called_so_far = 0  # in this step
        self._edits: list[tuple[fx.Node, fx.Node]] = []  # leaves and the copies that they edit
        self._call: _Call | None = None
        self._own_scales: Scales = scales_of(model)
        self._scales: Scales | None = None  # during its first call

    @property
    def called_blocks(self) -> list[str]:
        """Names of the blocks, call by call of the model within a step."""
        return [block_name(path, call) for call in self._calls for path in self._called]

    @property
    def scales(self) -> Scales:
        """The scales of adapters' layers that the model sets for the time of its call."""
        return {layer: own for layer, own in (self._scales or {}).items() if own != self._own_scales[layer]}

    @property
    def state(self) -> dict[str, Any]:
        """What the Python of the model and of modules around its blocks may look at, see `plain_state`."""
        return plain_state(self.model, self._entered)

    def refuse_scales(self) -> None:
        """Raise `TraceError` if adapters' layers are scaled in each call: a loop calls them as they are."""
        if self.scales:
            raise TraceError(
                f"{type(self.model).__name__} scales the layers of its adapters for each call (a `scale` "
                "among its attention kwargs): set that strength once instead, as "
                'pipe.set_adapters(["name"], [0.5]) does'
            )

    def start_step(self, step: int, sample: torch.Tensor) -> None:
        """Tag what is recorded from now on with `step`, and `sample` as what the step starts from."""
        if step and not self._called_so_far:
            raise TraceError("the scheduler is stepped twice for one call of the model")
        self.step, self._called_so_far = step, 0
        self.mark_sample(step, sample)

    def mark_sample(self, step: int, sample: torch.Tensor) -> None:
        """Tag the node of `sample` as what `step` starts from; the final sample starts step T."""
        custom = self._tensor(sample).meta["custom"]
        custom["starts"] = (*custom.get("starts", ()), step)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record everything called inside. Raises `TraceError` naming the module that cannot be.

        One recording runs at a time; what other threads call meanwhile is left alone.
        """
        with ExitStack() as stack:
            stack.enter_context(ONE_AT_A_TIME)
            stack.enter_context(left_as_found(self.model))
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.random.fork_rng(devices=[]))  # a leaf's dropout draws
            stack.enter_context(enable_python_dispatcher())
            stack.enter_context(uncompiled(self.model))
            stack.enter_context(as_computed(self.model, self.fake_mode))
            stack.enter_context(scaled(self._own_scales))
            stack.enter_context(_module_calls(self._handler()))
            stack.enter_context(self)
            try:
                yield
            except Exception as error:
                raise TraceError(self._explain(error)) from error
        self.refuse_fixed_batch()

    def _handler(self) -> Callable[..., Any]:
        """Return what calls of all modules go to meanwhile."""
        call, thread = nn.Module.__call__, threading.get_ident()

        def handle(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            is_ours = threading.get_ident() == thread and not self._paused
            path = self._paths.get(module) if is_ours else None
            if path is None:
                return call(module, *args, **kwargs)
            return self._module(call, module, path, args, kwargs)

        return handle

    def output(self, value: Any) -> None:
        """Close the graph. Raises `TraceError` for a leaf that edits what is read, but returns nothing."""
        super().output(value)
        left = {*self.graph.nodes}
        read = {tag(node, "block") for node in left}
        self._called = [p for p in self._called if any(block_name(p, call) in read for call in self._calls)]
        for leaf, copy in self._edits:
            if copy in left and tag(leaf, "block") is not None and {*copy.users} - {leaf}:
                raise TraceError(
                    f"{_path(leaf)} is a block that edits its input in place, and others read that: a plan "
                    "that skips the block would leave the edit out, so let it edit a copy"
                )
            if leaf not in left and copy in left:
                raise TraceError(
                    f"{_path(leaf)} edits its input in place and nothing reads what it returns: "
                    "let it return what it makes"
                )

    def _explain(self, error: Exception) -> str:
        module = ".".join(filter(None, (type(self.model).__name__, *self._stack[-1:])))
        module = module if self._stack else "the scheduler"
        if isinstance(error, TraceError):
            return f"{module}, step {self.step}: {error}"
        kind = type(error).__name__
        if "DataDependent" in kind or "Unsupported" in kind or "Unbacked" in kind:
            return (
                f"{module}, step {self.step}: its Python depends on the values of a tensor, and a "
                f"recorded loop can only depend on shapes ({kind}: {str(error).splitlines()[0]})"
            )
        return f"{module}, step {self.step}: {kind} while it was recorded: {error}"

    def _module(self, call: Callable[..., Any], module: nn.Module, path: str, args: Any, kwargs: Any) -> Any:
        if path == "":
            self._tag_arguments(module, args, kwargs)
        if path == "" and self._call is not None:
            return self._replay(self._call, args, kwargs)
        self._stack.append(path)
        if path == "":
            result = self._first_call(call, module, args, kwargs)
        elif path in self._entered:
            refuse_hidden_weights(module)
            refuse_hooks(module)
            result = call(module, *args, **kwargs)
        else:
            result = self._leaf(call, module, path, args, kwargs)
        self._stack.pop()
        return result

    def _tag_arguments(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        """Tag the nodes of the sample and of the timestep that the model is called with."""
        names = parameters_of(model)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        timestep = next((name for name in given if name in TIMESTEP), None)
        for what, name in ((SAMPLE, names[0] if names else None), (TIMESTEP[0], timestep)):
            if isinstance(given.get(name), torch.Tensor):
                self._tensor(given[name]).meta["custom"]["given"] = what

    def _leaf(self, call: Callable[..., Any], module: nn.Module, path: str, args: Any, kwargs: Any) -> Any:
        if self._scales is None:
            self._scales = scales_of(self.model)
        edited: list[int] = []
        try:
            result, edited = self._run_leaf(call, module, args, kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            if self.known is None:
                raise
            if path not in self._blocks:
                return call(module, *args, **kwargs)  # entered, its Python can be given values
            result = self._run_on_zeros(call, module, args, kwargs)
        given = tensors_in((args, kwargs))
        copies = [self._copied(given[place]) for place in edited]
        block = self._new_block(path) if path in self._blocks else None
        node = self._emit(
            "call_module",
            f"{MODEL}.{path}",
            *self._casts(self._arguments(args), self._arguments(kwargs)),
            path,
        )
        self._bind(result, node, block)
        self._edits += [(node, copy) for copy in copies if copy is not None]
        return result

    def _new_block(self, path: str) -> str | None:
        """Note a block of the first call and return its name, `None` for one that was called before."""
        name = block_name(path, self._calls[0])
        if path not in self._called:
            self._called.append(path)
            return name
        self._called.remove(path)
        self._blocks -= {path}
        for node in self.graph.nodes:
            if node.meta["custom"]["block"] == name:
                node.meta["custom"]["block"] = None
        return None

    def _copied(self, tensor: torch.Tensor) -> fx.Node | None:
        """Let a leaf edit a copy, which stands for the tensor from now on: later steps may read the tensor.

        What dies with its step may be edited as it is, together with what is a view of it.
        """
        if id(tensor) not in self._recorded:
            return None
        aliases = self._living_aliases(tensor)
        if any(node.op == "placeholder" or node.meta["custom"]["block"] for node in aliases):
            raise TraceError("it edits a tensor in place that other tensors of the loop are views of")
        if aliases:
            return None
        node = self._emit("call_method", "clone", (self._tensor(tensor),))
        self._bind(tensor, node)
        return node

    def _run_leaf(
        self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any
    ) -> tuple[Any, list[int]]:
        """Return the leaf's fake result, and the places of the tensors that it edits.

        Leaves of equal structure and input shapes run once.
        """
        key = call_signature(module, args, kwargs)
        if key not in self._results:
            given = tensors_in((args, kwargs))
            before = [tensor._version for tensor in given]
            with self.paused():
                result = call(module, *args, **kwargs)
            edited = [n for n, tensor in enumerate(given) if tensor._version != before[n]]
            sources = {storage(tensor): n for n, tensor in enumerate(given)}
            if isinstance(module, nn.Dropout) and not module.training:
                sources[storage(result)] = 0  # a fake tensor does not show it, but it is what went in
            views = pytree.tree_map_only(
                torch.Tensor, lambda made: _Made(made, sources.get(storage(made))), result
            )
            self._results[key] = views, edited
        views, edited = self._results[key]
        tensors = tensors_in((args, kwargs))
        return pytree.tree_map_only(_Made, lambda made: self._made_anew(made, tensors), views), edited

    def _made_anew(self, made: _Made, given: list[torch.Tensor]) -> torch.Tensor:
        """Return a tensor like one that a leaf returned: a view of the same one that the leaf is given."""
        if made.source is None:
            return self._renew(made.value)
        with self.paused():
            like = made.value
            return torch.as_strided(given[made.source], like.shape, like.stride(), like.storage_offset())

    def _run_on_zeros(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return the fake result of a block whose Python looks at values: experts that are chosen by row."""

        def zeros(tensor: torch.Tensor) -> torch.Tensor:
            return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)

        was, self._paused = self._paused, True
        try:
            args, kwargs = pytree.tree_map_only(torch.Tensor, zeros, (args, kwargs))
            result = call(module, *args, **kwargs)
        finally:
            self._paused = was
        with self.paused():
            return pytree.tree_map_only(
                torch.Tensor, lambda t: self.fake_mode.from_tensor(t, static_shapes=True), result
            )

    def _first_call(self, call: Callable[..., Any], model: nn.Module, args: Any, kwargs: Any) -> Any:
        given = tensors_in((args, kwargs))  # now: a model may take them out of a list, as T2I adapters' are
        inputs = self._inputs(given)
        blocks, self.in_model, state = self._blocks, True, self.state
        result = call(model, *args, **kwargs)
        refuse_changes(state, self.state)
        self.in_model = False
        self._called_so_far = 1
        repeated = {block for block in blocks if block not in self._blocks}
        if repeated:
            logger.warning("called more than once a step, so without gates: %s", ", ".join(sorted(repeated)))
        if not self._called:
            raise TraceError("it calls no block, or each more than once a step: there is nothing to gate")
        body = [node for node in self.graph.nodes if node.meta["custom"]["in_model"]]
        for node in body:
            node.meta["custom"]["call"] = self._calls[0]
        if self.gate_head:
            self._tag_head(model, body)
        nodes = {id(t): self._tensor(t) for t in tensors_in(result)}
        self._forget_handed_on(given, inputs)
        paths = {block_name(path, self._calls[0]): path for path in self._called}
        of_body = [paths.get(node.meta["custom"]["block"]) for node in body]
        self._call = _Call(inputs, self._inputs(given), body, of_body, result, nodes)
        return result

    def _tag_head(self, model: nn.Module, body: list[fx.Node]) -> None:
        leaves = [n for n in body if n.op == "call_module"]
        head = next((n for n in reversed(leaves) if _has_weights(model, _path(n))), None)
        if head is None or head.meta["custom"]["block"] is not None:
            return
        if isinstance(head.meta["val"], torch.Tensor):
            head.meta["custom"]["block"] = self._new_block(_path(head))

    def _replay(self, first: _Call, args: Any, kwargs: Any) -> Any:
        inputs = self._inputs((args, kwargs))
        if self._called_so_far == len(self._calls):
            raise TraceError(f"the model is called more than {len(self._calls)} times at step {self.step}")
        call = self._calls[self._called_so_far]
        self._called_so_far += 1
        if len(inputs) != len(first.inputs):
            raise TraceError(
                f"the model got {len(first.inputs)} tensors at step 0 and {len(inputs)} at step "
                f"{self.step}; every step must call it alike"
            )
        env = dict(zip(first.inputs, inputs, strict=True))
        for node, path in zip(first.body, first.paths, strict=True):
            copied = env[node] = self.graph.node_copy(node, lambda n: env.get(n, n))
            block = None if path is None else block_name(path, call)
            copied.meta["custom"] = {**node.meta["custom"], "step": self.step, "block": block, "call": call}

        for tensor, before, after in zip(tensors_in((args, kwargs)), first.inputs, first.after, strict=True):
            if after is not before:
                self._remember(tensor, env[after])

        def renew(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            fresh, node = self._renew(value), first.nodes[id(value)]
            self._remember(fresh, env.get(node, node))
            return fresh

        return pytree.tree_map(renew, first.result)

    def _forget_handed_on(self, given: list[torch.Tensor], inputs: list[fx.Node]) -> None:
        """Let the inputs stand for themselves again: else later steps read what this one cast."""
        for tensor, node in zip(given, inputs, strict=True):
            edited = self._edited(tensor, node)
            if edited is not self._tensor(tensor):
                self._remember(tensor, edited)

    def _inputs(self, arguments: Any) -> list[fx.Node]:
        return [self._tensor(tensor) for tensor in tensors_in(arguments)]


@contextmanager
def _module_calls(handler: Callable[..., Any]) -> Iterator[None]:
    """Let calls of all modules go to `handler(module, *args, **kwargs)`."""
    original = nn.Module.__call__
    nn.Module.__call__ = handler  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]


def tensors_in(arguments: Any) -> list[torch.Tensor]:
    """Return the tensors in nested arguments, in order."""
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]


def _path(call: fx.Node) -> str:
    """Return the path in the model of the module that a node calls."""
    return str(call.target).removeprefix(f"{MODEL}.")


def _has_weights(model: nn.Module, path: str) -> bool:
    return next(model.get_submodule(path).parameters(), None) is not None


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
