"""What every pass shares: the template around a rewrite, the pipeline, and what holds for each of them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

import pytest
import torch
from torch import fx, nn

import toy
from dipgo_fx.applying import PrunedLoop
from dipgo_fx.loop import Loop
from dipgo_fx.passes import (
    BindGates,
    DropDeadBlocks,
    FoldConstants,
    GraphPass,
    InsertGates,
    InvariantError,
    PassError,
    Pipeline,
)
from graphs import ToldPass, bound, embedded, first, pass_a_gate_by, show, supernet, table, tags
from loops import run

SKIPPED = ((1, 1), (0, 1))


# -- every pass: honest, repeatable, and no editor of what it is given


PASSES: dict[str, tuple[GraphPass, Callable[[], fx.GraphModule]]] = {
    "insert-gates": (InsertGates(), toy.loop),
    "insert-gates, two values": (InsertGates(2), lambda: toy.loop(3)),
    "insert-gates, three values": (InsertGates(3), lambda: toy.loop(3)),
    "bind-gates": (BindGates(table(SKIPPED)), supernet),
    "bind-gates, free weights": (BindGates(table(SKIPPED), free_weights=True), lambda: supernet(3)),
    "bind-gates, weights": (BindGates(table(SKIPPED, {(1, 0): (0.5, 0.25)})), lambda: supernet(2)),
    "drop-dead-blocks": (DropDeadBlocks(), lambda: bound(((1, 1), (0, 0)))),
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
    found = show(before), tags(before), dict(before.meta), before.code, list(before.state_dict())
    rewrite(before)
    assert found == (show(before), tags(before), dict(before.meta), before.code, list(before.state_dict()))
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


@passes
def test_a_pass_works_again_on_the_same_input(rewrite: GraphPass, make: Callable[[], fx.GraphModule]) -> None:
    """Two runs on one graph give one result, tags and code included."""
    before = make()
    one, other = rewrite(before).graph_module, rewrite(before).graph_module
    assert (show(one), tags(one), one.code) == (show(other), tags(other), other.code)
    assert one.meta == other.meta


def test_a_pass_may_recompile() -> None:
    """A pass that recompiles its graph, as fx's own do, does not change what its input runs."""

    def negate(gm: fx.GraphModule) -> bool:
        sub = first(gm, lambda node: node.target is operator.sub)
        sub.target = operator.add
        gm.recompile()
        return True

    before = toy.loop()
    expected = run(before, toy.sample(), {})
    after = ToldPass(negate)(before).graph_module
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
    after = ToldPass(drop)(before).graph_module
    assert torch.equal(run(before, toy.sample(), {}), expected)
    assert "model.layers.1.weight" not in dict(after.named_parameters())


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


@passes
def test_passes_with_equal_options_are_equal(rewrite: GraphPass, make: Callable[[], fx.GraphModule]) -> None:
    """A pass is a value: its options, and a name of its own."""
    options = {field.name: getattr(rewrite, field.name) for field in fields(rewrite)}
    assert type(rewrite)(**options) == rewrite
    assert all(rewrite != other for other, _ in PASSES.values() if other is not rewrite)


# -- the template


def _calls_nothing(gm: fx.GraphModule) -> None:
    first(gm, lambda n: n.op == "call_module").target = "nowhere"


def _fails(gm: fx.GraphModule) -> bool:
    raise KeyError("fault")


@pytest.mark.parametrize("says", [True, False], ids=["says so", "denies it"])
def test_a_broken_graph_is_caught_after_the_pass_that_broke_it(says: bool) -> None:
    """An ill-formed graph is an error that names the pass, what ran before, and one line of why.

    So it is if the pass says that it changed nothing.
    """
    with pytest.raises(PassError) as error:
        Pipeline((InsertGates(), ToldPass(_doing(_calls_nothing, says))))(toy.loop())
    assert str(error.value).startswith("pass 'told' failed after ['insert-gates']: ")
    assert "nowhere" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("says", [True, False], ids=["says so", "denies it"])
@pytest.mark.parametrize("before", [(), (DropDeadBlocks(),)], ids=["alone", "after another"])
def test_rules_are_checked_after_every_pass(says: bool, before: tuple[GraphPass, ...]) -> None:
    """A pass that breaks a rule fails by name, with rule and nodes in the message, whatever it says."""
    told = ToldPass(_doing(pass_a_gate_by, says))
    with pytest.raises(InvariantError, match=r"'told' .*'outputs_are_gated' .* layers_2"):
        Pipeline((*before, told))(supernet())
    with pytest.raises(InvariantError, match=r"'told' .*'outputs_are_gated' .* layers_2"):
        Pipeline((told, *before))(supernet())


