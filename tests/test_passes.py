"""The passes one by one: what they make of a graph, what they refuse, and the rules they answer to."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import pytest
import torch
from expecttest import assert_expected_inline
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

import toy
import zoo
from dipgo_fx.api import build
from dipgo_fx.passes import (
    BindGates,
    DropDeadBlocks,
    FoldConstants,
    GraphPass,
    InsertGates,
    InvariantError,
    PassError,
    PassRecord,
    Pipeline,
    find_blocks,
    forecast,
    rules,
    split_steps,
)
from dipgo_fx.plan import Plan
from dipgo_fx.tracing import Loop, trace
from loops import inputs, loop, run

ALL_KEPT = ((True, True), (True, True))
REPEAT = (1.0, 0.0, 0.0)


def show(gm: fx.GraphModule) -> str:
    """Print a graph, one node a line: its name and what it calls on what."""
    return "".join(f"{_line(node)}\n" for node in gm.graph.nodes)


def _line(node: fx.Node) -> str:
    if node.op == "output":
        return f"return {node.args[0]}"
    if node.op in ("placeholder", "get_attr"):
        return f"{node.name} = {node.op}"
    named = node.target if isinstance(node.target, str) else cast(Any, node.target).__name__
    arguments = [str(a) for a in node.args] + [f"{k}={v}" for k, v in node.kwargs.items()]
    return f"{node.name} = {named}({', '.join(arguments)})"


def supernet(order: int = 1, steps: int = 2) -> Loop:
    """Return the SuperNet of the toy loop."""
    return cast(Loop, InsertGates(order)(toy.loop(steps)).graph_module)


def bound(keep: Any, weights: Any = None, order: int = 2) -> Loop:
    """Return the toy loop with gates bound, dead blocks still in it."""
    gated = supernet(1 if weights is None else order, len(keep))
    return cast(Loop, BindGates(keep, weights)(gated).graph_module)


def forecast_at_step_2() -> Loop:
    """Return a bound loop whose first block is a forecast of two values at its last step."""
    keep = ((True, True), (True, True), (False, True))
    return bound(keep, ((REPEAT, REPEAT),) * 2 + (((2.0, -1.0), REPEAT),))


# -- golden graphs


def test_the_toy_loop() -> None:
    """A traced loop is the model's part and the scheduler's, step after step."""
    assert_expected_inline(
        show(toy.loop()),
        """\
sample = placeholder
generator = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
layers_1 = model.layers.1(add)
add_1 = add(add, layers_1)
sub = sub(_inputs, add_1)
layers_2 = model.layers.0(sub)
add_2 = add(sub, layers_2)
layers_3 = model.layers.1(add_2)
add_3 = add(add_2, layers_3)
sub_1 = sub(sub, add_3)
return sub_1
""",
    )


def test_reuse_gates() -> None:
    """From the second step on readers take a gate between the last value and the fresh one."""
    assert_expected_inline(
        show(supernet()),
        """\
sample = placeholder
generator = placeholder
gates = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
layers_1 = model.layers.1(add)
add_1 = add(add, layers_1)
sub = sub(_inputs, add_1)
layers_2 = model.layers.0(sub)
getitem = getitem(gates, (1, 0))
gate = gate(layers_0, layers_2, getitem)
add_2 = add(sub, gate)
layers_3 = model.layers.1(add_2)
getitem_1 = getitem(gates, (1, 1))
gate_1 = gate(layers_1, layers_3, getitem_1)
add_3 = add(add_2, gate_1)
sub_1 = sub(sub, add_3)
return sub_1
""",
    )


def test_gates_of_two_values() -> None:
    """A backup forecasts from two histories, which move on where the gate is open."""
    gated = InsertGates(2)(toy.loop(3, None, nn.Linear(3, 3))).graph_module
    assert_expected_inline(
        show(gated),
        """\
sample = placeholder
generator = placeholder
gates = placeholder
weights = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
sub = sub(_inputs, add)
layers_1 = model.layers.0(sub)
getitem = getitem(gates, (1, 0))
getitem_1 = getitem(weights, (1, 0))
forecast = forecast(getitem_1, layers_0, layers_0)
gate = gate(forecast, layers_1, getitem)
gate_1 = gate(layers_0, layers_1, getitem)
gate_2 = gate(layers_0, layers_0, getitem)
add_1 = add(sub, gate)
sub_1 = sub(sub, add_1)
layers_2 = model.layers.0(sub_1)
getitem_2 = getitem(gates, (2, 0))
getitem_3 = getitem(weights, (2, 0))
forecast_1 = forecast(getitem_3, gate_1, gate_2)
gate_3 = gate(forecast_1, layers_2, getitem_2)
gate_4 = gate(gate_1, layers_2, getitem_2)
gate_5 = gate(gate_2, gate_1, getitem_2)
add_2 = add(sub_1, gate_3)
sub_2 = sub(sub_1, add_2)
return sub_2
""",
    )


def test_gates_of_three_values() -> None:
    """With a third value there is a third history, and nothing else changes."""
    gated = InsertGates(3)(toy.loop(3, None, nn.Linear(3, 3))).graph_module
    assert_expected_inline(
        show(gated),
        """\
