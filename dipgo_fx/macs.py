"""Multiply-accumulates, counted by fvcore call by call and summed over a loop's graph."""

from __future__ import annotations

import copy
import logging
import math
import operator
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import einsum_flop_jit, get_shape
from torch import fx, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from .arguments import check
from .frozen import evaluating
from .own_draws import own_draws
from .passes.equality import ComparedByValue
from .passes.errors import TraceError
from .passes.signature import call_signature
from .passes.stored_weights import without_autocast
from .passes.tags import TensorSpec, tag
from .passes.uncompiled import uncompiled

ATTENTION = "scaled_dot_product_attention"
# What a loop may call outside of modules and that multiplies; everything else counts as free.
PRODUCTS = frozenset({"bmm", "baddbmm", "addmm", "mm", "inner", "dot", "mv", "addmv", "addbmm"})
CONVOLUTIONS = frozenset(f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3))
MULTIPLYING_FUNCTIONS = frozenset(
    {torch.einsum, torch.matmul, torch.linalg.matmul, torch.tensordot, operator.matmul}
    | {F.linear, F.bilinear, F.scaled_dot_product_attention}
    | {getattr(torch, name) for name in PRODUCTS}
    | {getattr(F, name) for name in CONVOLUTIONS}
)
# fvcore's own handlers count normalisation and resampling as work; MACs here are matrix products,
# convolutions and attention, as in the published tables.
UNCOUNTED_OPERATORS = (
    "aten::batch_norm",
    "aten::group_norm",
    "aten::layer_norm",
    "aten::instance_norm",
    "aten::upsample_nearest2d",
    "aten::upsample_bilinear2d",
    "aten::upsample_linear1d",
    "aten::upsample_trilinear3d",
    "aten::adaptive_avg_pool2d",
    "aten::grid_sampler",
)


MULTIPLIES = ("mm", "matmul", "conv", "attention", "linear", "gru", "lstm", "rnn", "cdist")
"""Parts of the names of operators that multiply: a warning names one that fvcore cannot count."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """MACs in both conventions: with attention's two matrix products (`total`), and those alone."""

    total: int = 0
    attention: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Return the sum of both counts."""
        return Cost(self.total + other.total, self.attention + other.attention)

    @property
    def without_attention(self) -> int:
        """MACs as the paper's Stable Diffusion tables count them."""
        return self.total - self.attention


@dataclass(frozen=True, eq=False)
class Macs(ComparedByValue, Cost):
    """MACs of one run of a loop for one sample (two rows per step under guidance).

    Attributes:
        per_block: `(T, N)` int64, what each block costs at each step where it runs, attention counted.
        attention_per_block: `(T, N)` int64, the attention products among them.
    """

    per_block: torch.Tensor = field(kw_only=True)
    attention_per_block: torch.Tensor = field(kw_only=True)


def count_macs(loop: fx.GraphModule) -> Macs:
    """Count the MACs of a traced or pruned loop for one sample, by fvcore, node by node.

    Every distinct call (structure of the module, shapes of its inputs) is counted once.

    Raises `TypeError` for anything that `trace`, `prune` or `apply` did not return.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4)
        >>> macs = dipgo_fx.count_macs(loop)
        >>> macs.total, macs.without_attention
        (27803648, 26755072)
        >>> macs.per_block.shape  # steps, blocks
        torch.Size([4, 9])
    """
    check("loop", loop, fx.GraphModule, "a loop, as trace(), prune() and apply() return it")
    if "facts" not in loop.meta:
        raise TypeError("loop must come from trace(), prune() or apply(): this graph module does not")
    counter = NodeCounter(loop)
    facts = loop.meta["facts"]
    column = {path: n for n, path in enumerate(facts.blocks)}
    tables = torch.zeros(2, len(facts.timesteps), len(column), dtype=torch.int64)
    total = Cost()
    for node in loop.graph.nodes:
        cost = counter.cost(node)
        total = total + cost
        if node.op == "call_module" and tag(node, "block") is not None:
            row = (tag(node, "step"), column[tag(node, "block")])
            tables[0][row], tables[1][row] = cost.total, cost.attention
    return Macs(total.total, total.attention, per_block=tables[0], attention_per_block=tables[1])


