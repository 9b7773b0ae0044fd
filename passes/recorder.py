"""Write down what Python calls: a torch-function mode that turns calls on fake tensors into nodes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import fx, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .drop_dead_blocks import erase_dead_nodes
from .errors import TraceError
from .tags import spec_of

# The attribute of the recorded module that holds what it uses of the root: names of the root's parts
# then cannot meet those of a GraphModule.
MODEL = "model"
# Tensor methods that stand for an operator are recorded as the operator: the graph reads like the
# Python it came from, and a number may stand on either side.
OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "neg": operator.neg,
    "__getitem__": operator.getitem,
    "matmul": operator.matmul,
}
REFLECTED_OPERATORS = {
    "__rsub__": operator.sub,
    "__rdiv__": operator.truediv,
    "__rtruediv__": operator.truediv,
    "__rpow__": operator.pow,
}
# Operators whose 0-dim tensor constants may be written as Python numbers beside a float32 or float64
# tensor with dimensions: torch computes the same bits then, and the graph needs no buffer for each.
NUMERIC_OPERATORS = frozenset({operator.add, operator.sub, operator.mul, operator.truediv, operator.pow})
# Elementwise arithmetic makes a new tensor whose shape and dtype follow from its arguments' alone: the
# fake result is worked out once for equal arguments, not at every step.
ELEMENTWISE = frozenset({*OPERATORS, *REFLECTED_OPERATORS, "clamp"} - {"__getitem__", "matmul"})
# Casts to the dtype of the sample are recorded as casts to that of whatever sample comes: a loop may be cast.
CASTS = frozenset({"to", "type"})
# Noise that a loop may draw, and randomness that cannot be given the caller's generator.
NOISE_FACTORIES = frozenset({"randn", "randn_like"})
OTHER_RANDOM = frozenset(
    {"rand", "rand_like", "randint", "randint_like", "randperm", "bernoulli", "multinomial"}
    | {"normal", "normal_", "uniform_", "exponential_", "poisson"}
)
# The number of rows that fake tensors pretend to have: unlike any other size, and not 0 or 1, which
# torch treats as special values. A comparison that comes out otherwise for the batch sizes of
# OTHER_ROWS is one that the graph cannot hold.
TRACED_ROWS = 13
OTHER_ROWS = (1, 2, 3, 8, 64, 1024)


class Recorder(TorchFunctionMode):
    """Turns function calls that touch a recorded tensor, the batch size or noise into nodes.

    Args:
        root: module whose parameters and buffers become `get_attr` nodes; every other real tensor
            that meets a recorded one is lifted into `constants`.
        rows: a batch size to record with, for `unify_rows`; `None` is a symbol that stands for all.

    Every node carries `meta["custom"] = {"step": int, "block": name or None, "in_model": bool}` and
    `meta["spec"]`, its value without the values: fake tensors stay in here. In-place arithmetic is
    recorded in functional form, since a node without readers would be dropped as dead code.
    """

    def __init__(self, root: nn.Module, rows: int | None = None) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.constants: dict[str, torch.Tensor] = {}
        self.step = 0
        self.in_model = False
        self.shape_env = ShapeEnv()
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
        self._elementwise: dict[Any, torch.Tensor] = {}
        # Nodes every step may read (inputs, sizes, constants) stand before all others.
        self._first_end: fx.Node | None = None
        self._shared: dict[Any, fx.Node] = {}

    # -- inputs and output

    def inputs(
        self, guard: str, sample: torch.Tensor, conditioning: Mapping[str, Any], rows: int
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Add the loop's inputs and return their fake values.

        Args:
            guard: target of a module that is called with all inputs first and returns the sample.
            sample: its first dimension becomes the batch size.
            conditioning: tensors, or nested mappings and sequences of tensors; the first dimension of
                each becomes `rows` times the batch size.
            rows: 2 under guidance, else 1.

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
        given.meta["val"] = x = self._fake(checked, sample, 1)
        for name, node in named.items():
            node.meta["val"] = self._fake(node, conditioning[name], rows)
        return x, {name: node.meta["val"] for name, node in named.items()}

    def placeholders(self, arguments: Any) -> Any:
        """Add an input for every tensor in nested arguments and return fake ones of the same shapes."""

        def added(tensor: torch.Tensor) -> torch.Tensor:
            node = self._first(lambda: self.graph.placeholder(f"input_{len(self.graph.nodes)}"))
            with self.paused():
                fake = torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
                )
            self._remember(fake, node)
            return fake

        return pytree.tree_map_only(torch.Tensor, added, arguments)

    def output(self, value: Any) -> None:
        """Close the graph: it returns `value`, and what does not lead there is dropped."""
        self._tag(self.graph.output(self._argument(value)), None)
        erase_dead_nodes(self.graph)
        for node in self.graph.nodes:
            if "val" in node.meta:
                node.meta["spec"] = spec_of(node.meta.pop("val"))

    # -- recording calls of functions

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, and record it if an argument is recorded, symbolic, or noise is drawn."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if self._paused or not (name in NOISE_FACTORIES or self._touches((args, kwargs))):
            return func(*args, **kwargs)
        if name in OTHER_RANDOM:
            raise TraceError(f"torch.{name} in the loop: only randn and randn_like can be recorded")
        if name in NOISE_FACTORIES:
            return self._noise(name, args, kwargs)
        result = self._evaluate(func, name, args, kwargs)
        if not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(result)):
            return result
        self._bind(result, self._function(func, name, args, kwargs))
        return result

    def _evaluate(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the fake result of a call; equal elementwise arithmetic is worked out once."""
        key = (name, *map(_kind, args))
        if name not in ELEMENTWISE or kwargs or None in key:
            with self.fake_mode:
                return func(*args, **kwargs)
        if key not in self._elementwise:
            with self.fake_mode:
                self._elementwise[key] = func(*args)
        return self._renew(self._elementwise[key])

    def _touches(self, arguments: Any) -> bool:
        return any(
            isinstance(leaf, torch.SymInt) or id(leaf) in self._recorded
            for leaf in pytree.tree_leaves(arguments)
        )

    def _function(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        if name == "__get__":
            return self._emit("call_function", getattr, (self._argument(args[0]), func.__self__.__name__))
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place:
            self._refuse_aliased(args[0], name)
            name = name[:-1]
        is_method = (
            in_place
            or (name == "pow" and func is not torch.pow)  # a wrapper that is no attribute of Tensor
            or getattr(torch.Tensor, name, None) is func
            or not callable(getattr(torch, name, getattr(torch.nn.functional, name, None)))
        )
        if is_method and name in REFLECTED_OPERATORS:
            target = REFLECTED_OPERATORS[name]
            return self._emit("call_function", target, self._numbers(args[::-1]))
        if is_method and name in OPERATORS and not kwargs:
            target = OPERATORS[name]
            convert = self._numbers if target in NUMERIC_OPERATORS else self._arguments
            return self._emit("call_function", target, convert(args))
        if not is_method:
            return self._emit("call_function", func, self._arguments(args), self._arguments(kwargs))
        if name == "__setitem__" or not hasattr(torch.Tensor, name):
            raise TraceError(f"in-place {name} on a tensor of the loop cannot be recorded")
        given, named = self._arguments(args), self._arguments(kwargs)
        if name in CASTS:
            given, named = self._casts(given, named)
        return self._emit("call_method", name, given, named)

    def _casts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Return arguments with the dtype of the sample read off whatever sample comes."""
        return tuple(map(self._cast, args)), {key: self._cast(value) for key, value in kwargs.items()}

    def _cast(self, value: Any) -> Any:
        return self._shared.get(value, value) if isinstance(value, torch.dtype) else value

    def _noise(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        # diffusers' own helper draws it: that also takes a CPU generator for a sample elsewhere.
        like = args[0] if name == "randn_like" else None
        size = args[0] if len(args) == 1 and not isinstance(args[0], int) else args
        shape = tuple(size if like is None else like.shape)
        dtype = kwargs.get("dtype") or (torch.get_default_dtype() if like is None else like.dtype)
        device = kwargs.get("device") or (torch.device("cpu") if like is None else like.device)
        with self.fake_mode:
            noise = torch.empty(shape, dtype=dtype, device=device)
        options = {
            "generator": self._generator,
            "device": self._argument(noise.device),
            "dtype": self._cast(dtype),
        }
        self._bind(noise, self._emit("call_function", randn_tensor, (self._arguments(shape),), options))
        return noise

    def _refuse_aliased(self, tensor: torch.Tensor, name: str) -> None:
        if len(self._storages.get(_storage(tensor), ())) > 1:
            raise TraceError(
                f"{name} edits a tensor in place that other tensors of the loop are views of; "
                "write the arithmetic out of place"
            )

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
        node.meta["custom"] = {"step": 0, "block": None, "in_model": False}
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
        self._storages.setdefault(_storage(tensor), set()).add(id(tensor))
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

    def _fake(self, node: fx.Node, example: Any, rows: int) -> Any:
        if isinstance(example, torch.Tensor):
            with self.paused():
                shape = (rows * self.batch, *example.shape[1:])
                fake = torch.empty(shape, dtype=example.dtype, device=example.device)
            self._remember(fake, node)
            return fake
        if isinstance(example, Mapping):
            return {k: self._fake(self._item(node, k), v, rows) for k, v in example.items()}
        if isinstance(example, (list, tuple)):
            return [self._fake(self._item(node, i), v, rows) for i, v in enumerate(example)]
        return example

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

    def _numbers(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        wide = any(
            isinstance(v, torch.Tensor) and v.dim() > 0 and v.dtype in (torch.float32, torch.float64)
            for v in values
            if id(v) in self._recorded
        )
        return tuple(self._argument(self._as_number(v) if wide else v) for v in values)

    def _as_number(self, value: Any) -> Any:
        constant = isinstance(value, torch.Tensor) and id(value) not in self._recorded
        if constant and value.dim() == 0 and id(value) not in self._owned and not value.is_meta:
            return value.item()
        return value

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
            # Constants of the scheduler: equal values share one buffer.
            path = self._constant(tensor)
        if path not in self._shared:
            self._shared[path] = self._first(lambda: self.graph.get_attr(path))
            with self.paused():
                self._shared[path].meta["val"] = self.fake_mode.from_tensor(tensor, static_shapes=True)
        return self._shared[path]

    def _constant(self, tensor: torch.Tensor) -> str:
        """Lift a constant of the scheduler into a buffer; small equal ones share it."""
        small = tensor.numel() <= 16 and not tensor.is_meta
        values = tuple(tensor.flatten().tolist()) if small else id(tensor)
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


def _tensor_paths(root: nn.Module) -> dict[int, str]:
    named = [*root.named_parameters(), *root.named_buffers()]
    return {id(tensor): f"{MODEL}.{path}" for path, tensor in named}


def _kind(value: Any) -> Any:
    """Return what decides the shape and dtype of arithmetic on `value`; `None` where that is unknown."""
    if isinstance(value, torch.Tensor):
        return tuple(map(str, value.shape)), value.dtype, value.device
    return type(value) if isinstance(value, (bool, int, float)) else None


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