sample = placeholder
generator = placeholder
gates = placeholder
weights = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
sub = sub(_inputs, add)
layers_1 = model.layers.0(sub)
getitem = getitem(gates, (1, 0))
getitem_1 = getitem(weights, (1, 0))
forecast = forecast(getitem_1, layers_0, layers_0, layers_0)
gate = gate(forecast, layers_1, getitem)
gate_1 = gate(layers_0, layers_1, getitem)
gate_2 = gate(layers_0, layers_0, getitem)
gate_3 = gate(layers_0, layers_0, getitem)
add_1 = add(sub, gate)
sub_1 = sub(sub, add_1)
layers_2 = model.layers.0(sub_1)
getitem_2 = getitem(gates, (2, 0))
getitem_3 = getitem(weights, (2, 0))
forecast_1 = forecast(getitem_3, gate_1, gate_2, gate_3)
gate_4 = gate(forecast_1, layers_2, getitem_2)
gate_5 = gate(gate_1, layers_2, getitem_2)
gate_6 = gate(gate_2, gate_1, getitem_2)
gate_7 = gate(gate_3, gate_2, getitem_2)
add_2 = add(sub_1, gate_4)
sub_2 = sub(sub_1, add_2)
return sub_2
""",
    )


def test_bound_gates() -> None:
    """A closed gate becomes the block's earlier value, an open one its fresh value."""
    assert_expected_inline(
        show(bound(((True, True), (False, True)))),
        """\
sample = placeholder
generator = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
layers_1 = model.layers.1(add)
add_1 = add(add, layers_1)
sub = sub(_inputs, add_1)
layers_2 = model.layers.0(sub)
add_2 = add(sub, layers_0)
layers_3 = model.layers.1(add_2)
add_3 = add(add_2, layers_3)
sub_1 = sub(sub, add_3)
return sub_1
""",
    )


def test_bound_forecasts() -> None:
    """Weights become products and sums over the last computed values; a lone 1 leaves nothing."""
    keep = ((True, True), (True, True), (False, False))
    assert_expected_inline(
        show(bound(keep, ((REPEAT, REPEAT),) * 2 + (((2.0, -1.0), REPEAT),))),
        """\
sample = placeholder
generator = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
layers_1 = model.layers.1(add)
add_1 = add(add, layers_1)
sub = sub(_inputs, add_1)
layers_2 = model.layers.0(sub)
add_2 = add(sub, layers_2)
layers_3 = model.layers.1(add_2)
add_3 = add(add_2, layers_3)
sub_1 = sub(sub, add_3)
layers_4 = model.layers.0(sub_1)
mul = mul(layers_2, 2.0)
add_6 = add(mul, layers_0, alpha=-1.0)
add_4 = add(sub_1, add_6)
layers_5 = model.layers.1(add_4)
add_5 = add(add_4, layers_3)
sub_2 = sub(sub_1, add_5)
return sub_2
""",
    )


def test_bound_forecasts_of_three_values() -> None:
    """A value whose weight is 0 is not read; without any weight the last one is read for its shape."""
    keep = ((True, True),) * 3 + ((False, False), (False, False))
    last = (((0.5, 0.25, -2.0), (0.0, 0.0, 1.0)), ((0.0, 3.0, 1.0), (0.0, 0.0, 0.0)))
    assert_expected_inline(
        show(DropDeadBlocks()(bound(keep, ((REPEAT, REPEAT),) * 3 + last, 3)).graph_module),
        """\
sample = placeholder
generator = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
layers_1 = model.layers.1(add)
add_1 = add(add, layers_1)
sub = sub(_inputs, add_1)
layers_2 = model.layers.0(sub)
add_2 = add(sub, layers_2)
layers_3 = model.layers.1(add_2)
add_3 = add(add_2, layers_3)
sub_1 = sub(sub, add_3)
layers_4 = model.layers.0(sub_1)
add_4 = add(sub_1, layers_4)
layers_5 = model.layers.1(add_4)
add_5 = add(add_4, layers_5)
sub_2 = sub(sub_1, add_5)
mul = mul(layers_4, 0.5)
add_10 = add(mul, layers_2, alpha=0.25)
add_11 = add(add_10, layers_0, alpha=-2.0)
add_6 = add(sub_2, add_11)
add_7 = add(add_6, layers_1)
sub_3 = sub(sub_2, add_7)
mul_1 = mul(layers_2, 3.0)
add_12 = add(mul_1, layers_0, alpha=1.0)
add_8 = add(sub_3, add_12)
mul_2 = mul(layers_5, 0.0)
add_9 = add(add_8, mul_2)
sub_4 = sub(sub_3, add_9)
return sub_4
""",
    )


