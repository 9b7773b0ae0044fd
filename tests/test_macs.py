"""MACs: three ways of counting give one number, in both conventions."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import Handle, einsum_flop_jit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import toy
import zoo
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.errors import PlanError
from dipgo_fx.loop import Loop
from dipgo_fx.macs import ATTENTION, UNCOUNTED_OPERATORS, Cost, amount, count_macs, fvcore_count
from dipgo_fx.passes import GateTable, TraceError
from dipgo_fx.plan import Plan
from dipgo_fx.tracing import trace
from loops import cost, inputs, loop, scattered

KEYS: tuple[tuple[Any, ...], ...] = (
    ("dit", "ddim", "branch", None),
    ("dit-variance", "heun", "block", 3.0),
    ("unet", "unipc", "stage", None),
    ("unet-text", "ddim", "branch", 2.0),
    ("pixart", "dpm++", "block", None),
)


def with_every_output(gm: fx.GraphModule) -> fx.GraphModule:
    """Return a module that returns all that its calls return.

    fvcore's own tracer drops what does not reach the result, also inside a module of which only some
    outputs are read; here every call counts in full, as it runs.
    """
    graph = copy.deepcopy(gm.graph)
    output = next(iter(reversed(graph.nodes)))
    output.args = ((*output.args, *(node for node in graph.nodes if node.op == "call_module")),)
    return fx.GraphModule(gm, graph)


def attention_macs(values: list[Any], outputs: list[Any]) -> float:
    """Count attention by its definition: `query @ key.T` and its result times `value`."""
    query, key, value = (v.type().sizes() for v in values[:3])
    batch, heads, rows, width = query
    return batch * heads * rows * key[2] * width + batch * heads * rows * key[2] * value[3]


def einsum_macs(values: list[Any], outputs: list[Any]) -> Any:
    """Count an einsum as fvcore does, but one of a single operand, a permutation, as none."""
    alone = len(list(values[1].node().inputs())) == 1
    return 0 if alone else einsum_flop_jit(values, outputs)


def fvcore_macs(key: tuple[Any, ...], gm: fx.GraphModule) -> tuple[int, int]:
    """Return fvcore's count of a whole loop run for one sample, and attention's share in it."""
    x, c = inputs(key[0], 1, key[3])
    names = list(c)
    handles: dict[str, Handle] = {f"aten::{ATTENTION}": attention_macs, "aten::einsum": einsum_macs}
    handles |= {operator: (lambda inputs, outputs: 0) for operator in UNCOUNTED_OPERATORS}

    class Positional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loop = with_every_output(gm)

        def forward(self, sample: torch.Tensor, *conditioning: torch.Tensor) -> Any:
            return self.loop(sample, **dict(zip(names, conditioning, strict=True)))

    analysis = FlopCountAnalysis(Positional(), (x, *c.values())).set_op_handle(**handles)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        counts = analysis.by_operator()
    return int(sum(counts.values())), int(counts[ATTENTION])


def torch_macs(key: tuple[Any, ...], gm: fx.GraphModule) -> int:
    """Return torch's own count of what runs, halved, since it counts an addition for every product."""
    x, c = inputs(key[0], 1, key[3])
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        gm(x, **c, generator=zoo.generator())
    return counter.get_total_flops() // 2


@st.composite
def pruned(draw: st.DrawFn) -> tuple[tuple[Any, ...], Plan, Loop]:
    """Draw a loop, a plan for it and its SubNet."""
    key = draw(st.sampled_from(KEYS))
    graph, share, seed = loop(*key), draw(st.floats(0, 1)), draw(st.integers(0, 99))
    keep = torch.rand(graph.num_steps, len(graph.blocks), generator=zoo.generator(seed)) <= share
    keep[0] = True
    table, history = GateTable.of(keep, draw(st.sampled_from(("reuse", "linear")))), draw(st.integers(1, 3))
    if history > 1:
        table = GateTable(keep, scattered((graph.num_steps, len(graph.blocks)), history, seed))
    plan = Plan(graph.facts, table, 0.0)
    return key, plan, build(graph, plan)


@pytest.mark.long
@settings(max_examples=12)
@given(case=pruned())
def test_plan_nodes_fvcore_and_torch_count_the_same(case: tuple[tuple[Any, ...], Plan, Loop]) -> None:
    """One number: predicted from the plan, summed over nodes, and counted while the SubNet runs."""
    key, plan, subnet = case
    counted = count_macs(subnet)
    predicted = cost(*key).of_table(plan.table)
    assert (predicted.total, predicted.attention) == (counted.total, counted.attention)
    assert fvcore_macs(key, subnet) == (counted.total, counted.attention)
    # UniPC's einsum over a single term runs as an elementwise product, which torch does not count.
    if key[1] != "unipc":
        assert torch_macs(key, subnet) == counted.total


