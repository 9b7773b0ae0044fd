"""What a pipeline makes of its arguments before its loop, and where that has its rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.coverage.subject import Subject
from dipgo_fx.passes import TraceError
from dipgo_fx.pipelines.capturing import PipelineInputs, Rows, capture, rows_of, watched
from dipgo_fx.pipelines.denoiser import only_denoiser
from dipgo_fx.pipelines.pipeline_call import completed


@given(samples=st.integers(1, 4), rank=st.integers(0, 2), dim=st.integers(0, 2), conditions=st.integers(1, 3))
def test_rows_come_to_the_front_and_go_back(samples: int, rank: int, dim: int, conditions: int) -> None:
    """A sample's rows are its own, whatever dimension and order a pipeline has them in."""
    rows, dim = Rows(min(dim, rank), conditions), min(dim, rank)
    shape = [5] * rank
    parts = [torch.full([1 if d == dim else 5 for d in range(rank + 1)], float(n)) for n in range(samples)]
    made = torch.cat(parts * conditions, dim)
    found = rows.by_sample(made)
    assert len(found) == samples
    assert all(bool((row == n).all()) for n, row in enumerate(found))
    assert found.shape[1:].numel() == conditions * torch.Size(shape).numel()
    assert torch.equal(rows.as_made(found), made)


@pytest.mark.parametrize(
    ("two", "three", "rows"),
    [
        ((2, 5), (3, 5), Rows()),
        ((4, 5), (6, 5), Rows(0, 2)),
        ((6, 5), (9, 5), Rows(0, 3)),
        ((7, 2, 5), (7, 3, 5), Rows(1)),
        ((2, 4), (3, 6), None),
        ((5, 5), (6, 5), None),
        ((2, 5), (3, 5, 1), None),
        ((5,), (5,), None),
    ],
)
def test_rows_are_where_tensors_grow(two: Any, three: Any, rows: Rows | None) -> None:
    """From two samples to three, in one dimension."""
    assert Rows.of(torch.ones(two), torch.ones(three)) == rows


def _inputs(samples: int, **tensors: torch.Tensor) -> PipelineInputs:
    latents = torch.randn(samples, 3)
    results = (*tensors.items(), ("prepare_latents", (latents, {"mask": torch.ones(2)})))
    return PipelineInputs(results, samples, samples, 1, ())


def test_what_differs_by_sample_is_told_from_what_does_not() -> None:
    """Tensors that are equal for two and for three samples belong to the loop."""
    two, three = (_inputs(n, encode_prompt=torch.ones(2 * n, 4)) for n in (2, 3))
    assert rows_of(two, three) == {"encode_prompt_0_0": Rows(0, 2), "sample": Rows()}
    for strange in (torch.randn(5, 4), torch.ones(7, 4)):
        other = _inputs(3, encode_prompt=strange)
        with pytest.raises(TraceError, match=r"encode_prompt_0_0 has shape \(4, 4\) for 2 samples and"):
            rows_of(two, other)
    with pytest.raises(TraceError, match="makes encode_prompt_0_0 for 2 samples, but not for 3"):
        rows_of(two, _inputs(3))


def test_what_a_watched_method_calls_of_its_like_is_left_alone() -> None:
    """One result a call that the pipeline makes itself."""

    class Pipe:
        def encode_image(self) -> str:
            """Return a text."""
            return "image"

        def prepare_latents(self) -> list[str]:
            """Return a text twice."""
            return [self.encode_image(), self.encode_image()]

        prepare_nothing = None

    pipe, seen = Pipe(), list[str]()

    def handle(name: str, method: Any) -> Any:
        seen.append(name)
        return method()

    vars(pipe).update(watched(pipe, handle))
    assert pipe.prepare_latents() == ["image", "image"]
    assert pipe.encode_image() == "image"
    assert seen == ["prepare_latents", "encode_image"]


def test_capturing_leaves_everything_as_it_was() -> None:
    """The pipeline, its scheduler, its denoiser and the global source of randomness."""
    subject = Subject.of("sd-text")
    pipe = subject.build()
    assert subject.arguments is not None
    before, scheduler = dict(vars(pipe)), dict(vars(pipe.scheduler))
    state = torch.get_rng_state()
    found = capture(pipe, only_denoiser(pipe), completed(subject.arguments, subject.fixed or {}), 2)
    assert found.leaves["sample"].shape[0] == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert dict(vars(pipe)) == before
    assert dict(vars(pipe.scheduler)) == scheduler
    assert "forward" not in vars(pipe.unet)