def test_gates_bound_without_weights() -> None:
    """Where a plan gives no weights they stay an input, to be learned."""
    keep = ((True, True), (True, True), (False, False))
    assert_expected_inline(
        show(BindGates(keep)(supernet(2, 3)).graph_module),
        """\
sample = placeholder
generator = placeholder
weights = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
layers_1 = model.layers.1(add)
add_1 = add(add, layers_1)
sub = sub(_inputs, add_1)
layers_2 = model.layers.0(sub)
getitem_1 = getitem(weights, (1, 0))
forecast = forecast(getitem_1, layers_0, layers_0)
add_2 = add(sub, layers_2)
layers_3 = model.layers.1(add_2)
getitem_5 = getitem(weights, (1, 1))
forecast_2 = forecast(getitem_5, layers_1, layers_1)
add_3 = add(add_2, layers_3)
sub_1 = sub(sub, add_3)
layers_4 = model.layers.0(sub_1)
getitem_3 = getitem(weights, (2, 0))
forecast_1 = forecast(getitem_3, layers_2, layers_0)
add_4 = add(sub_1, forecast_1)
layers_5 = model.layers.1(add_4)
getitem_7 = getitem(weights, (2, 1))
forecast_3 = forecast(getitem_7, layers_3, layers_1)
add_5 = add(add_4, forecast_3)
sub_2 = sub(sub_1, add_5)
return sub_2
""",
    )


def test_dropped_dead_blocks() -> None:
    """What only a closed gate's fresh value needed is gone."""
    dropped = DropDeadBlocks()(bound(((True, True), (True, False)))).graph_module
    assert_expected_inline(
        show(dropped),
        """\
sample = placeholder
generator = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
layers_1 = model.layers.1(add)
add_1 = add(add, layers_1)
sub = sub(_inputs, add_1)
layers_2 = model.layers.0(sub)
add_2 = add(sub, layers_2)
add_3 = add(add_2, layers_1)
sub_1 = sub(sub, add_3)
return sub_1
""",
    )


class Embedded(toy.Stack):
    """A stack whose blocks see an embedding of the timestep."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(toy.WIDTH, toy.WIDTH))
        self.embed = nn.Linear(1, toy.WIDTH)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, WIDTH)`."""
        return super().forward(sample + self.embed(timestep[:, None].to(sample.dtype)), timestep)


def embedded(guidance_scale: float | None = None) -> Loop:
    """Return a loop with a time embedding."""
    return trace(
        Embedded(),
        toy.Step(),
        2,
        sample=toy.sample(),
        conditioning={},
        granularity="stage",
        guidance_scale=guidance_scale,
    )


def test_folded_constants() -> None:
    """A time embedding becomes a stored row."""
    assert_expected_inline(
        show(FoldConstants()(embedded()).graph_module),
        """\
sample = placeholder
generator = placeholder
_inputs = _inputs(sample)
size = size(_inputs, 0)
_folded_0 = get_attr
expand = expand(_folded_0, size, -1)
add = add(_inputs, expand)
layers_0 = model.layers.0(add)
add_1 = add(add, layers_0)
sub = sub(_inputs, add_1)
_folded_1 = get_attr
expand_1 = expand(_folded_1, size, -1)
add_2 = add(sub, expand_1)
layers_1 = model.layers.0(add_2)
add_3 = add(add_2, layers_1)
sub_1 = sub(sub, add_3)
return sub_1
""",
    )


# -- every pass: honest, repeatable, and no editor of what it is given

PASSES: dict[str, tuple[GraphPass, Callable[[], fx.GraphModule]]] = {
    "insert-gates": (InsertGates(), toy.loop),
    "insert-gates, order 2": (InsertGates(2), lambda: toy.loop(3)),
    "insert-gates, order 3": (InsertGates(3), lambda: toy.loop(3)),
    "bind-gates": (BindGates(((True, True), (False, True))), supernet),
    "bind-gates, weights left": (
        BindGates(((True, True), (False, True))),
        lambda: supernet(3),
    ),
    "bind-gates, weights": (
        BindGates(((True, True), (False, True)), ((REPEAT, REPEAT), ((0.5, 0.25), REPEAT))),
        lambda: supernet(2),
    ),
    "drop-dead-blocks": (DropDeadBlocks(), lambda: bound(((True, True), (False, False)))),
    "fold-constants": (FoldConstants(), embedded),
}
passes = pytest.mark.parametrize(("rewrite", "make"), PASSES.values(), ids=PASSES.keys())


@passes
def test_a_pass_tells_that_it_changed_the_graph(
    rewrite: GraphPass, make: Callable[[], fx.GraphModule]
) -> None:
    """A pass that found its match returns another graph and says so."""
    before = make()
    result = rewrite(before)
    assert result.modified
    assert result.graph_module is not before
    assert show(result.graph_module) != show(before)


@passes
def test_a_pass_leaves_its_input_alone(rewrite: GraphPass, make: Callable[[], fx.GraphModule]) -> None:
    """Nodes, tags, meta, code and weights of the graph that went in are as they were."""
    before = make()
    found = show(before), _tags(before), dict(before.meta), before.code, list(before.state_dict())
    rewrite(before)
    assert found == (show(before), _tags(before), dict(before.meta), before.code, list(before.state_dict()))
    before.graph.lint()