def test_a_change_that_is_denied_does_not_get_out() -> None:
    """A pass that says it changed nothing gives back the very module, whatever it did to its copy."""

    def negate(gm: fx.GraphModule) -> None:
        first(gm, lambda node: node.target is operator.sub).target = operator.add

    before = toy.loop()
    found = show(before), before.code
    result = ToldPass(_doing(negate, False))(before)
    assert result.graph_module is before
    assert not result.modified
    assert (show(before), before.code) == found


def _doing(change: Callable[[fx.GraphModule], None], says: bool) -> Callable[[fx.GraphModule], bool]:
    """Return a rewrite that makes a change and says so, or not."""

    def rewrite(gm: fx.GraphModule) -> bool:
        change(gm)
        return says

    return rewrite


def test_an_error_inside_a_pass_keeps_its_cause() -> None:
    """An exception of any kind arrives as a PassError that names the pass and chains the cause."""
    with pytest.raises(PassError, match=r"pass 'told' failed after \[\]: 'fault'") as error:
        ToldPass(_fails)(toy.loop())
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


@pytest.mark.parametrize("says", [True, False], ids=["says so", "denies it"])
def test_a_broken_promise_is_caught(says: bool) -> None:
    """What `ensures` raises arrives with the name of the pass, also where nothing changed."""

    @dataclass(frozen=True)
    class Promising(GraphPass):
        name: ClassVar[str] = "promising"

        def rewrite(self, gm: fx.GraphModule) -> bool:
            return says

        def ensures(self, gm: fx.GraphModule) -> None:
            raise InvariantError("not so")

    with pytest.raises(InvariantError, match=r"pass 'promising' failed after \[\]: not so"):
        Promising()(toy.loop())


# -- the pipeline


def test_a_pipeline_equals_its_passes_one_by_one() -> None:
    """Running passes together gives the graph and the code of running them in turn."""
    together, records = Pipeline((InsertGates(), BindGates(table(SKIPPED)), DropDeadBlocks()))(toy.loop())
    in_turn = DropDeadBlocks()(bound(SKIPPED)).graph_module
    assert show(together) == show(in_turn)
    assert together.code == in_turn.code
    assert [record.name for record in records] == ["insert-gates", "bind-gates", "drop-dead-blocks"]
    assert all(record.modified for record in records)
    assert records[0].nodes_before == len(toy.loop().graph.nodes)
    assert records[-1].nodes_after == len(together.graph.nodes)
    assert records[0].nodes_after == records[1].nodes_before


def test_what_a_rewritten_loop_costs_is_counted_anew() -> None:
    """It may have lost a block."""
    graph = toy.loop()
    graph.meta["cost"] = "of the loop before"
    assert "cost" not in InsertGates()(graph).graph_module.meta
    assert graph.meta["cost"] == "of the loop before"


def test_a_pipeline_of_nothing_returns_its_input() -> None:
    """Without a pass, or with none that finds work, the very module comes back."""
    graph = toy.loop()
    assert Pipeline(())(graph) == (graph, ())
    assert Pipeline((DropDeadBlocks(), DropDeadBlocks()))(graph)[0] is graph


def test_a_pipeline_says_what_was_modified() -> None:
    """A record tells for each pass whether it found work; one that did makes the result another module."""
    result, records = Pipeline((DropDeadBlocks(), InsertGates(), FoldConstants()))(toy.loop())
    assert [record.modified for record in records] == [False, True, False]
    assert [record.nodes_after - record.nodes_before for record in records] == [0, 5, 0]
    assert all(record.seconds >= 0 for record in records)
    assert result.meta["stage"] == "supernet"


def test_a_pipeline_makes_the_kind_that_is_asked_for() -> None:
    """A result is of the class of its input, or of `kind`; an input that comes back keeps its own."""
    passes = (InsertGates(), BindGates(table(SKIPPED)), DropDeadBlocks())
    pruned, _ = Pipeline(passes, kind=PrunedLoop)(toy.loop())
    assert isinstance(pruned, PrunedLoop)
    assert isinstance(Pipeline(passes)(toy.loop())[0], Loop)
    assert not isinstance(Pipeline(passes)(toy.loop())[0], PrunedLoop)
    assert isinstance(DropDeadBlocks()(FoldConstants()(pruned).graph_module).graph_module, PrunedLoop)
    graph = toy.loop()
    assert Pipeline((DropDeadBlocks(),), kind=PrunedLoop)(graph)[0] is graph


def test_a_foreign_graph_goes_through() -> None:
    """A module of torch.fx that no loop is keeps its class and its mode."""
    before = fx.symbolic_trace(nn.Sequential(nn.Linear(3, 3), nn.ReLU())).train()
    call = next(n for n in before.graph.nodes if n.op == "call_module")
    with before.graph.inserting_after(call):
        before.graph.call_function(operator.neg, (call,))  # nobody reads it
    after = DropDeadBlocks()(before).graph_module
    assert type(after).__mro__[1] is fx.GraphModule
    assert after.training
    x = toy.sample()
    assert torch.equal(after(x), before(x))
