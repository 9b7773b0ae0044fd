"""The nodes of a SuperNet: a gate and a forecast pass values through, and have gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import fx, nn

import toy
import zoo
from dipgo_fx.passes import InsertGates, forecast, gate
from dipgo_fx.tracing import trace
from loops import inputs

STRIDES: dict[str, Callable[[], torch.Tensor]] = {
    "channels last": lambda: torch.randn(1, 4, 8, 8).to(memory_format=torch.channels_last),
    "one channel": lambda: torch.randn(1, 1, 8, 8).to(memory_format=torch.channels_last),
    "transposed": lambda: torch.randn(3, 5).t(),
    "strided": lambda: torch.randn(1, 6, 4)[:, ::2],
    "expanded": lambda: torch.randn(1, 3).expand(4, 3),
}
strides = pytest.mark.parametrize("make", STRIDES.values(), ids=STRIDES.keys())
histories = pytest.mark.parametrize("history", [2, 3])


# -- a gate by itself


@strides
@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_a_hard_gate_passes_one_of_its_inputs(make: Callable[[], torch.Tensor], is_open: bool) -> None:
    """The value comes out bit for bit, stride for stride and without a copy, NaN in the other or not."""
    chosen, other = make(), torch.full(make().shape, torch.nan)
    values = (other, chosen) if is_open else (chosen, other)
    result = gate(*values, torch.tensor(float(is_open)))
    assert torch.equal(result, chosen)
    assert result.stride() == chosen.stride()
    assert result.data_ptr() == chosen.data_ptr()


@pytest.mark.parametrize("weight", [-0.5, 0.0, 0.3, 1.0, 1.5])
def test_gradients_of_a_gate(weight: float) -> None:
    """All three inputs have the gradient of the interpolation, also where the gate is hard."""
    backup, fresh = _values(2)
    entry = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gate, (backup, fresh, entry))
    torch.testing.assert_close(gate(backup, fresh, entry), backup + weight * (fresh - backup))


# -- a forecast by itself


def _values(count: int) -> list[torch.Tensor]:
    generator = zoo.generator(7)
    return [
        torch.randn(2, 3, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(count)
    ]


@pytest.mark.parametrize(
    "weights",
    [(0.5, -1.25, 2.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 2.0, 0.0), (1.0, 0.0, -1.0)],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_gradients_of_a_forecast(weights: tuple[float, ...], count: int) -> None:
    """All inputs have the gradient of the weighted sum, also where a weight is 0 or alone."""
    table = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(forecast, (table, *_values(count)))


def test_a_forecast_of_one_tensor_thrice() -> None:
    """Where too few values were computed the same one stands there more than once; its gradients add."""
    table = torch.tensor([0.5, -1.25, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, v: forecast(w, v, v, v), (table, *_values(1)))


@pytest.mark.parametrize("index", [0, 1, 2])
@strides
def test_a_lone_weight_of_one_passes_its_value(make: Callable[[], torch.Tensor], index: int) -> None:
    """The value comes out bit for bit, stride for stride and without a copy, NaN elsewhere or not."""
    values = [torch.full_like(make(), torch.nan) for _ in range(3)]
    values[index] = make()
    result = forecast(torch.eye(3)[index], *values)
    assert torch.equal(result, values[index])
    assert result.stride() == values[index].stride()
    assert result.data_ptr() == values[index].data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    "weights", [(0.5, -1.25, 2.0), (0.0, 0.3, 0.7), (0.1, 0.0, 0.7), (0.0, 0.0, 0.0)], ids=str
)
def test_a_forecast_is_the_plain_arithmetic(weights: tuple[float, ...], dtype: torch.dtype) -> None:
    """A product and sums newest first, bit for bit, in the dtype of the values; weight 0 is not read."""
    values = [torch.randn(4, 5, generator=zoo.generator(k)).to(dtype) for k in range(3)]
    read = [(v, w) for v, w in zip(values, weights, strict=True) if w != 0] or [(values[0], 0.0)]
    expected = torch.mul(*read[0])
    for value, weight in read[1:]:
        expected = torch.add(expected, value, alpha=weight)
    values = [
        v if w != 0 or k == 0 else v * torch.nan for k, (v, w) in enumerate(zip(values, weights, strict=True))
    ]
    result = forecast(torch.tensor(weights, dtype=torch.float64), *values)
    assert result.dtype == dtype
    assert torch.equal(result, expected)


# -- in a SuperNet


class Curved(nn.Module):
    """A block with a bend, so that errors in its gradient do not cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(toy.WIDTH, toy.WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Bend `x`."""
        return torch.tanh(self.linear(x))


@cache
def _curved(history: int, steps: int = 4) -> fx.GraphModule:
    """Return a SuperNet of two bent blocks in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = Curved(), Curved()
    graph = trace(
        toy.model(*blocks).double(),
        toy.Step(lambda prediction, sample: sample - 0.3 * prediction),
        steps,
        sample=toy.sample().double(),
        conditioning={},
        granularity="stage",
    )
    return InsertGates(history)(graph).graph_module.requires_grad_(False)


def _table(low: float, high: float, seed: int, *depth: int, steps: int = 4) -> torch.Tensor:
    shape = (steps, 2, *depth)
    table = low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=zoo.generator(seed))
    return table.requires_grad_()


