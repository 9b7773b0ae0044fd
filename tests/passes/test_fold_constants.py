"""fold-constants: what depends on the timestep alone is computed once, when compiling."""

from __future__ import annotations

import pytest
import torch
from expecttest import assert_expected_inline
from torch import nn

import toy
import zoo
from dipgo_fx.passes import FoldConstants
from graphs import embedded, show
from loops import inputs, loop, run
from toy import sample


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


def test_folded_rows_are_not_weights() -> None:
    """What is folded belongs to the graph: the state dict is that of the model's own tensors."""
    folded = FoldConstants()(embedded()).graph_module
    assert {name for name, _ in folded.named_buffers()} == {"_folded_0", "_folded_1"}
    assert set(folded.state_dict()) == {"model.layers.0.weight", "model.layers.0.bias"}


def test_a_folded_module_takes_its_weights_along() -> None:
    """A module whose every call is folded leaves no weight behind."""
    graph = embedded()
    assert "model.embed.weight" in dict(graph.named_parameters())
    folded = FoldConstants()(graph).graph_module
    assert "model.embed.weight" not in dict(folded.named_parameters())


def test_folded_rows_do_not_follow_the_weights() -> None:
    """A folded loop keeps the embedding it was folded with; blocks still follow."""
    graph = embedded()
    folded = FoldConstants()(graph).graph_module
    x = sample(1)
    before = run(folded, x, {})
    with torch.no_grad():
        graph.get_submodule("model.embed").weight.mul_(2.0)
    assert torch.equal(run(folded, x, {}), before)
    with torch.no_grad():
        graph.get_submodule("model.layers.0").weight.mul_(2.0)
    assert not torch.equal(run(folded, x, {}), before)


@pytest.mark.parametrize("guidance_scale", [None, 2.0], ids=["plain", "guided"])
def test_folding_keeps_the_result(guidance_scale: float | None) -> None:
    """A folded loop equals the loop bit for bit at batch 1, to rounding elsewhere, guided or not."""
    graph = embedded(guidance_scale)
    folded = FoldConstants()(graph).graph_module
    assert torch.equal(run(folded, sample(1), {}), run(graph, sample(1), {}))
    for batch in (2, 3):
        torch.testing.assert_close(run(folded, sample(batch), {}), run(graph, sample(batch), {}))


@pytest.mark.parametrize("guidance_scale", [None, 2.0], ids=["plain", "guided"])
@pytest.mark.parametrize("name", zoo.CASES)
def test_folding_a_real_model_keeps_the_result(name: str, guidance_scale: float | None) -> None:
    """Time embeddings of every family fold to the same result, and nothing is left to fold."""
    graph = loop(name, "ddim", "block", guidance_scale)
    folded = FoldConstants()(graph).graph_module
    for batch in (1, 3):
        x, c = inputs(name, batch, guidance_scale)
        torch.testing.assert_close(run(folded, x, c), run(graph, x, c), rtol=1e-4, atol=1e-4)
    assert FoldConstants()(folded).graph_module is folded


class Unrowed(toy.Stack):
    """Its embedding of the timestep has no row per sample."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 3), nn.Linear(3, 3))
        self.embed = nn.Linear(1, 3)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        return super().forward(sample + self.embed(timestep[:1].float()), timestep)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_what_has_no_rows_is_stored_as_it_is(batch: int) -> None:
    """Nothing is repeated for each sample."""
    graph = toy.traced(Unrowed().eval(), 3)
    folded = FoldConstants()(graph).graph_module
    assert any(name.startswith("_folded") for name, _ in folded.named_buffers())
    given = sample(batch)
    assert torch.allclose(folded(given), graph(given), atol=1e-6)


class Numbered(toy.Stack):
    """Adds to each row what its number is made into."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 3), nn.Linear(3, 3))
        self.embed = nn.Embedding(8, 3)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        return super().forward(sample + self.embed(torch.arange(sample.shape[0])), timestep)


def test_what_depends_on_the_number_of_a_row_is_not_folded() -> None:
    """One row does not stand for all."""
    graph = toy.traced(Numbered().eval(), 2)
    folded = FoldConstants()(graph).graph_module
    assert torch.equal(folded(sample(4)), graph(sample(4)))


def test_autocast_around_a_fold_does_not_matter() -> None:
    """Rows are stored in the precision of the weights."""
    graph = toy.traced(Unrowed().eval(), 3)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        folded = FoldConstants()(graph).graph_module
    stored = [buffer for name, buffer in folded.named_buffers() if name.startswith("_folded")]
    assert stored
    assert all(buffer.dtype == torch.float32 and not buffer.is_inference() for buffer in stored)
