"""Write down what Python calls: a torch-function mode that turns calls on fake tensors into nodes."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .errors import TraceError
from .graph_writer import GraphWriter, edits_of, storage
from .known_values import READERS, KnownValues, indexed, is_discrete, leaves, map_tensors, written
from .stored_weights import autocast_dtype, compute_device

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
# tensor with dimensions: torch computes the same bits then, and the graph needs no buffer for each. Not for
# powers, where a kernel may know a number.
NUMERIC_OPERATORS = frozenset({operator.add, operator.sub, operator.mul, operator.truediv})
# Elementwise arithmetic makes a new tensor whose shape and dtype follow from its arguments' alone: the
# fake result is worked out once for equal arguments, not at every step.
ELEMENTWISE = frozenset({*OPERATORS, *REFLECTED_OPERATORS, "clamp"} - {"__getitem__", "matmul"})
# Casts to the dtype of the sample are recorded as casts to that of whatever sample comes: a loop may be cast.
CASTS = frozenset({"to", "type"})
# Noise that a loop may draw, and randomness that cannot be given the caller's generator.
NOISE_FACTORIES = frozenset({"randn", "randn_like"})
OTHER_RANDOM = frozenset(
    {"rand", "rand_like", "randint", "randint_like", "randperm", "random_", "bernoulli", "bernoulli_"}
    | {"multinomial", "normal", "normal_", "uniform_", "exponential_", "poisson", "cauchy_", "log_normal_"}
    | {"geometric_"}
)


class Recorder(GraphWriter, TorchFunctionMode):
    """Turns function calls that touch a recorded tensor, the batch size or noise into nodes.

    In-place arithmetic is recorded in functional form, since a node without readers would be dropped as
    dead code. For the arguments see `GraphWriter`.
    """

    def __init__(self, root: nn.Module, rows: int | None = None) -> None:
        GraphWriter.__init__(self, root, rows)
        TorchFunctionMode.__init__(self)
        self.known: KnownValues | None = None
        self._device = compute_device(root)
        self._autocast: torch.dtype | None = None  # around the recording
        self._elementwise: dict[Any, torch.Tensor] = {}
        # What nodes read that gave back the very tensor they were given: a cast to the dtype that it has.
        self._handed_on: dict[fx.Node, fx.Node] = {}

    def __enter__(self) -> Recorder:
        """Begin to record. What autocast there is around a recording is around a run of its graph, too."""
        self._autocast = autocast_dtype(self._device)
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, and record it if an argument is recorded, symbolic, or noise is drawn."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if self._paused:
            return func(*args, **kwargs)
        if name in OTHER_RANDOM:
            raise TraceError(f"torch.{name} in the loop: only randn and randn_like can be recorded")
        if _is_in_place(name) and name != "requires_grad_" and args and id(args[0]) in self._owned:
            raise TraceError(
                f"{name} edits a weight or buffer, which a graph would not do again in a run: keep what "
                "changes from call to call out of the model, or inside of a block"
            )
        if name not in NOISE_FACTORIES and not self._touches((args, kwargs)):
            return func(*args, **kwargs)
        if name in NOISE_FACTORIES:
            return self._noise(name, args, kwargs)
        if name == "__setitem__":
            return self._assign(*args)
        if name in READERS and self.known is not None:
            return func(self.known.of(self._tensor(args[0])), *args[1:], **kwargs)
        given = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        versions = list(map(edits_of, given))
        try:
            result = self._evaluate(func, name, args, kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            if self.known is None:
                raise
            args, kwargs = self._with_values(name, args, kwargs)
            if not self._touches((args, kwargs)):
                return func(*args, **kwargs)
            result = self._evaluate(func, name, args, kwargs)
        if not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(result)):
            return result
        if name == "dropout" and kwargs.get("training") is False:
            with self.paused():  # a fake tensor does not show that it is what went in
                result = args[0].view(args[0].shape)
        in_place = _is_in_place(name)
        is_edited = in_place or versions != list(map(edits_of, given))
        if is_edited and not in_place:
            kwargs = self._out_of_place(name, args, kwargs)
        node = self._function(func, name, args, kwargs)
        if not is_edited and any(result is tensor for tensor in given):
            self._handed_on[node] = self._tensor(result)
        self._bind(result, node)
        return result

    def _emit(self, op: str, target: Any, *arguments: Any) -> fx.Node:
        """Write a node. Raises `TraceError` under an autocast of the model's own, which no node holds."""
        if autocast_dtype(self._device) != self._autocast:
            raise TraceError(
                "its Python switches autocast, and a graph holds no such switch: cast its tensors, or switch "
                "inside of a block"
            )
        return super()._emit(op, target, *arguments)

    def _edited(self, tensor: torch.Tensor, first: fx.Node) -> fx.Node:
        """Return what stands for a tensor since it was last edited, `first` if it was not edited after it."""
        node = self._tensor(tensor)
        while node is not first and node in self._handed_on:
            node = self._handed_on[node]
        return node

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

    def _with_values(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments of a call whose result has a shape that follows from values, with those values."""
        sizes, kwargs = map_tensors(self._number, (args[1:], kwargs))
        args = (self._value(args[0]) if isinstance(args[0], torch.Tensor) else args[0], *sizes)
        if name == "__getitem__":
            args = (args[0], indexed(args[1]))
        elif name == "repeat_interleave":
            kwargs["output_size"] = int((args[1] if len(args) > 1 else kwargs["repeats"]).sum())
        return args, kwargs

    def _value(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the value of a recorded tensor of integers or truths, any other tensor as it is."""
        if self.known is None or id(tensor) not in self._recorded or not is_discrete(tensor):
            return tensor
        return self.known.of(self._tensor(tensor))  # type: ignore[no-any-return]

    def _number(self, tensor: torch.Tensor) -> Any:
        """Return the value of a tensor like `_value`, a single one as a number: a size, or a place."""
        value = self._value(tensor)
        is_known = is_discrete(value) and id(value) not in self._recorded
        return int(value) if is_known and value.dim() == 0 and value.dtype != torch.bool else value

    def _assign(self, tensor: torch.Tensor, index: Any, value: Any) -> None:
        """Record `tensor[index] = value` as an edited copy that stands for the tensor from now on."""
        is_new = id(tensor) not in self._recorded
        if id(tensor) in self._owned or (is_new and tensor._is_view()):
            raise TraceError(
                "an assignment into a part of the model or a view of a constant cannot be recorded"
            )
        self._refuse_aliased(tensor, "an assignment")
        index = index if isinstance(index, (list, tuple)) else (index,)
        if self.known is not None and any(isinstance(part, slice) for part in index):
            index = [map_tensors(self._value, part) if isinstance(part, slice) else part for part in index]
        arguments = (self._tensor(tensor), tuple(self._arguments(index)), self._argument(value))
        self._bind(tensor, self._emit("call_function", written, arguments))

    def _touches(self, arguments: Any) -> bool:
        """Tell whether a value changes with the loop's inputs, or with later edits of the model's weights.

        What is made of buffers alone, tables of positions mostly, is a constant: nobody trains them.
        """
        return any(
            isinstance(leaf, torch.SymInt)
            or id(leaf) in self._recorded
            or (isinstance(leaf, nn.Parameter) and id(leaf) in self._owned)
            for leaf in leaves(arguments)
        )

    def _function(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        if name == "__get__":
            return self._emit("call_function", getattr, (self._argument(args[0]), func.__self__.__name__))
        in_place = _is_in_place(name)
        if in_place:
            self._refuse_aliased(args[0], name)
            name = name[:-1]
        is_method = (
            in_place
            or (name == "pow" and func is not torch.pow)  # a wrapper that is no attribute of Tensor
            or getattr(torch.Tensor, name, None) is func
            or (
                hasattr(torch.Tensor, name)
                and not callable(getattr(torch, name, getattr(torch.nn.functional, name, None)))
            )
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
        if not hasattr(torch.Tensor, name):
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
        shape = tuple(kwargs.get("size", size) if like is None else like.shape)
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

    def _living_aliases(self, tensor: torch.Tensor) -> list[fx.Node]:
        """Return the nodes of other tensors in the same storage that Python still holds."""
        others = [self._recorded[key] for key in self._storages.get(storage(tensor), set()) - {id(tensor)}]
        counts = _reference_counts([other for other, _ in others])
        return [node for (_, node), count in zip(others, counts, strict=True) if count > OWN_REFERENCES]

    def _refuse_aliased(self, tensor: torch.Tensor, name: str) -> None:
        if self._living_aliases(tensor):
            raise TraceError(
                f"{name} edits a tensor in place that other tensors of the loop are views of; "
                "write the arithmetic out of place"
            )

    def _out_of_place(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by name of a function that edits its first one, as relu may."""
        if not kwargs.get("inplace"):
            raise TraceError(f"{name} edits a tensor in place; write the arithmetic out of place")
        self._refuse_aliased(args[0], name)
        return {**kwargs, "inplace": False}

    def _numbers(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        wide = any(
            isinstance(v, torch.Tensor) and v.dim() > 0 and v.dtype in (torch.float32, torch.float64)
            for v in values
            if id(v) in self._recorded
        )
        return tuple(self._argument(self._as_number(v) if wide else v) for v in values)

    def _as_number(self, value: Any) -> Any:
        """Return a constant of the host without dimensions as a number.

        One of a GPU stays a tensor: a kernel divides by a number through its inverse, which rounds otherwise.
        """
        constant = isinstance(value, torch.Tensor) and id(value) not in self._recorded
        if constant and value.dim() == 0 and id(value) not in self._owned and value.device.type == "cpu":
            return value.item()
        return value


def _is_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _reference_counts(held: list[Any]) -> list[int]:
    return [sys.getrefcount(item) for item in held]


def _own_references() -> int:
    """Return the references to a recorded tensor beside Python's: in its node, in `_recorded`, here."""
    held = [object()]
    recorded = [{"val": held[0]}, (held[0], None)]
    (count,) = _reference_counts(held)
    del recorded
    return count


OWN_REFERENCES = _own_references()


def _kind(value: Any) -> Any:
    """Return what decides shape, strides and dtype of arithmetic on a value; `None` where unknown."""
    if isinstance(value, torch.Tensor):
        return tuple(map(str, (*value.shape, *value.stride()))), value.dtype, value.device
    return type(value) if isinstance(value, (bool, int, float)) else None
