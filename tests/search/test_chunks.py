"""Law 12: what a search has in the model at once is never more than one chunk of samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dipgo_fx
import zoo
from dipgo_fx import PaperConfig, PruneConfig, PrunedLoop
from dipgo_fx.cost import LoopCost
from dipgo_fx.passes import GateTable
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.calibration import calibrate
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.chunks import Chunks
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.least_squares import fit_stepwise
from dipgo_fx.tracing import trace
from searches import candidate

SAMPLES, STEPS = 5, 5


def searched(scheduler: str = "ddim", **options: Any) -> PrunedLoop:
    """Search a plan for a tiny transformer."""
    given = {"config": PruneConfig(samples=SAMPLES, full_runs=4), **options}
    return dipgo_fx.prune(
        zoo.model("dit"), zoo.SCHEDULERS[scheduler](), 0.5, num_inference_steps=STEPS, progress=False, **given
    )


@contextmanager
def rows_seen(most: float = float("inf")) -> Iterator[list[int]]:
    """Note how many rows the model's first block gets; more than `most` do not fit into memory."""
    seen: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        rows = (*args, *kwargs.values())[0].shape[0]
        if not isinstance(rows, int):
            return  # while it is traced
        seen.append(rows)
        if rows > most:
            raise torch.OutOfMemoryError("no room")

    handle = zoo.model("dit").transformer_blocks[0].register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, 2),
        ({"guidance_scale": 2.0}, 2),
        ({"guidance_scale": 2.0, "split_guidance": False}, 4),
        ({"config": PaperConfig(samples=SAMPLES, batch_size=2, iterations=3)}, 2),
        ({"config": PaperConfig(samples=SAMPLES, batch_size=2, iterations=3, checkpoint=True)}, 2),
    ],
    ids=["default", "split guidance", "guidance", "paper", "paper, checkpoints"],
)
def test_law_12_a_search_has_one_chunk_in_the_model(options: dict[str, Any], rows: int) -> None:
    """In calibration, fits, Gauss-Newton steps, damped ends and all else."""
    with rows_seen() as seen:
        searched(**{"config": PruneConfig(samples=SAMPLES, full_runs=4, chunk=2), **options})
    assert max(seen) == rows


@settings(max_examples=5)
@given(chunk=st.integers(1, SAMPLES), scheduler=st.sampled_from(["ddim", "euler-a", "unipc"]))
def test_every_chunk_size_gives_the_same_fit(chunk: int, scheduler: str) -> None:
    """Weights and loss up to rounding, the noise of a stochastic scheduler too."""
    loop = trace(zoo.model("dit"), zoo.SCHEDULERS[scheduler](), STEPS)
    fits = []
    for size in (SAMPLES, chunk):
        batch = calibrate(loop, zoo.model("dit"), None, SAMPLES, 1.0, zoo.generator(1), size)
        evaluator = Evaluator(loop, LoopCost.of(loop), batch, PruneConfig(chunk=size))
        fits.append(fit_stepwise(evaluator, candidate(loop, (0, 2))))
    assert torch.allclose(fits[0].table.weights, fits[1].table.weights, rtol=1e-3, atol=1e-3)
    assert fits[0].loss == pytest.approx(fits[1].loss, rel=1e-3)


def test_every_chunk_size_gives_the_same_plan() -> None:
    """The gates are equal, the weights up to rounding."""
    one, other = (
        searched(config=PruneConfig(samples=SAMPLES, full_runs=4, chunk=chunk)).plan for chunk in (2, 5)
    )
    assert torch.equal(one.keep, other.keep)
    assert torch.allclose(one.weights, other.weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("samples", [3, 12])
def test_what_keeps_all_is_the_target_of_a_stochastic_scheduler(samples: int) -> None:
    """A sample has its noise of its own, whichever others run with it."""
    loop = trace(zoo.model("dit"), zoo.SCHEDULERS["euler-a"](), 3)
    batch = calibrate(loop, zoo.model("dit"), None, samples, 1.0, zoo.generator(1), 4)
    evaluator = Evaluator(loop, LoopCost.of(loop), batch, PruneConfig(chunk=5))
    whole = GateTable.of(torch.ones(3, len(loop.blocks), dtype=torch.bool), "reuse")
    assert evaluator.evaluate(Candidate(whole)).loss < 1e-12 * batch.target.square().mean()
    assert torch.allclose(batch.part(torch.tensor([1])).run(loop), batch.run(loop)[1:2], rtol=1e-4)


def test_a_search_goes_on_with_less_where_memory_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    """Half the samples at once, with a message; the plan is that of a search with so many."""
    with caplog.at_level(logging.WARNING), rows_seen(most=2) as seen:
        found = searched(config=PruneConfig(samples=SAMPLES, full_runs=4, chunk=4)).plan
    assert max(seen) == 4  # once for the path, once in the search
    assert [rows for rows in seen if rows > 2] == [4, 4]
    assert caplog.text.count("out of memory with 4 samples at once: going on with 2") == 2
    expected = searched(config=PruneConfig(samples=SAMPLES, full_runs=4, chunk=2)).plan
    assert (found.table, found.frontier) == (expected.table, expected.frontier)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("no room"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("can't allocate memory"), False),
    ],
    ids=str,
)
def test_only_memory_that_runs_out_halves(error: Exception, is_memory: bool) -> None:
    """Any other error comes through, and so does the last when one sample is too much."""

    def work(size: int) -> int:
        if size > 1:
            raise error
        return size

    if is_memory:
        assert Chunks(5).retried(work, 5) == 1
    else:
        with pytest.raises(type(error), match=str(error)):
            Chunks(5).retried(work, 5)
    with pytest.raises(type(error)):
        Chunks(1).retried(lambda size: work(2), 5)


def test_what_is_halved_is_what_was_tried(caplog: pytest.LogCaptureFixture) -> None:
    """Not the size that was allowed: with few samples that would be tried again and again."""
    tried: list[int] = []

    def work(size: int) -> int:
        tried.append(size)
        if size > 1:
            raise torch.OutOfMemoryError("no room")
        return size

    assert Chunks(16).retried(work, 3) == 1
    assert tried == [3, 1]
    assert "out of memory with 3 samples at once: going on with 1" in caplog.text


def test_chunks_are_in_order() -> None:
    """What is made of them is that of the samples in order."""
    sample = torch.arange(5.0)[:, None]
    batch = Batch(sample, {}, sample[None], 1, tuple(range(5)))
    made = Chunks(2).map(lambda part: part.sample, batch)
    assert [len(part) for part in made] == [2, 2, 1]
    assert torch.equal(torch.cat(made), sample)
