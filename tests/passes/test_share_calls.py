"""Equal calls of the model become one submodule, whatever the plan, and compute what the loop computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx

import zoo
from dipgo_fx import Loop, Plan
from dipgo_fx.applying import build
from dipgo_fx.passes.share_calls import PREFIX, share_calls
from loops import inputs, loop

STEPS = 5
SCHEDULERS = ("ddim", "dpm++", "euler-a", "heun", "pndm")


def parts(shared: fx.GraphModule) -> list[str]:
    """Return the names of the submodules that calls share."""
    return [name for name, _ in shared.named_children() if name.startswith(PREFIX)]


def calls(shared: fx.GraphModule) -> list[str]:
    """Return the calls of them."""
    return [str(n.target) for n in shared.graph.nodes if str(n.target).startswith(PREFIX)]


def pruned(name: str, scheduler: str, guidance: float | None, split: bool, keep: Any) -> Loop:
    """Return the loop of a plan; `keep` makes its gates of the steps and blocks there are."""
    graph = loop(name, scheduler, "block", guidance, STEPS, split)
    table = keep(graph.num_steps, len(graph.blocks))
    table[0] = True
    return build(graph, Plan.from_keep(graph, table, backup="linear"))


@given(
    scheduler=st.sampled_from(SCHEDULERS),
    guidance=st.sampled_from([(None, False), (2.0, False), (2.0, True)]),
    seed=st.integers(0, 99),
    share=st.floats(0.1, 1.0),
)
def test_any_plan_computes_what_it_did(
    scheduler: str, guidance: tuple[float | None, bool], seed: int, share: float
) -> None:
    """Bit for bit, for other rows than it was traced with, noise included."""

    def keep(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=zoo.generator(seed)) < share

    made = pruned("dit", scheduler, *guidance, keep)
    shared = share_calls(made)
    x, c = inputs("dit", 3, guidance[0])
    with torch.no_grad():
        expected = made(x, **c, generator=zoo.generator(1))
        assert torch.equal(shared(x, **c, generator=zoo.generator(1)), expected)
    assert len(parts(shared)) <= len(calls(shared))


@pytest.mark.parametrize("guidance", [(None, False), (2.0, False), (2.0, True)], ids=["none", "one", "two"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_whole_steps_share_one_part(scheduler: str, guidance: tuple[float | None, bool]) -> None:
    """However many run: also under a scheduler that begins and ends otherwise, and for both conditions."""

    def keep(steps: int, blocks: int) -> torch.Tensor:
        table = torch.ones(steps, blocks, dtype=torch.bool)
        table[1::2] = False
        return table

    shared = share_calls(pruned("dit", scheduler, *guidance, keep))
    assert parts(shared) == [f"{PREFIX}_0"]
    assert len(calls(shared)) > 1


def test_a_partial_step_has_a_part_of_its_own() -> None:
    """Steps that keep the same blocks share it."""

    def keep(steps: int, blocks: int) -> torch.Tensor:
        table = torch.ones(steps, blocks, dtype=torch.bool)
        table[2:, :1] = False
        return table

    shared = share_calls(pruned("dit", "ddim", None, False, keep))
    assert calls(shared) == [f"{PREFIX}_0", f"{PREFIX}_0", *[f"{PREFIX}_1"] * 3]


def test_the_loop_is_left_alone() -> None:
    """It has no submodule more, and the parts share its weights."""
    made = loop("dit", "ddim", "block", None, STEPS)
    names = [name for name, _ in made.named_modules()]
    shared = share_calls(made)
    assert [name for name, _ in made.named_modules()] == names
    assert {id(p) for p in shared.parameters()} == {id(p) for p in made.parameters()}