class NodeCounter:
    """Counts graph nodes by fvcore for one sample; equal calls are counted once."""

    def __init__(self, loop: fx.GraphModule) -> None:
        self.loop = loop
        self._known: dict[Hashable, Cost] = {}

    def cost(self, node: fx.Node) -> Cost:
        """Return the MACs of one node."""
        if node.op == "call_module":
            module = self.loop.get_submodule(str(node.target))
        elif node.target in MULTIPLYING_FUNCTIONS:
            module = _Function(node.target)
        elif node.op == "call_method" and node.target in PRODUCTS:
            module = _Function(getattr(torch.Tensor, str(node.target)))
        else:
            return Cost()
        if node.op == "call_module" and _is_glue(module):
            return Cost()
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta.get("spec"))
        key = call_signature(module, args, kwargs)
        if key not in self._known:
            self._known[key] = self._counted(module, *_one_sample((args, kwargs)))
        return self._known[key]

    @staticmethod
    def _counted(module: nn.Module, args: Any, kwargs: Any) -> Cost:
        """Return fvcore's count; nothing, with a warning, for what it cannot record and has no weights."""
        try:
            return fvcore_count(module, args, kwargs)
        except TraceError as error:
            if isinstance(module, _Function) or any(True for _ in module.parameters()):
                raise
            logger.warning(
                "the MACs of %s cannot be counted (%s): it has no weights and is taken to multiply nothing",
                type(module).__name__,
                error.__cause__,
            )
            return Cost()


def amount(macs: float) -> str:
    """Return a count of MACs in units that people say."""
    for size, unit in ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if macs >= size:
            return f"{macs / size:.4g}{unit}"
    return f"{macs:.4g}"


