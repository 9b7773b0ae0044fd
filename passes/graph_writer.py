"""The graph that a recording writes: fake values, the nodes that stand for them, inputs and constants."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.utils import _pytree as pytree

from .drop_dead_blocks import erase_dead_nodes
from .errors import TraceError
from .tags import beside_the_model, spec_of

# The attribute of the recorded module that holds what it uses of the root: names of the root's parts
# then cannot meet those of a GraphModule.
MODEL = "model"
# The number of rows that fake tensors pretend to have: unlike any other size, and not 0 or 1, which
# torch treats as special values. A comparison that comes out otherwise for the batch sizes of
# OTHER_ROWS is one that the graph cannot hold.
TRACED_ROWS = 13
OTHER_ROWS = (1, 2, 3, 8, 64, 1024)


class GraphWriter:
    """Knows which node stands for which fake value, and writes nodes.

    Args:
        root: module whose parameters and buffers become `get_attr` nodes; every other real tensor
            that meets a recorded one is lifted into `constants`.
        rows: a batch size to record with, for `unify_rows`; `None` is a symbol that stands for all.

    Every node carries `meta["custom"] = {"step": int, "block": name or None, "in_model": bool}`, those in the
    model its call's name too, and `meta["spec"]`, its value without the values: fake tensors stay in here.
    """

    def __init__(self, root: nn.Module, rows: int | None = None) -> None:
        self.graph = fx.Graph()
        self.constants: dict[str, torch.Tensor] = {}
        self.step = 0
        self.in_model = False
        self.shape_env = ShapeEnv(allow_scalar_outputs=False, allow_dynamic_output_shape_ops=False)
        self.fake_mode = FakeTensorMode(shape_env=self.shape_env, allow_non_fake_inputs=True)
        self.batch = self._new_batch_size() if rows is None else rows
        self._lifted: dict[Any, str] = {}
        self._kept: list[torch.Tensor] = []  # so that ids in `_lifted` stay theirs
        self._leaf_guards: set[int] = set()
        self._generator: fx.Node | None = None
        self._paused = False
        self._name = type(root).__name__
        self._owned = _tensor_paths(root)
        # id -> (tensor, node); the tensor is kept alive so that its id stays its own.
        self._recorded: dict[int, tuple[torch.Tensor, fx.Node]] = {}
        self._storages: dict[int, set[int]] = {}
        # Nodes every step may read (inputs, sizes, constants) stand before all others.
        self._first_end: fx.Node | None = None
        self._shared: dict[Any, fx.Node] = {}

    # -- inputs and output

    def inputs(
        self,
        guard: str,
        sample: torch.Tensor,
        conditioning: Mapping[str, Any],
        rows: int,
        shared: Container[str] = (),
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Add the loop's inputs and return their fake values.

        Args:
            guard: target of a module that is called with all inputs first and returns the sample.
            sample: its first dimension becomes the batch size.
            conditioning: tensors, or nested mappings and sequences of tensors; the first dimension of
                each becomes `rows` times the batch size. Anything else becomes part of the graph.
            rows: 2 under guidance, else 1.
            shared: dotted names of the tensors that keep their shape.

        The last input is `generator`, `None` by default, which all recorded noise is drawn from.
        """
        given = self._first(lambda: self.graph.placeholder("sample"))
        named: dict[str, Any] = {}
        for name in conditioning:
            named[name] = self._first(functools.partial(self.graph.placeholder, name))
        self._generator = self._first(lambda: self.graph.placeholder("generator", default_value=None))
        checked = self._first(lambda: self.graph.call_module(guard, (given,), named))
        size = self._first(lambda: self.graph.call_method("size", (checked, 0)))
        device = self._first(lambda: self.graph.call_function(getattr, (checked, "device")))
        dtype = self._first(lambda: self.graph.call_function(getattr, (checked, "dtype")))
        for node, value in ((size, self.batch), (device, sample.device), (dtype, sample.dtype)):
            node.meta["val"] = value
        if not isinstance(self.batch, int):
            self._shared[self.batch.node.expr] = size
        self._shared[sample.device] = device
        self._shared[sample.dtype] = dtype
        given.meta["val"] = x = self._rows(checked, sample, 1)

        def fake(node: fx.Node, example: Any, name: str) -> Any:
            """Return a nested value with fake tensors; nodes stand for its parts too."""
            if isinstance(example, torch.Tensor):
                shares = name in shared
                return self._stand_in(example, node) if shares else self._rows(node, example, rows)
            if isinstance(example, Mapping):
                return {k: fake(self._item(node, k), v, f"{name}.{k}") for k, v in example.items()}
            if isinstance(example, (list, tuple)):
                parts = [fake(self._item(node, i), v, f"{name}.{i}") for i, v in enumerate(example)]
                return tuple(parts) if isinstance(example, tuple) else parts
            return example

        for name, node in named.items():
            node.meta["val"] = fake(node, conditioning[name], name)
        return x, {name: node.meta["val"] for name, node in named.items()}

    def placeholders(self, arguments: Any) -> tuple[Any, dict[fx.Node, torch.Tensor]]:
        """Add an input for every tensor in nested arguments.

        Returns fake ones of the same shapes in their places, and the tensor that each input stands for.
        """
        inputs: dict[fx.Node, torch.Tensor] = {}

        def added(tensor: torch.Tensor) -> torch.Tensor:
            node = self._first(lambda: self.graph.placeholder(f"input_{len(self.graph.nodes)}"))
            inputs[node] = tensor
            return self._stand_in(tensor, node)

        return pytree.tree_map_only(torch.Tensor, added, arguments), inputs

    def output(self, value: Any) -> None:
        """Close the graph: it returns `value`, and what does not lead there is dropped."""
        self._tag(self.graph.output(self._argument(value)), None)
        erase_dead_nodes(self.graph)
        for node in self.graph.nodes:
            if "val" in node.meta:
                node.meta["spec"] = spec_of(node.meta.pop("val"))

    # -- nodes

    def _emit(
        self,
        op: str,
        target: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> fx.Node:
        return self.graph.create_node(op, target, args, kwargs or {}, name)

    def _first(self, create: Callable[[], fx.Node]) -> fx.Node:
        if self._first_end is None:
            node = create()
        else:
            with self.graph.inserting_after(self._first_end):
                node = create()
        self._first_end = node
        node.meta["custom"] = beside_the_model(0)
        return node

    def _tag(self, node: fx.Node, value: Any, block: str | None = None) -> None:
        node.meta["custom"] = {"step": self.step, "block": block, "in_model": self.in_model}
        if value is not None:
            node.meta["val"] = value

    def _bind(self, value: Any, node: fx.Node, block: str | None = None) -> None:
        """Let `node` stand for `value`; parts of nested results are read with `getitem` nodes."""
        self._tag(node, value, block)
        if isinstance(value, torch.Tensor):
            self._remember(value, node)
            return
        items: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, Mapping):
            items = value.items()
        elif isinstance(value, (list, tuple)):
            items = enumerate(value)
        for key, item in items:
            if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(item)):
                self._bind(item, self._emit("call_function", operator.getitem, (node, key)), block)

    def _remember(self, tensor: torch.Tensor, node: fx.Node) -> None:
        self._recorded[id(tensor)] = (tensor, node)
        self._storages.setdefault(storage(tensor), set()).add(id(tensor))
        node.meta.setdefault("val", tensor)

    # -- values

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Run fake tensors without recording: a leaf's own Python runs again at every call."""
        was, self._paused = self._paused, True
        guards = len(self.shape_env.guards)
        try:
            with self.fake_mode:
                yield
        finally:
            self._paused = was
            self._leaf_guards.update(range(guards, len(self.shape_env.guards)))

    def refuse_fixed_batch(self) -> None:
        """Raise `TraceError` if Python outside the leaves took a path for this batch size only."""
        if isinstance(self.batch, int):
            return
        symbol = self.batch.node._expr  # not `expr`, from which a fixed symbol is gone
        fixed = self.shape_env.replacements.get(symbol)
        if fixed is not None:
            raise TraceError(
                f"the Python of {self._name} or of its scheduler fixes the batch size at {fixed}: write it "
                "without len() or int() of the batch dimension"
            )
        for index, guard in enumerate(self.shape_env.guards):
            holds = all(bool(guard.expr.subs(symbol, rows)) for rows in OTHER_ROWS)
            if index not in self._leaf_guards and not holds:
                raise TraceError(
                    f"the Python of {self._name} or of its scheduler branches on the batch size "
                    f"({guard.expr}): move the branch into a module that is no parent of a block"
                )

    def _new_batch_size(self) -> Any:
        context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC])
        example = torch.empty(TRACED_ROWS)
        return self.fake_mode.from_tensor(example, symbolic_context=context).shape[0]

    def _rows(self, node: fx.Node, example: torch.Tensor, rows: int) -> torch.Tensor:
        """Return a fake tensor like a real one, with `rows` times the batch size rows, for a node."""
        with self.paused():
            shape = (rows * self.batch, *example.shape[1:])
            fake = torch.empty(shape, dtype=example.dtype, device=example.device)
        self._remember(fake, node)
        return fake

    def _stand_in(self, tensor: torch.Tensor, node: fx.Node) -> torch.Tensor:
        """Return a fake tensor in place of a real one, of the very shape, that `node` stands for."""
        with self.paused():
            fake = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
            )
        self._remember(fake, node)
        return fake

    def _item(self, node: fx.Node, key: Any) -> fx.Node:
        return self._first(lambda: self.graph.call_function(operator.getitem, (node, key)))

    def _renew(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return another fake tensor of the same shape, dtype and device."""
        with self.paused():
            return torch.empty_like(tensor)

    # -- arguments

    def _arguments(self, values: Any) -> Any:
        return (
            {k: self._argument(v) for k, v in values.items()}
            if isinstance(values, dict)
            else tuple(self._argument(v) for v in values)
        )

    def _argument(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, torch.SymInt):
            return self._size(value)
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, torch.device) and value in self._shared:
            return self._shared[value]
        if isinstance(value, slice):
            return slice(*(self._argument(v) for v in (value.start, value.stop, value.step)))
        if isinstance(value, Mapping):
            return {k: self._argument(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            items = [self._argument(v) for v in value]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, fx.node.base_types) or value is None or value is Ellipsis:
            return value
        raise TraceError(f"an argument of type {type(value).__name__} cannot be written into the graph")

    def _tensor(self, tensor: torch.Tensor) -> fx.Node:
        if id(tensor) in self._recorded:
            return self._recorded[id(tensor)][1]
        path = self._owned.get(id(tensor))
        if path is None:
            path = self._constant(tensor)
        if path not in self._shared:
            self._shared[path] = self._first(lambda: self.graph.get_attr(path))
            with self.paused():
                self._shared[path].meta["val"] = self.fake_mode.from_tensor(tensor, static_shapes=True)
        return self._shared[path]

    def _constant(self, tensor: torch.Tensor) -> str:
        """Lift a constant of the scheduler into a buffer; small equal ones share it."""
        if isinstance(tensor, FakeTensor):
            raise TraceError(
                "it reads a weight itself that hooks keep elsewhere or in another dtype: load the weights "
                "before (model.to(device)), and offload or cast them afterwards"
            )
        small = tensor.numel() <= 16 and not tensor.is_meta
        values = tuple(tensor.flatten().tolist()) if small else (id(tensor), edits_of(tensor))
        key = (tensor.dtype, tensor.device, tensor.shape, values)
        if key not in self._lifted:
            path = self._lifted[key] = f"_constant_{len(self._lifted)}"
            self.constants[path] = tensor.detach().clone()
            self._kept.append(tensor)
        return self._lifted[key]

    def _size(self, size: torch.SymInt) -> fx.Node | int:
        """Return a number or a node for a size that depends on the batch size."""
        assert not isinstance(self.batch, int)  # else there are no symbols
        expr = size.node.expr
        if expr.is_Integer:
            return int(expr)
        if expr not in self._shared:
            # Sizes of a loop are rows: the batch size times a number.
            factor = expr / self.batch.node.expr
            if not factor.is_Integer:
                raise TraceError(f"a size of the loop is {expr}: only multiples of the batch can be recorded")
            args = (self._size(self.batch), int(factor))
            self._shared[expr] = self._first(lambda: self.graph.call_function(operator.mul, args))
            self._shared[expr].meta["val"] = size
        return self._shared[expr]


def parts_of(graph: fx.Graph, model: nn.Module, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the module of a recorded graph holds: `known` attributes and the parts of `model`."""
    parts = dict(known)
    for node in graph.nodes:
        target = str(node.target)
        if node.op in ("call_module", "get_attr") and target not in parts:
            parts[target] = attribute(model, target.removeprefix(f"{MODEL}."))
    return parts


def attribute(root: nn.Module, path: str) -> Any:
    """Return a submodule, parameter or buffer by its dotted path, `None` if there is none."""
    found: Any = root
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _tensor_paths(root: nn.Module) -> dict[int, str]:
    named = [*root.named_parameters(), *root.named_buffers()]
    return {id(tensor): f"{MODEL}.{path}" for path, tensor in named}


def storage(tensor: torch.Tensor) -> int:
    """Return the same number for tensors that share memory."""
    return int(tensor.untyped_storage()._cdata)


def edits_of(tensor: torch.Tensor) -> int:
    """Return how often a tensor was edited; those made in inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version
