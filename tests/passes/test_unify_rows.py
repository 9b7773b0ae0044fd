"""Two recordings with different numbers of rows become one graph for any number, or are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

from dipgo_fx.passes import LoopRecorder, TraceError
from dipgo_fx.passes.graph_writer import parts_of
from dipgo_fx.passes.unify_rows import ROWS, unify_rows

GUARD = "guard"
Body = Callable[[torch.Tensor, int], torch.Tensor]


def recorded(body: Body, rows: int) -> LoopRecorder:
    """Return the recording of Python that knows the number of rows as a number."""
    recorder = LoopRecorder(nn.Identity(), (), rows=rows)
    x, _ = recorder.inputs(GUARD, torch.zeros(1, 3), {}, 1)
    with recorder.recording():
        result = body(x, rows)
    recorder.output(result)
    return recorder


def unified(body: Body) -> fx.GraphModule:
    """Return the one graph of two recordings."""
    first, second = (recorded(body, rows) for rows in ROWS)
    constants = unify_rows(first, second)
    return fx.GraphModule(
        parts_of(first.graph, nn.Identity(), {GUARD: nn.Identity(), **constants}), first.graph
    )


def doubled(x: torch.Tensor, rows: int) -> torch.Tensor:
    """Use the number of rows in sizes, slices and constants with rows, as stock pipelines do."""
    pair = torch.cat([x, x])
    scale = torch.cat([torch.full((rows, 1), 2.0), torch.full((rows, 1), 3.0)])  # one value a condition
    scaled = pair * scale + torch.arange(3.0)
    first, second = scaled.reshape(2, rows, 3)
    return first[:rows] / rows + second.expand(rows, 3)


@given(rows=st.integers(1, 40))
def test_any_number_of_rows(rows: int) -> None:
    """Also those that were not recorded with."""
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows))
    assert torch.equal(unified(doubled)(x), doubled(x, rows))


def test_specs_are_those_of_one_sample() -> None:
    """MACs are counted from them."""
    graph = unified(doubled).graph
    shapes = {
        node.name: node.meta["spec"].shape for node in graph.nodes if hasattr(node.meta.get("spec"), "shape")
    }
    assert shapes["cat"] == (2, 3)
    assert shapes["reshape"] in ((2, 1, 3), (2, 1))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda x, rows: x * 2 if rows == ROWS[0] else x + 2, "with 17 samples and .* with 19"),
        (lambda x, rows: x if rows == ROWS[0] else x + 2, "branches on the batch size"),
        (lambda x, rows: x * (1 / rows), "may not depend on the batch size"),
        (lambda x, rows: x * torch.arange(float(rows))[:, None], "rows that differ from each other"),
        (lambda x, rows: x + torch.full((3,), float(rows)), "one with other values"),
    ],
)
def test_what_depends_on_the_batch_size_otherwise_is_refused(body: Body, message: str) -> None:
    """The error says where and what."""
    with pytest.raises(TraceError, match=message):
        unified(body)