@passes
def test_a_pass_shares_the_weights(rewrite: GraphPass, make: Callable[[], fx.GraphModule]) -> None:
    """The result holds the very parameters of its input, not copies."""
    before = make()
    after = dict(rewrite(before).graph_module.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.named_parameters() if name in after)
    assert set(after) <= {name for name, _ in before.named_parameters()}


@passes
def test_a_pass_keeps_the_kind_of_its_module(rewrite: GraphPass, make: Callable[[], fx.GraphModule]) -> None:
    """A loop stays a `Loop` with its facts and its mode."""
    before = make().train()
    after = rewrite(before).graph_module
    assert isinstance(after, Loop)
    assert after.facts == before.meta["facts"]
    assert after.training


def test_a_pass_may_recompile() -> None:
    """A pass that recompiles its graph, as fx's own do, does not change what its input runs."""

    def negate(gm: fx.GraphModule) -> bool:
        sub = _node(gm, lambda node: node.target is operator.sub)
        sub.target = operator.add
        gm.recompile()
        return True

    before = toy.loop()
    expected = run(before, toy.sample(), {})
    after = Misbehaved(negate)(before).graph_module
    assert torch.equal(run(before, toy.sample(), {}), expected)
    assert not torch.equal(run(after, toy.sample(), {}), expected)


def test_a_pass_may_delete_modules() -> None:
    """A pass that drops submodules of its graph does not take them from its input."""

    def drop(gm: fx.GraphModule) -> bool:
        call = next(n for n in reversed(gm.graph.nodes) if n.target == "model.layers.1")
        for node in [n for n in gm.graph.nodes if n.target == call.target]:
            node.replace_all_uses_with(node.args[0])
            gm.graph.erase_node(node)
        gm.delete_all_unused_submodules()
        return True

    before = toy.loop()
    expected = run(before, toy.sample(), {})
    after = Misbehaved(drop)(before).graph_module
    assert torch.equal(run(before, toy.sample(), {}), expected)
    assert "model.layers.1.weight" not in dict(after.named_parameters())


def test_folded_rows_are_not_weights() -> None:
    """What is folded belongs to the graph: the state dict is that of the model's own tensors."""
    folded = FoldConstants()(embedded()).graph_module
    assert {name for name, _ in folded.named_buffers()} == {"_folded_0", "_folded_1"}
    assert set(folded.state_dict()) == {"model.layers.0.weight", "model.layers.0.bias"}


def _tags(gm: fx.GraphModule) -> list[dict[str, Any]]:
    return [dict(node.meta["custom"]) for node in gm.graph.nodes]


@pytest.mark.parametrize(
    "rewrite", [DropDeadBlocks(), FoldConstants()], ids=["drop-dead-blocks", "fold-constants"]
)
@pytest.mark.parametrize("make", [toy.loop, supernet], ids=["loop", "supernet"])
def test_a_pass_without_a_match_returns_its_input(
    rewrite: GraphPass, make: Callable[[], fx.GraphModule]
) -> None:
    """With nothing to do the very module comes back."""
    before = make()
    result = rewrite(before)
    assert not result.modified
    assert result.graph_module is before


@pytest.mark.parametrize("name", ["drop-dead-blocks", "fold-constants"])
def test_a_pass_has_nothing_left_to_do_the_second_time(name: str) -> None:
    """Passes that clean up find nothing in what they cleaned."""
    rewrite, make = PASSES[name]
    once = rewrite(make()).graph_module
    assert rewrite(once).graph_module is once


@st.composite
def graphs(draw: st.DrawFn) -> fx.GraphModule:
    """Draw a module of cheap calls, many of which nobody reads."""
    graph = fx.Graph()
    nodes = [graph.placeholder("x")]
    for _ in range(draw(st.integers(1, 12))):
        calls: list[Any] = [operator.add, operator.mul, operator.sub, torch.maximum]
        arguments = tuple(draw(st.sampled_from(nodes)) for _ in range(2))
        nodes.append(graph.call_function(draw(st.sampled_from(calls)), arguments))
    graph.output(draw(st.sampled_from(nodes)))
    return fx.GraphModule(nn.Module(), graph)


@given(gm=graphs())
def test_dropping_dead_nodes_keeps_the_result(gm: fx.GraphModule) -> None:
    """On any graph: same result, no dead node left, honest about it, and done after once."""
    result = DropDeadBlocks()(gm)
    after = result.graph_module
    x = toy.sample()
    assert torch.equal(after(x), gm(x))
    assert all(node.users for node in after.graph.nodes if node.op == "call_function")
    assert result.modified == (len(after.graph.nodes) < len(gm.graph.nodes))
    assert not DropDeadBlocks()(after).modified


def test_a_dead_block_takes_its_weights_along() -> None:
    """A block that dies at every step leaves no module behind."""
    graph = trace(Embedded(), toy.Step(), 2, sample=toy.sample(), conditioning={}, granularity="stage")
    assert "model.embed.weight" in dict(graph.named_parameters())
    folded = FoldConstants()(graph).graph_module
    assert "model.embed.weight" not in dict(folded.named_parameters())


