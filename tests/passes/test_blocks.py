"""Which modules are blocks, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest
from torch import nn

import zoo
from dipgo_fx.passes import find_blocks
from dipgo_fx.passes.blocks import block_name, path_of


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


def test_a_caller_chooses_blocks() -> None:
    """By a function, of which the outermost modules count, or by their paths."""
    model = zoo.model("pixart")
    chosen = find_blocks(model, lambda path, module: path.endswith(("attn2", "attn2.to_q")))
    assert chosen == ("transformer_blocks.0.attn2", "transformer_blocks.1.attn2")
    assert find_blocks(model, chosen) == chosen
    with pytest.raises(ValueError, match=r"has no blocks: expected a module for which the function"):
        find_blocks(model, lambda path, module: False)
    with pytest.raises(ValueError, match=r"has no modules \['nowhere'\]"):
        find_blocks(model, ("nowhere",))


def test_an_unknown_granularity_is_refused() -> None:
    """The error lists the granularities there are."""
    with pytest.raises(ValueError, match=r"\('stage', 'block', 'branch'\) .* got 'layer'"):
        find_blocks(zoo.model("dit"), cast(Any, "layer"))


def test_a_model_without_blocks_is_refused() -> None:
    """The error says what was looked for and what was found."""
    with pytest.raises(ValueError, match=r"Linear has no blocks: .* found \[\]"):
        find_blocks(nn.Linear(3, 3), "block")


@pytest.mark.parametrize("call", ["", "unconditional"])
def test_a_block_is_named_by_its_path_and_its_call(call: str) -> None:
    """The only or last call of the model adds nothing to the path, and the path can be read off again."""
    name = block_name("down_blocks.0.resnets.1", call)
    assert name == "down_blocks.0.resnets.1" + ("@unconditional" if call else "")
    assert path_of(name) == "down_blocks.0.resnets.1"