@pytest.mark.parametrize("name", zoo.CASES)
def test_a_whole_loop_counts_alike(name: str) -> None:
    """The unpruned loop of every family has one number too, and attention is a part of it."""
    key = (name, "ddim")
    counted = count_macs(loop(*key))
    assert cost(*key).full == Cost(counted.total, counted.attention)
    assert fvcore_macs((name, None, None, None), loop(*key)) == (counted.total, counted.attention)
    assert torch_macs((name, None, None, None), loop(*key)) == counted.total
    assert counted.without_attention == counted.total - counted.attention
    assert 0 < counted.attention < counted.total


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_tables_name_what_each_block_costs(key: tuple[Any, ...]) -> None:
    """Blocks cost the same at every step where they run and nothing elsewhere."""
    whole = count_macs(loop(*key))
    assert (whole.per_block == whole.per_block[0]).all()
    assert (whole.attention_per_block <= whole.per_block).all()
    keep = torch.ones(whole.per_block.shape, dtype=torch.bool)
    keep[1::2, ::2] = False
    plan = Plan.from_keep(loop(*key), keep)
    macs = count_macs(build(loop(*key), plan))
    live = cost(*key).reads.liveness(plan.table).running
    assert torch.equal(macs.per_block, whole.per_block * live)
    assert torch.equal(macs.attention_per_block, whole.attention_per_block * live)


@pytest.mark.parametrize("name", zoo.CASES)
def test_guidance_doubles_the_count(name: str) -> None:
    """Under guidance a sample is two rows of everything that a model computes."""
    plain, guided = count_macs(loop(name)), count_macs(loop(name, "ddim", "block", 2.0))
    assert (guided.total, guided.attention) == (2 * plain.total, 2 * plain.attention)


@pytest.mark.parametrize("granularity", ["stage", "block", "branch"])
def test_the_granularity_does_not_change_the_total(granularity: Any) -> None:
    """However a loop is cut into blocks, it costs the same."""
    for name in ("unet", "dit"):
        assert cost(name, "ddim", granularity).full == cost(name, "ddim", "block").full