def fvcore_count(module: nn.Module, args: Any, kwargs: Any) -> Cost:
    """Return fvcore's count of one call; weights without storage or of eight bits are replaced for it.

    Raises `TraceError` for a module that fvcore cannot record.
    """
    tables = [*module.parameters(), *module.buffers()]
    if any(table.is_meta for table in tables):
        module = copy.deepcopy(module).to_empty(device="cpu")
    if any(p.is_floating_point() and p.dtype.itemsize == 1 for p in module.parameters()):
        module = copy.deepcopy(module).float()  # hooks cast them before they are multiplied with
    device = next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    leaves, spec = pytree.tree_flatten((args, kwargs))
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
    leaves = [leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    leaves = [leaf.to(dtype) if _is_floating(leaf) and dtype else leaf for leaf in leaves]
    tensors = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
    analysis = FlopCountAnalysis(_Positional(module, leaves, spec), tensors)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle(**HANDLES, **dict.fromkeys(UNCOUNTED_OPERATORS, _no_macs))
    # fvcore runs the module, which must leave no trace: neither in the global generator (layers that draw)
    # nor in the statistics of norms in training mode.
    try:
        with torch.no_grad(), own_draws(device), evaluating(module), uncompiled(module), _plainly(device):
            counts, unknown = analysis.by_operator(), analysis.unsupported_ops()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a tracer stumbles over Python in many ways
        reason = str(error).partition("\n")[0]
        raise TraceError(
            f"the MACs of {type(module).__name__} cannot be counted ({reason[:200]}): if its weights are "
            "quantised, search on the plain ones, and enable the plan where these are"
        ) from error
    if missed := sorted(name for name in unknown if any(part in name for part in MULTIPLIES)):
        logger.warning("MACs of %s in %s are not counted", ", ".join(missed), type(module).__name__)
    return Cost(int(sum(counts.values())), int(counts.get(ATTENTION, 0)))


@contextmanager
def _plainly(device: torch.device) -> Iterator[None]:
    """Let modules call operators that are counted: without autocast and without torch's fused attention."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with without_autocast(device):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    query, key, value = (get_shape(tensor) for tensor in inputs[:3])
    rows = 1
    for size in query[:-1]:
        rows *= size
    return Counter({ATTENTION: rows * key[-2] * (query[-1] + value[-1])})


def _einsum_macs(inputs: list[Any], outputs: list[Any]) -> Any:
    operands = list(inputs[1].node().inputs())
    return einsum_flop_jit(inputs, outputs) if len(operands) > 1 else Counter({"einsum": 0})


def _product_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count `left @ right`, of vectors, matrices or batches of them: each number of the result is a sum."""
    return Counter({"matmul": math.prod(get_shape(outputs[0])) * get_shape(inputs[0])[-1]})


def _vector_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count `addmv(added, left, right)`."""
    return Counter({"addmv": math.prod(get_shape(inputs[1]))})


def _batched_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count `baddbmm(added, left, right)`, and `addbmm`, which adds the products up."""
    left, right = (get_shape(tensor) for tensor in inputs[1:3])
    return Counter({"baddbmm": math.prod(left) * right[-1]})


def _tensordot_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count a product of (m, k) and (k, n), however their dimensions are spread: mk, kn and mn are known."""
    sizes = [math.prod(get_shape(tensor)) for tensor in (*inputs[:2], outputs[0])]
    return Counter({"tensordot": math.isqrt(math.prod(sizes))})


def _bilinear_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    rows = math.prod(get_shape(inputs[0])[:-1])
    return Counter({"bilinear": rows * math.prod(get_shape(inputs[2]))})


def _recurrent_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count the matrices of a GRU, an LSTM or another, each once a row of the sequence."""
    rows = math.prod(get_shape(inputs[0])[:-1])
    lists = [value for value in inputs if value.type().str() == "Tensor[]"]
    shapes = [get_shape(weight) for weight in lists[-1].node().inputs()]
    return Counter({"recurrent": rows * sum(math.prod(shape) for shape in shapes if len(shape) == 2)})


def _no_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter()


HANDLES: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    f"aten::{ATTENTION}": _attention_macs,
    "aten::einsum": _einsum_macs,
    **dict.fromkeys(("aten::matmul", "aten::inner", "aten::dot", "aten::mv"), _product_macs),
    "aten::addmv": _vector_macs,
    **dict.fromkeys(("aten::baddbmm", "aten::addbmm"), _batched_macs),
    "aten::tensordot": _tensordot_macs,
    "aten::bilinear": _bilinear_macs,
    **dict.fromkeys(("aten::gru", "aten::lstm", "aten::rnn_tanh", "aten::rnn_relu"), _recurrent_macs),
}


def _is_glue(module: nn.Module) -> bool:
    """Tell whether a module cannot multiply: no weights and no children, and no class of a model's own."""
    has_parts = any(True for _ in module.parameters()) or any(True for _ in module.children())
    return not has_parts and type(module).__module__.startswith(("torch.", "dipgo_fx."))


def _one_sample(arguments: Any) -> Any:
    """Replace specs by tensors of zeros."""
    return pytree.tree_map(lambda value: value.zeros() if isinstance(value, TensorSpec) else value, arguments)


class _Function(nn.Module):
    """A function as a module, for fvcore."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class _Positional(nn.Module):
    """A call whose tensors are its positional arguments, as fvcore wants them."""

    def __init__(self, module: nn.Module, leaves: Iterable[Any], spec: Any) -> None:
        super().__init__()
        self.module, self.leaves, self.spec = module, list(leaves), spec

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [next(given) if isinstance(x, torch.Tensor) else x for x in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        result = self.module(*args, **kwargs)
        # The tracer behind fvcore takes tensors only, and reads which do not matter.
        return tuple(x for x in pytree.tree_leaves(result) if isinstance(x, torch.Tensor))
