"""Write down what Python calls: a torch-function mode that turns calls on fake tensors into nodes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .errors import TraceError
from .graph_writer import GraphWriter, storage

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


class Recorder(GraphWriter, TorchFunctionMode):
    """Turns function calls that touch a recorded tensor, the batch size or noise into nodes.

    In-place arithmetic is recorded in functional form, since a node without readers would be dropped as
    dead code. For the arguments see `GraphWriter`.
    """

    def __init__(self, root: nn.Module, rows: int | None = None) -> None:
        GraphWriter.__init__(self, root, rows)
        TorchFunctionMode.__init__(self)
        self._elementwise: dict[Any, torch.Tensor] = {}

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
        if len(self._storages.get(storage(tensor), ())) > 1:
            raise TraceError(
                f"{name} edits a tensor in place that other tensors of the loop are views of; "
                "write the arithmetic out of place"
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


def _kind(value: Any) -> Any:
    """Return what decides the shape and dtype of arithmetic on `value`; `None` where that is unknown."""
    if isinstance(value, torch.Tensor):
        return tuple(map(str, value.shape)), value.dtype, value.device
    return type(value) if isinstance(value, (bool, int, float)) else None