def test_attention_by_hand() -> None:
    """Attention of 5 queries of width 4 on 7 keys and values of width 6: 5·7·4 + 5·7·6 a head."""

    class Attend(nn.Module):
        def forward(self, query: Any, key: Any, value: Any) -> torch.Tensor:
            return F.scaled_dot_product_attention(query, key, value)

    shapes = (2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)
    count = fvcore_count(Attend(), tuple(map(torch.zeros, shapes)), {})
    assert count == Cost(2 * 3 * (5 * 7 * 4 + 5 * 7 * 6), 2 * 3 * (5 * 7 * 4 + 5 * 7 * 6))
    assert count.without_attention == 0


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Linear(3, 5), (7, 3), 7 * 3 * 5),
        (nn.Conv2d(2, 4, 3, padding=1), (1, 2, 8, 8), 8 * 8 * 4 * 2 * 9),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=2), (1, 4, 8, 8), 4 * 4 * 4 * 2 * 9),
        (nn.Sequential(nn.GroupNorm(2, 4), nn.SiLU(), nn.Upsample(scale_factor=2)), (1, 4, 8, 8), 0),
        (nn.LayerNorm(8), (3, 8), 0),
        (nn.GRU(3, 5), (7, 2, 3), 14 * 3 * 5 * (3 + 5)),
        (nn.LSTM(3, 5, num_layers=2), (7, 2, 3), 14 * 4 * 5 * (3 + 5 + 5 + 5)),
    ],
    ids=["linear", "convolution", "strided groups", "no products", "norm", "gru", "lstm"],
)
def test_modules_by_hand(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    """Products of matrices and convolutions count; norms, activations and resampling do not."""
    assert fvcore_count(module, (torch.zeros(shape),), {}) == Cost(macs, 0)


def test_counting_leaves_a_model_in_training_mode_as_it_was() -> None:
    """Norms keep their statistics, and every part its mode."""
    model = toy.model(nn.Sequential(nn.Linear(toy.WIDTH, toy.WIDTH), nn.BatchNorm1d(toy.WIDTH))).train()
    model.layers[0][0].eval()
    graph = toy.traced(model)
    before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    assert count_macs(graph).total == 2 * toy.WIDTH**2
    assert LoopCost.of(graph).full.total == 2 * toy.WIDTH**2
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes


def test_torchs_own_attention_counts_in_eval_mode_too() -> None:
    """There it takes a fused path, which would count as nothing."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    given = (torch.zeros(1, 5, 8),) * 3
    count = fvcore_count(attention, given, {"need_weights": False})
    assert fvcore_count(attention.eval(), given, {"need_weights": False}) == count
    assert count.total == 5 * 8 * 8 * 4 + 2 * 5 * 5 * 8
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (torch.mm, ((3, 4), (4, 5)), 3 * 4 * 5),
        (torch.baddbmm, ((2, 3, 5), (2, 3, 4), (2, 4, 5)), 2 * 3 * 4 * 5),
        (partial(torch.tensordot, dims=([1, 2], [0, 1])), ((3, 4, 2), (4, 2, 5)), 3 * 4 * 2 * 5),
        (F.bilinear, ((7, 3), (7, 4), (5, 3, 4)), 7 * 3 * 4 * 5),
        (torch.matmul, ((6, 1, 3, 4), (2, 4, 5)), 6 * 2 * 3 * 4 * 5),
        (torch.matmul, ((3, 4), (4,)), 3 * 4),
        (torch.matmul, ((4,), (4,)), 4),
        (torch.linalg.matmul, ((3, 4), (4, 5)), 3 * 4 * 5),
        (torch.inner, ((2, 3, 5), (6, 5)), 2 * 3 * 5 * 6),
        (torch.mv, ((4, 5), (5,)), 4 * 5),
        (torch.addmv, ((4,), (4, 5), (5,)), 4 * 5),
        (torch.addbmm, ((3, 6), (2, 3, 4), (2, 4, 6)), 2 * 3 * 4 * 6),
        (F.conv1d, ((1, 8, 10), (4, 8, 3)), 8 * 4 * 3 * 8),
        (F.conv3d, ((1, 8, 5, 5, 5), (4, 8, 3, 3, 3)), 8 * 4 * 27 * 27),
        (F.conv_transpose2d, ((1, 8, 10, 10), (8, 4, 3, 3)), 8 * 4 * 9 * 100),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_functions_by_hand(function: Any, shapes: tuple[tuple[int, ...], ...], macs: int) -> None:
    """Under autocast as without it, whose casts trip up what counts."""

    class Called(nn.Module):
        def forward(self, *given: torch.Tensor) -> Any:
            return function(*given)

    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert fvcore_count(Called(), tuple(map(torch.zeros, shapes)), {}) == Cost(macs, 0)


def test_products_that_cannot_be_counted_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """Ratios without them would be silently wrong."""

    class Distances(nn.Module):
        def forward(self, one: torch.Tensor) -> torch.Tensor:
            return torch.cdist(one, one)

    assert fvcore_count(Distances(), (torch.zeros(2, 3, 4),), {}) == Cost()
    assert "MACs of aten::cdist" in caplog.text


def test_a_loop_that_multiplies_nothing_is_refused() -> None:
    """No share of nothing can be removed."""
    step = toy.Step(lambda prediction, sample: prediction)
    graph = trace(toy.Stack(nn.SiLU()), step, 2, sample=toy.sample(), conditioning={}, granularity="stage")
    with pytest.raises(PlanError, match="multiplies nothing"):
        LoopCost.of(graph)


def test_products_outside_of_modules_count() -> None:
    """A product that the model or the scheduler writes as a function is in the sum, step by step."""

    class Mixed(toy.Stack):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return super().forward(sample @ torch.ones(3, 3), timestep)

    graph = trace(
        Mixed(nn.Linear(3, 3)),
        toy.Step(lambda prediction, sample: F.linear(prediction, torch.ones(3, 3)) + sample),
        2,
        sample=toy.sample(),
        conditioning={},
        granularity="stage",
    )
    whole = count_macs(graph)
    assert whole.total == 2 * (9 + 9 + 9)
    assert whole.per_block.tolist() == [[9], [9]]
    skipped = Plan.from_keep(graph, torch.tensor([[True], [False]]))
    subnet = build(graph, skipped)
    # The product before the block dies with it unless the sum still reads it: it does.
    assert count_macs(subnet).total == whole.total - 9
    assert LoopCost.of(graph).of_table(skipped.table).total == whole.total - 9


class Attending(nn.Module):
    """Has no weights, and multiplies."""

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Return the attention of rows of numbers to each other."""
        return F.scaled_dot_product_attention(query[..., None], key[..., None], key[..., None])[..., 0]


@pytest.mark.parametrize(
    ("multiply", "macs"),
    [
        (lambda model, x: model.attending(x, x), 2 * 3 * 3),
        (lambda model, x: torch.inner(x, torch.ones(3, 3)), 3 * 3),
        (lambda model, x: x.inner(torch.ones(3, 3)), 3 * 3),
    ],
    ids=["module without weights", "function", "method"],
)
def test_products_without_weights_count(multiply: Any, macs: int) -> None:
    """Whatever Python writes them as."""

    class Multiplying(toy.Stack):
        def __init__(self) -> None:
            super().__init__(nn.Linear(3, 3))
            self.attending = Attending()

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return super().forward(multiply(self, sample), timestep)

    assert count_macs(toy.traced(Multiplying(), 2)).total == 2 * (9 + macs)


class Untraceable(nn.Module):
    """Has no weights, and no tracer follows it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what went in."""
        if torch.jit.is_tracing():
            raise IndexError("not here")
        return x + 0


def test_what_has_no_weights_and_cannot_be_counted_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A table of positions, say: a search goes on."""

    class Positioned(toy.Stack):
        def __init__(self) -> None:
            super().__init__(nn.Linear(3, 3))
            self.positions = Untraceable()

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return super().forward(self.positions(sample), timestep)

    assert count_macs(toy.traced(Positioned(), 2)).total == 2 * 9
    assert "MACs of Untraceable cannot be counted (not here)" in caplog.text
    assert "it has no weights and is taken to multiply nothing" in caplog.text


def test_counting_works_without_storage() -> None:
    """A model on the meta device, as for planning a large one, counts the same."""
    model = copy.deepcopy(zoo.model("dit")).to("meta")
    graph = trace(model, zoo.SCHEDULERS["ddim"](), 5)
    assert count_macs(graph).total == count_macs(loop("dit")).total
    assert all(parameter.is_meta for parameter in model.parameters())


def test_costs_add_up() -> None:
    """Costs add in both conventions."""
    assert Cost(5, 2) + Cost(7, 3) == Cost(12, 5)
    assert (Cost(5, 2) + Cost(7, 3)).without_attention == 7


def test_a_costly_call_shared_by_two_blocks_lives_as_long_as_one_of_them() -> None:
    """What only closed blocks read is not counted; what one open block still reads is."""

    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(3, 3)
            self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            stem = self.stem(sample)
            return self.layers[0](stem) + self.layers[1](stem)

    graph = trace(Forked(), toy.Step(), 3, sample=toy.sample(), conditioning={}, granularity="stage")
    costs = LoopCost.of(graph)
    assert costs.full.total == 3 * 3 * 9
    for middle, runs in (([True, False], 2), ([False, False], 0)):
        table = GateTable.of(torch.tensor([[True, True], middle, [True, True]]))
        assert costs.of_table(table).total == (3 + runs + 3) * 9
    assert costs.smallest_kept == 3 / 9


@pytest.mark.parametrize(
    ("entry", "runs"),
    [
        ((1, 0, 0), [0, 0, 1]),
        ((0, 1, 0), [0, 1, 0]),
        ((0, 0, 1), [1, 0, 0]),
        ((2, -1, 0), [0, 1, 1]),
        ((2, 0, -1), [1, 0, 1]),
        ((0, 2, -1), [1, 1, 0]),
        ((1, 1, 1), [1, 1, 1]),
        ((0, 0, 0), [0, 0, 1]),  # the last value is read for its shape
    ],
    ids=str,
)
def test_what_a_forecast_reads_runs_for_it(entry: tuple[int, ...], runs: list[int]) -> None:
    """Of a block that nobody else reads, those values are computed that have a weight."""

    class Chain(toy.Stack):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return self.layers[1](self.layers[0](sample))

    graph = trace(
        Chain(nn.Linear(3, 3), nn.Linear(3, 3)),
        toy.Step(),
        5,
        sample=toy.sample(),
        conditioning={},
        granularity="stage",
    )
    # The second block hides the first at steps 1 to 3, and reads it at step 4.
    keep = torch.tensor([[1, 1], [1, 0], [1, 0], [1, 0], [0, 1]]).bool()
    weights = torch.zeros(5, 2, 3)
    weights[..., 0] = 1
    weights[4, 0] = torch.tensor(entry)
    plan = Plan.from_keep(graph, keep, weights=weights)
    counted = count_macs(build(graph, plan))
    assert counted.per_block[1:4, 0].tolist() == [9 * run for run in runs]
    assert plan.ratio == 1 - counted.total / count_macs(graph).total
    assert torch.equal(LoopCost.of(graph).reads.liveness(plan.table).running, counted.per_block > 0)


@pytest.mark.parametrize(
    ("macs", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (1_234_567, "1.235 M"),
        (401.6e9, "401.6 G"),
        (16.93e12, "16.93 T"),
        (2e15, "2 P"),
    ],
)
def test_macs_are_shown_in_units(macs: float, shown: str) -> None:
    """Four digits and a prefix."""
    assert amount(macs) == shown


class Odd(nn.Module):
    """A layer of weights that fvcore cannot record, as quantised ones are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fail as torch's own tracer does."""
        raise RuntimeError("0 INTERNAL ASSERT FAILED, please report a bug\nwith a stack")


def test_what_cannot_be_recorded_says_what_to_do() -> None:
    """And which layer it is."""
    with pytest.raises(TraceError, match=r"MACs of Odd cannot be counted .*bug\).*search on the plain ones"):
        fvcore_count(Odd(), (torch.zeros(1, 2),), {})
