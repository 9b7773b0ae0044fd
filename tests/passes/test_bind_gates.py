"""bind-gates: every gate of a SuperNet becomes what a table chose."""

from __future__ import annotations

import pytest
import torch
from expecttest import assert_expected_inline

import toy
from dipgo_fx.passes import BindGates, DropDeadBlocks, GateTable, InvariantError
from dipgo_fx.passes.tags import tag
from graphs import ALL_KEPT, bound, show, supernet, table
from loops import inputs, loop, run, scattered
from loops import supernet as real_supernet


def test_bound_gates() -> None:
    """A closed gate becomes the block's earlier value, an open one its fresh value."""
    assert_expected_inline(
        show(bound(((1, 1), (0, 1)))),
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
    assert_expected_inline(
        show(bound(((1, 1), (1, 1), (0, 0)), {(2, 0): (2.0, -1.0)})),
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
    keep = ((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    forecasts = {(3, 0): (0.5, 0.25, -2), (3, 1): (0, 0, 1), (4, 0): (0, 3, 1), (4, 1): (0, 0, 0)}
    assert_expected_inline(
        show(DropDeadBlocks()(bound(keep, forecasts)).graph_module),
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


def test_free_weights() -> None:
    """Weights that are left free stay an input, to be fitted."""
    gates = table(((1, 1), (1, 1), (0, 0)))
    assert_expected_inline(
        show(BindGates(gates, free_weights=True)(supernet(2, 3)).graph_module),
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


@pytest.mark.parametrize("history", [2, 3])
def test_free_weights_given_at_run_time_are_bound_weights(history: int) -> None:
    """What a SubNet computes does not depend on when its weights became known."""
    key = ("dit", "ddim", "block", None)
    graph = loop(*key)
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[2, 1:] = keep[3, :2] = keep[4] = False
    gates = GateTable(keep, scattered(tuple(keep.shape), history, 3))
    assert gates.history == history
    free = BindGates(gates, free_weights=True)(real_supernet(history, *key)).graph_module
    whole = BindGates(gates)(real_supernet(history, *key)).graph_module
    x, c = inputs("dit", 2)
    assert torch.equal(run(free, x, c, weights=gates.weights), run(whole, x, c))
    other = run(free, x, c, weights=gates.weights.flip(-1))
    assert not torch.equal(other, run(whole, x, c))


@pytest.mark.parametrize("history", [1, 2, 3])
def test_a_longer_history_binds_the_same(history: int) -> None:
    """A SuperNet that keeps more values than the table reads gives the same graph."""
    for gates in (table(((1, 1), (0, 1), (1, 0))), table(((1, 1), (1, 1), (0, 1)), {(2, 0): (1.5, -0.5)})):
        if gates.history > history:
            continue
        graph = DropDeadBlocks()(BindGates(gates)(supernet(history, 3)).graph_module).graph_module
        alone = DropDeadBlocks()(BindGates(gates)(supernet(gates.history, 3)).graph_module).graph_module
        calls = [(n.op, n.target, tag(n, "step"), tag(n, "block")) for n in graph.graph.nodes]
        assert calls == [(n.op, n.target, tag(n, "step"), tag(n, "block")) for n in alone.graph.nodes]
        assert torch.equal(run(graph, toy.sample(), {}), run(alone, toy.sample(), {}))


def test_a_reader_of_a_closed_gate_declares_it() -> None:
    """Its tag names the block and the earlier step that it reads; no other reader's does."""
    graph = bound(((1, 1), (0, 1), (1, 0)))
    declared = {
        (tag(node, "step"), block, step)
        for node in graph.graph.nodes
        for block, step in tag(node, "backups") or ()
        if step != tag(node, "step")
    }
    assert declared == {(1, "layers.0", 0), (2, "layers.1", 1)}


@pytest.mark.parametrize("keep", [((1,), (1,)), ((1, 1),), ((1, 1, 1), (1, 1, 1))], ids=["1", "2", "3"])
def test_a_table_of_another_shape_is_refused(keep: tuple[tuple[int, ...], ...]) -> None:
    """The error says both shapes."""
    got = len(keep), len(keep[0])
    with pytest.raises(InvariantError) as error:
        BindGates(table(keep))(supernet())
    assert f"expected a table of (2, 2) steps and blocks, got {got}" in str(error.value)
    assert str(error.value).startswith("pass 'bind-gates' failed after []: ")


@pytest.mark.parametrize(
    ("forecast", "history", "message"),
    [
        ((0.0, 0.0, 1.0), 2, "the table reads 3 values, this SuperNet keeps 2 of them"),
        ((0.0, 0.0, 1.0), 1, "the table reads 3 values, this SuperNet keeps 1 of them"),
        ((2.0, -1.0), 1, "the table reads 2 values, this SuperNet keeps 1 of them"),
        ((0.5,), 1, "the table reads 2 values, this SuperNet keeps 1 of them"),
    ],
)
def test_a_table_that_reads_further_back_is_refused(
    forecast: tuple[float, ...], history: int, message: str
) -> None:
    """A SuperNet holds as many values as it was made for."""
    gates = table(((1, 1), (0, 1)), {(1, 0): forecast})
    with pytest.raises(InvariantError, match=f"pass 'bind-gates' failed after .*{message}"):
        BindGates(gates)(supernet(history))
    if history > 1:  # weights to come are no matter of the table
        BindGates(gates, free_weights=True)(supernet(history))


def test_repeats_have_no_weights_to_free() -> None:
    """A SuperNet of history 1 has no such input."""
    with pytest.raises(InvariantError, match="history 1 repeats the last value and has no weights to free"):
        BindGates(table(ALL_KEPT), free_weights=True)(supernet())


def test_only_a_supernet_has_gates_to_bind() -> None:
    """A traced loop and a bound one are refused by their stage."""
    for graph, stage in ((toy.loop(), "loop"), (bound(ALL_KEPT), "bound")):
        with pytest.raises(InvariantError, match=f"expected a SuperNet, got stage '{stage}'"):
            BindGates(table(ALL_KEPT))(graph)