def test_gradients_of_reuse_gates() -> None:
    """Gates of the SuperNet have the gradient that finite differences give."""
    gated = _curved(1)
    x = toy.sample().double()
    assert torch.autograd.gradcheck(lambda gates: gated(x, gates=gates), _table(0.1, 0.9, 0))


@histories
def test_gradients_of_gates_and_weights(history: int) -> None:
    """So have the gates and the weights of forecasts, together."""
    gated = _curved(history)
    x = toy.sample().double()
    assert torch.autograd.gradcheck(
        lambda gates, weights: gated(x, gates=gates, weights=weights),
        (_table(0.1, 0.9, 0), _table(-0.5, 1.5, 1, history)),
    )


@pytest.mark.parametrize("history", [1, 2, 3])
def test_gradients_at_hard_gates(history: int) -> None:
    """At gates of 0 and 1, where a search evaluates them, the gradients are right as well."""
    gated = _curved(history)
    x = toy.sample().double()
    tables = {"gates": (_table(0, 1, 3).detach() > 0.5).double().requires_grad_()}
    if history > 1:
        tables["weights"] = _table(-1.0, 2.0, 4, history)
    assert torch.autograd.gradcheck(
        lambda *given: gated(x, **dict(zip(tables, given, strict=True))), tuple(tables.values())
    )


@histories
def test_gradients_at_plain_weights(history: int) -> None:
    """Where weights repeat a value or read none of it, as where a search starts, gradients are right too."""
    gated = _curved(history)
    x = toy.sample().double()
    gates = torch.tensor([[1.0, 1], [0, 0], [1, 0], [0, 0]], dtype=torch.float64, requires_grad=True)
    weights = torch.zeros(4, 2, history, dtype=torch.float64)
    weights[..., 0] = 1
    weights[3, 0], weights[3, 1] = torch.eye(history)[-1], 0
    assert torch.autograd.gradcheck(
        lambda gates, weights: gated(x, gates=gates, weights=weights), (gates, weights.requires_grad_())
    )


@histories
def test_the_first_step_has_no_gate(history: int) -> None:
    """No gradient reaches row 0 of the tables, and every other gate and weight has one."""
    gated = _curved(history)
    gates, weights = _table(0.1, 0.9, 0), _table(0.5, 2.5, 1, 3)
    gated(toy.sample().double(), gates=gates, weights=weights).sum().backward()
    assert gates.grad is not None
    assert weights.grad is not None
    assert (gates.grad[0] == 0).all()
    assert (gates.grad[1:] != 0).all()
    assert (weights.grad[0] == 0).all()
    assert (weights.grad[1:, :, :history] != 0).all()
    assert (weights.grad[..., history:] == 0).all()  # further columns are not read


@histories
def test_gradients_of_a_real_supernet(history: int) -> None:
    """Gates of a small U-Net in double precision agree with finite differences."""
    model = copy.deepcopy(zoo.model("unet")).double().requires_grad_(False)
    graph = trace(model, zoo.SCHEDULERS["ddim"](), 3, granularity="stage")
    gated = InsertGates(history)(graph).graph_module
    x, c = inputs("unet", 1)
    shape = (graph.num_steps, len(graph.blocks))
    gates = torch.full(shape, 0.7, dtype=torch.float64, requires_grad=True)
    entry = torch.tensor([1.5, -0.6, 0.2], dtype=torch.float64)[:history]
    weights = entry.expand(*shape, history).clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda g, w: gated(x.double(), **c, gates=g, weights=w), (gates, weights), fast_mode=True
    )