@pytest.mark.parametrize("guidance_scale", [None, 2.0], ids=["plain", "guided"])
def test_folding_keeps_the_result(guidance_scale: float | None) -> None:
    """A folded loop equals the loop bit for bit at batch 1, to rounding elsewhere, guided or not."""
    graph = embedded(guidance_scale)
    folded = FoldConstants()(graph).graph_module
    assert torch.equal(run(folded, toy.sample(1), {}), run(graph, toy.sample(1), {}))
    for batch in (2, 3):
        torch.testing.assert_close(run(folded, toy.sample(batch), {}), run(graph, toy.sample(batch), {}))


@pytest.mark.parametrize("guidance_scale", [None, 2.0], ids=["plain", "guided"])
@pytest.mark.parametrize("name", zoo.MODELS)
def test_folding_a_real_model_keeps_the_result(name: str, guidance_scale: float | None) -> None:
    """Time embeddings of every family fold to the same result, and nothing is left to fold."""
    graph = loop(name, "ddim", "block", guidance_scale)
    folded = FoldConstants()(graph).graph_module
    for batch in (1, 3):
        x, c = inputs(name, batch, guidance_scale)
        torch.testing.assert_close(run(folded, x, c), run(graph, x, c), rtol=1e-4, atol=1e-4)
    assert FoldConstants()(folded).graph_module is folded


def test_split_steps_computes_the_same() -> None:
    """A split loop has one submodule a step and the same result, pruned or not."""
    graph = loop("unet", "unipc")
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[1::2, ::2] = False
    x, c = inputs("unet", 2)
    for whole in (graph, build(graph, Plan.from_keep(graph, keep, "linear"))):
        split = split_steps(whole)
        assert [name for name, _ in split.named_children()] == [f"submod_{t}" for t in range(5)]
        assert torch.equal(run(split, x, c), run(whole, x, c))


# -- refusals


@pytest.mark.parametrize(
    ("rewrite", "make", "message"),
    [
        (InsertGates(), supernet, "expected a traced loop, got stage 'supernet'"),
        (InsertGates(), lambda: bound(ALL_KEPT), "expected a traced loop, got stage 'bound'"),
        (BindGates(ALL_KEPT), toy.loop, "expected a SuperNet, got stage 'loop'"),
        (BindGates(((True,), (True,))), supernet, "gates must have 2 columns"),
        (BindGates(((True, True), (True,))), supernet, "gates must have 2 columns"),
        (BindGates(((True, True),)), supernet, "gates has 1 rows for 2 steps"),
        (
            BindGates(ALL_KEPT, ((REPEAT,), (REPEAT,))),
            lambda: supernet(2),
            "weights must have 2 columns",
        ),
        (BindGates(ALL_KEPT, ((REPEAT, REPEAT),)), lambda: supernet(3), "weights has 1 rows for 2 steps"),
        (BindGates(ALL_KEPT, ((REPEAT, REPEAT),) * 2), supernet, "order 1 .* takes no weights"),
        (
            BindGates(ALL_KEPT, (((0.0, 0.0, 1.0), REPEAT),) * 2),
            lambda: supernet(2),
            "more than the 2 values",
        ),
        (InsertGates(0), toy.loop, "order must lie in 1 to 3, got 0"),
        (InsertGates(4), toy.loop, "order must lie in 1 to 3, got 4"),
    ],
)
def test_a_pass_refuses_what_it_cannot_work_on(
    rewrite: GraphPass, make: Callable[[], fx.GraphModule], message: str
) -> None:
    """The error names the pass and what it expected."""
    with pytest.raises(InvariantError, match=f"pass '{rewrite.name}' failed after .*{message}"):
        rewrite(make())


# -- the template and the pipeline


