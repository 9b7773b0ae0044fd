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


def recorded(body: Body, rows: int, model: nn.Module) -> LoopRecorder:
    """Return the recording of Python that knows the number of rows as a number."""
    recorder = LoopRecorder(model, (), rows=rows)
    x, _ = recorder.inputs(GUARD, torch.zeros(1, 3), {}, 1)
    with recorder.recording():
        result = body(x, rows)
    recorder.output(result)
    return recorder


def unified(body: Body, model: nn.Module | None = None) -> fx.GraphModule:
    """Return the one graph of two recordings."""
    model = model or nn.Identity()
    first, second = (recorded(body, rows, model) for rows in ROWS)
    constants = unify_rows(first, second)
    return fx.GraphModule(parts_of(first.graph, model, {GUARD: nn.Identity(), **constants}), first.graph)


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


class Counting(nn.Module):
    """Adds what a list says that a pipeline hands over, sizes of images say."""

    def forward(self, x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        """Return `x` with the number and the sum of the sizes added."""
        return x + len(sizes) + sum(sizes)


@given(rows=st.integers(1, 40))
def test_a_list_with_an_entry_a_row(rows: int) -> None:
    """Its length follows the rows; entries that differ cannot be those of other rows."""
    model = nn.ModuleDict({"sizes": Counting()})
    graph = unified(lambda x, rows: model["sizes"](x, [4] * (2 * rows)), model)
    assert torch.equal(graph(torch.ones(rows, 3)), torch.full((rows, 3), 1.0 + 10 * rows))
    with pytest.raises(TraceError, match="may not depend on the batch size"):
        unified(lambda x, rows: model["sizes"](x, [*range(rows)]), model)


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
