"""The arguments of a denoiser's call: in one order, whatever that of the pipeline is."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo
from dipgo_fx.pipelines.call_arguments import CallArguments

GIVEN = {
    "hidden_states": torch.zeros(2, 3),
    "encoder_hidden_states": torch.ones(2, 3),
    "timestep": torch.tensor(7),
}


@given(order=st.permutations(list(GIVEN)), places=st.integers(0, 1))
def test_arguments_are_in_the_models_order(order: list[str], places: int) -> None:
    """The sample comes first, and calls that differ in the order only are alike."""
    kwargs: dict[str, Any] = {name: GIVEN[name] for name in order}
    args = [kwargs.pop("hidden_states")][:places] if places else []
    call, plain = (
        CallArguments.of(zoo.model("pixart"), given, named)
        for given, named in ((tuple(args), kwargs), ((), GIVEN))
    )
    assert call.signature == plain.signature
    assert call.rows == 2
    assert all(map(torch.equal, call.tensors, plain.tensors))