@dataclass(frozen=True)
class Misbehaved(GraphPass):
    """A pass that does something wrong."""

    name: ClassVar[str] = "misbehaved"
    fault: Callable[[fx.GraphModule], bool]

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Do it."""
        return self.fault(gm)


def _calls_nothing(gm: fx.GraphModule) -> bool:
    next(n for n in gm.graph.nodes if n.op == "call_module").target = "nowhere"
    return True


def _fails(gm: fx.GraphModule) -> bool:
    raise KeyError("fault")


def test_a_broken_graph_is_caught_after_the_pass_that_broke_it() -> None:
    """An ill-formed graph is an error that names the pass, what ran before, and one line of why."""
    with pytest.raises(PassError) as error:
        Pipeline((InsertGates(), Misbehaved(_calls_nothing)))(toy.loop())
    assert str(error.value).startswith("pass 'misbehaved' failed after ['insert-gates']: ")
    assert "nowhere" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_error_inside_a_pass_keeps_its_cause() -> None:
    """An exception of any kind arrives as a PassError that names the pass and chains the cause."""
    with pytest.raises(PassError, match=r"pass 'misbehaved' failed after \[\]: 'fault'") as error:
        Misbehaved(_fails)(toy.loop())
    assert not isinstance(error.value, InvariantError)
    assert isinstance(error.value.__cause__, KeyError)


def test_conditions_are_checked_around_a_rewrite() -> None:
    """`requires` sees the graph before, `ensures` sees the graph after."""

    @dataclass(frozen=True)
    class Checked(GraphPass):
        name: ClassVar[str] = "checked"

        def requires(self, gm: fx.GraphModule) -> None:
            gm.meta["seen"] = [len(gm.graph.nodes)]

        def rewrite(self, gm: fx.GraphModule) -> bool:
            output = next(iter(reversed(gm.graph.nodes)))
            with gm.graph.inserting_before(output):
                new = gm.graph.call_function(operator.neg, output.args)
            new.meta = dict(output.args[0].meta)
            output.args = (new,)
            return True

        def ensures(self, gm: fx.GraphModule) -> None:
            gm.meta["seen"].append(len(gm.graph.nodes))

    before = toy.loop()
    count = len(before.graph.nodes)
    after = Checked()(before).graph_module
    assert after.meta["seen"] == [count, count + 1]
    assert torch.equal(run(after, toy.sample(), {}), -run(before, toy.sample(), {}))


def test_a_pipeline_equals_its_passes_one_by_one() -> None:
    """Running passes together gives the graph and the code of running them in turn."""
    together, records = Pipeline((InsertGates(), BindGates(((True, True), (False, True))), DropDeadBlocks()))(
        toy.loop()
    )
    in_turn = DropDeadBlocks()(bound(((True, True), (False, True)))).graph_module
    assert show(together) == show(in_turn)
    assert together.code == in_turn.code
    assert [record.name for record in records] == ["insert-gates", "bind-gates", "drop-dead-blocks"]
    assert all(record.modified for record in records)
    assert records[0].nodes_before == len(toy.loop().graph.nodes)
    assert records[-1].nodes_after == len(together.graph.nodes)
    assert records[0].nodes_after == records[1].nodes_before


def test_a_callback_sees_every_pass() -> None:
    """The callback gets the pass, the graph after it and its record."""
    seen: list[tuple[str, int]] = []

    def callback(step: GraphPass, gm: fx.GraphModule, record: PassRecord) -> None:
        seen.append((step.name, len(gm.graph.nodes)))

    _, records = Pipeline((InsertGates(), DropDeadBlocks()), callback)(toy.loop())
    assert seen == [(record.name, record.nodes_after) for record in records]


def test_a_pipeline_of_nothing_returns_its_input() -> None:
    """Without a pass, or with none that finds work, the very module comes back."""
    graph = toy.loop()
    assert Pipeline(())(graph) == (graph, ())
    assert Pipeline((DropDeadBlocks(), DropDeadBlocks()))(graph)[0] is graph


# -- the rules, each by a graph that breaks it


def _node(gm: fx.GraphModule, wanted: Callable[[fx.Node], bool]) -> fx.Node:
    return next(node for node in gm.graph.nodes if wanted(node))


def _retag(node: fx.Node, **tags: Any) -> None:
    node.meta["custom"] = {**node.meta["custom"], **tags}


def _block(gm: fx.GraphModule, step: int, block: int = 0) -> fx.Node:
    wanted = step, f"model.layers.{block}"
    return _node(gm, lambda n: n.op == "call_module" and (rules.tag(n, "step"), n.target) == wanted)


def _gate(gm: fx.GraphModule, role: str = "gate") -> fx.Node:
    return _node(gm, lambda n: rules.tag(n, "role") == role)


def _untagged(gm: fx.GraphModule) -> None:
    del _block(gm, 1).meta["custom"]


def _reads_the_future(gm: fx.GraphModule) -> None:
    _retag(_block(gm, 0), step=1)


def _leaves_a_gate(gm: fx.GraphModule) -> None:
    _retag(_block(gm, 1), role="gate")


def _mixes_blocks(gm: fx.GraphModule) -> None:
    gate = _gate(gm)
    gate.args = (_block(gm, 0, 1), *gate.args[1:])


def _forecasts_another_block(gm: fx.GraphModule) -> None:
    forecast = _gate(gm, "backup")
    forecast.args = (forecast.args[0], _block(gm, 0, 1), *forecast.args[2:])


def _sums_another_block(gm: fx.GraphModule) -> None:
    total = _node(gm, lambda n: rules.tag(n, "role") == "backup" and n.target is torch.add)
    total.args = (total.args[0], _block(gm, 0, 1))


def _remembers_another_block(gm: fx.GraphModule) -> None:
    history = _gate(gm, "history")
    history.args = (history.args[0], _block(gm, 0, 1), history.args[2])


def _passes_a_gate_by(gm: fx.GraphModule) -> None:
    gate = _gate(gm)
    reader = next(n for n in gate.users if rules.tag(n, "role") is None)
    reader.replace_input_with(gate, gate.args[1])


def _computes_in_vain(gm: fx.GraphModule) -> None:
    last = _block(gm, 1)
    with gm.graph.inserting_after(last):
        gm.graph.call_function(operator.neg, (last,)).meta = dict(last.meta, custom={**last.meta["custom"]})


def _reads_back_in_secret(gm: fx.GraphModule) -> None:
    fresh = _block(gm, 1)
    next(iter(fresh.users)).replace_input_with(fresh, _block(gm, 0))


FAULTS: list[tuple[rules.Rule, Callable[[], fx.GraphModule], Callable[[fx.GraphModule], None]]] = [
    (rules.nodes_are_tagged, toy.loop, _untagged),
    (rules.edges_go_forward, toy.loop, _reads_the_future),
    (rules.has_no_gate, toy.loop, _leaves_a_gate),
    (rules.has_no_gate, lambda: bound(ALL_KEPT), _leaves_a_gate),
    (rules.gates_stay_in_block, supernet, _mixes_blocks),
    (rules.gates_stay_in_block, lambda: supernet(2), _mixes_blocks),
    (rules.gates_stay_in_block, lambda: supernet(3, 4), _forecasts_another_block),
    (rules.gates_stay_in_block, lambda: supernet(3, 4), _remembers_another_block),
    (rules.gates_stay_in_block, forecast_at_step_2, _sums_another_block),
    (
        rules.gates_stay_in_block,
        lambda: DropDeadBlocks()(forecast_at_step_2()).graph_module,
        _sums_another_block,
    ),
    (rules.outputs_are_gated, supernet, _passes_a_gate_by),
    (rules.outputs_are_gated, lambda: supernet(3), _passes_a_gate_by),
    (rules.backups_are_declared, toy.loop, _reads_back_in_secret),
    (rules.backups_are_declared, lambda: bound(ALL_KEPT), _reads_back_in_secret),
    (rules.backups_are_declared, forecast_at_step_2, _reads_back_in_secret),
    (
        rules.has_no_dead_node,
        lambda: DropDeadBlocks()(bound(ALL_KEPT)).graph_module,
        _computes_in_vain,
    ),
]


@pytest.mark.parametrize(
    ("rule", "make", "fault"), FAULTS, ids=[f"{rule.__name__}-{i}" for i, (rule, _, _) in enumerate(FAULTS)]
)
def test_a_rule_notices_the_fault_it_is_for(
    rule: rules.Rule, make: Callable[[], fx.GraphModule], fault: Callable[[fx.GraphModule], None]
) -> None:
    """A graph broken on purpose is refused by that rule, and was fine before."""
    gm = make()
    rules.check(gm)
    fault(gm)
    with pytest.raises(InvariantError, match=f"rule '{rule.__name__}' of stage '{gm.meta['stage']}'"):
        rules.check(gm)


def test_every_rule_has_a_fault() -> None:
    """No rule is without a test that breaks it."""
    assert {rule for table in rules.RULES.values() for rule in table} == {rule for rule, _, _ in FAULTS}


def test_rules_are_checked_after_every_pass() -> None:
    """A pass that breaks a rule fails by name, with the rule and the nodes in the message."""

    def fault(gm: fx.GraphModule) -> bool:
        _passes_a_gate_by(gm)
        return True

    with pytest.raises(InvariantError, match=r"'misbehaved' .*'outputs_are_gated' .* layers_2"):
        Misbehaved(fault)(supernet())


def test_a_foreign_graph_has_no_rules() -> None:
    """A graph that this compiler did not make is not held to its rules."""
    assert rules.check(fx.symbolic_trace(nn.Linear(3, 3))) is None


# -- gradients


class Curved(nn.Module):
    """A block with a bend, so that errors in its gradient do not cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(toy.WIDTH, toy.WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Bend `x`."""
        return torch.tanh(self.linear(x))


def _curved(order: int, steps: int = 4) -> fx.GraphModule:
    """Return a SuperNet of two bent blocks in double precision."""
    graph = trace(
        toy.model(Curved(), Curved()).double(),
        toy.Step(lambda prediction, sample: sample - 0.3 * prediction),
        steps,
        sample=toy.sample().double(),
        conditioning={},
        granularity="stage",
    )
    return InsertGates(order)(graph).graph_module.requires_grad_(False)


def _table(low: float, high: float, seed: int, *depth: int, steps: int = 4) -> torch.Tensor:
    shape = (steps, 2, *depth)
    table = low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=zoo.generator(seed))
    return table.requires_grad_()


def test_gradients_of_reuse_gates() -> None:
    """Gates of the SuperNet have the gradient that finite differences give."""
    gated = _curved(1)
    x = toy.sample().double()
    assert torch.autograd.gradcheck(lambda gates: gated(x, gates=gates), _table(0.1, 0.9, 0))


@pytest.mark.parametrize("order", [2, 3])
def test_gradients_of_gates_and_weights(order: int) -> None:
    """So have the gates and the weights of forecasts, together."""
    gated = _curved(order)
    x = toy.sample().double()
    assert torch.autograd.gradcheck(
        lambda gates, weights: gated(x, gates=gates, weights=weights),
        (_table(0.1, 0.9, 0), _table(-0.5, 1.5, 1, order)),
    )


@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradients_at_hard_gates(order: int) -> None:
    """At gates of 0 and 1, where a search evaluates them, the gradients are right as well."""
    gated = _curved(order)
    x = toy.sample().double()
    tables = {"gates": (_table(0, 1, 3).detach() > 0.5).double().requires_grad_()}
    if order > 1:
        tables["weights"] = _table(-1.0, 2.0, 4, order)
    assert torch.autograd.gradcheck(
        lambda *given: gated(x, **dict(zip(tables, given, strict=True))), tuple(tables.values())
    )


@pytest.mark.parametrize("order", [2, 3])
def test_gradients_at_plain_weights(order: int) -> None:
    """Where weights repeat a value or read none of it, as where a search starts, gradients are right too."""
    gated = _curved(order)
    x = toy.sample().double()
    gates = torch.tensor([[1.0, 1], [0, 0], [1, 0], [0, 0]], dtype=torch.float64, requires_grad=True)
    weights = torch.zeros(4, 2, order, dtype=torch.float64)
    weights[..., 0] = 1
    weights[3, 0], weights[3, 1] = torch.eye(order)[-1], 0
    assert torch.autograd.gradcheck(
        lambda gates, weights: gated(x, gates=gates, weights=weights), (gates, weights.requires_grad_())
    )


@pytest.mark.parametrize("order", [2, 3])
def test_the_first_step_has_no_gate(order: int) -> None:
    """No gradient reaches row 0 of the tables, and every other gate and weight has one."""
    gated = _curved(order)
    gates, weights = _table(0.1, 0.9, 0), _table(0.5, 2.5, 1, 3)
    gated(toy.sample().double(), gates=gates, weights=weights).sum().backward()
    assert gates.grad is not None
    assert weights.grad is not None
    assert (gates.grad[0] == 0).all()
    assert (gates.grad[1:] != 0).all()
    assert (weights.grad[0] == 0).all()
    assert (weights.grad[1:, :, :order] != 0).all()
    assert (weights.grad[..., order:] == 0).all()  # further columns are not read


@pytest.mark.parametrize("order", [2, 3])
def test_gradients_of_a_real_supernet(order: int) -> None:
    """Gates of a small U-Net in double precision agree with finite differences."""
    model = copy.deepcopy(zoo.model("unet")).double().requires_grad_(False)
    graph = trace(model, zoo.SCHEDULERS["ddim"](), 3, granularity="stage")
    gated = InsertGates(order)(graph).graph_module
    x, c = inputs("unet", 1)
    shape = (graph.num_steps, len(graph.blocks))
    gates = torch.full(shape, 0.7, dtype=torch.float64, requires_grad=True)
    entry = torch.tensor([1.5, -0.6, 0.2], dtype=torch.float64)[:order]
    weights = entry.expand(*shape, order).clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda g, w: gated(x.double(), **c, gates=g, weights=w), (gates, weights), fast_mode=True
    )


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
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(1, 4, 8, 8).to(memory_format=torch.channels_last),
        lambda: torch.randn(1, 1, 8, 8).to(memory_format=torch.channels_last),
        lambda: torch.randn(3, 5).t(),
        lambda: torch.randn(1, 6, 4)[:, ::2],
        lambda: torch.randn(1, 3).expand(4, 3),
    ],
    ids=["channels last", "one channel", "transposed", "strided", "expanded"],
)
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


# -- which modules are blocks


def test_blocks_of_every_granularity() -> None:
    """Stages are the top-level blocks, blocks their layers, branches the parts of a transformer block."""
    found = {
        (name, granularity): find_blocks(zoo.model(name), granularity)
        for name in ("unet-text", "pixart")
        for granularity in cast(Iterable[Any], ("stage", "block", "branch"))
    }
    assert found["unet-text", "stage"] == (
        *(f"down_blocks.{i}" for i in range(2)),
        *(f"up_blocks.{i}" for i in range(2)),
        "mid_block",
    )
    assert "down_blocks.0.attentions.0" in found["unet-text", "block"]
    assert "down_blocks.0.attentions.0.transformer_blocks.0.attn2" in found["unet-text", "branch"]
    assert found["pixart", "stage"] == ("transformer_blocks.0", "transformer_blocks.1")
    assert found["pixart", "block"] == found["pixart", "stage"]
    branches = tuple(
        f"transformer_blocks.{i}.{branch}" for i in range(2) for branch in ("attn1", "attn2", "ff")
    )
    assert found["pixart", "branch"] == branches


def test_an_unknown_granularity_is_refused() -> None:
    """The error lists the granularities there are."""
    with pytest.raises(ValueError, match=r"\('stage', 'block', 'branch'\), got 'layer'"):
        find_blocks(zoo.model("dit"), cast(Any, "layer"))


def test_a_model_without_blocks_is_refused() -> None:
    """The error says what was looked for and what was found."""
    with pytest.raises(ValueError, match=r"Linear has no blocks: .* found \[\]"):
        find_blocks(nn.Linear(3, 3), "block")
