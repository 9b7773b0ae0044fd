"""Gauss-Newton on backup weights: its unknowns, resumed runs, and that losses only fall."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from dipgo_fx.arena import SLACK, Arena
from dipgo_fx.calibration import calibrate
from dipgo_fx.config import PruneConfig
from dipgo_fx.losses import ssim
from dipgo_fx.macs import LoopCost
from dipgo_fx.newton import Resumable, directions, newton_step
from dipgo_fx.passes import ORDER, split_steps
from dipgo_fx.passes.insert_gates import WEIGHTS
from dipgo_fx.threshold import any_weights
from loops import cost, loop
from test_steps import arena, case, draft, turning


@settings(max_examples=50)
@given(data=st.data(), order=st.integers(1, ORDER))
def test_unknowns_are_the_weights_that_matter(data: st.DataObject, order: int) -> None:
    """Together they touch every weight a live closed gate reads, once, and no other."""
    costs = cost("dit", "ddim", "block", None, 6)
    blocks = costs.reads.num_blocks
    row = st.lists(st.booleans(), min_size=blocks, max_size=blocks)
    keep = [[True] * blocks, *(data.draw(row) for _ in range(5))]
    read = [closed for _, closed in costs.reads.walk(keep, any_weights(costs, order))]
    touched = [(t, d.block, d.k) for d in directions(keep, read, order) for t in d.steps]
    expected = {
        (t, n, k)
        for t in range(6)
        for n in range(blocks)
        if read[t] >> n & 1
        for k in range(min(order, sum(row[n] for row in keep[:t])))
    }
    assert len(touched) == len(set(touched))
    assert set(touched) == expected


@pytest.mark.parametrize(
    ("scheduler", "guidance_scale", "split"),
    [
        ("ddim", None, False),
        ("euler-a", 3.0, False),
        ("euler-a", 3.0, True),
        ("unipc", None, False),
        ("heun", None, False),
    ],
)
def test_a_resumed_run_is_the_whole_run(scheduler: str, guidance_scale: float | None, split: bool) -> None:
    """From any step on, with other weights there, bit for bit; noise included."""
    graph, batch = case(scheduler, guidance_scale, split=split)
    court, found = arena(scheduler, guidance_scale, split), draft(graph, (0, 1, 4))
    net = split_steps(court.learnable(found))
    first = Resumable(net, batch)
    with torch.no_grad():
        first.run_on(batch, {WEIGHTS: found.weights.float()})
        first.remember()
        for step in sorted(court.free(found)):
            changed = found.weights.float().clone()
            changed[step:, :, 0] += 0.25
            whole = Resumable(net, batch).run_on(batch, {WEIGHTS: changed})
            assert torch.equal(first.again(step, changed), whole)


def test_an_affine_loop_is_solved() -> None:
    """Where samples are affine in the weights, steps end at the least-squares weights, however chunked."""
    _, _, graph, batch = turning(3)
    costs = Arena(graph, LoopCost.of(graph), batch, PruneConfig(), zoo.generator())
    found = draft(graph, (0, 2, 3))
    closed = [c for _, c in costs.cost.reads.walk(found.keep.tolist(), any_weights(costs.cost, 3))]
    unknowns = list(directions(found.keep.tolist(), closed, 3))
    split = split_steps(costs.learnable(found))
    with torch.no_grad():
        weights = found.weights
        before = costs.judged(found).loss
        for chunk in (1, 2, 2, 1):
            weights = newton_step(split, weights, unknowns, batch, chunk)
        assert costs.judged(replace(found, weights=weights)).loss < 1e-7 * before
        once = [newton_step(split, found.weights, unknowns, batch, chunk) for chunk in (1, 2)]
    torch.testing.assert_close(*once, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "unipc"])
def test_losses_only_fall_and_are_paid_for(scheduler: str) -> None:
    """A step is taken only if the loss falls; what it costs is charged; too small an allowance is no step."""
    graph = loop("dit", scheduler, "block", None, 7)
    batch = calibrate(graph, zoo.model("dit"), None, 8, 1.0, zoo.generator(1))
    court = Arena(graph, cost("dit", scheduler, "block", None, 7), batch, PruneConfig(), zoo.generator())
    steered = court.steered(draft(graph, (0, 2, 4)))
    before = court.spent
    assert court.improved(steered, most=0.1) is steered
    assert court.spent == before
    better = court.improved(steered)
    # One run to start from, one to judge; 1 unknown before 2 further steps, 2 before 1, 3 before none.
    assert court.spent - before == pytest.approx((3 + 2 + 2 + 3) / 7, rel=1e-2)
    assert better.loss < steered.loss
    assert court.judged(better).loss == pytest.approx(better.loss)


def test_a_calm_end_looks_better_or_stays() -> None:
    """Weights change after the last running step only, towards repeating; SSIM rises, the loss stays near."""
    graph = loop("dit", "ddim", "block", None, 7)
    batch = calibrate(graph, zoo.model("dit"), None, 4, 1.0, zoo.generator(1))
    court = Arena(graph, cost("dit", "ddim", "block", None, 7), batch, PruneConfig(), zoo.generator())
    (read,) = court.cost.reads.read_by_output
    wild = draft(graph, (0, 2, 4))
    wild.weights[5:, read] = torch.tensor([3.0, -1.5, -0.5], dtype=torch.float64)
    wild = court.judged(wild)
    for most in (1e9, wild.loss, 0.0):
        calm = court.calmed(wild, most=most)
        assert court.judged(calm).loss == pytest.approx(calm.loss)
        assert calm.loss <= min(most, SLACK * wild.loss) or torch.equal(calm.weights, wild.weights)
        assert torch.equal(calm.weights[:5], wild.weights[:5])
        with torch.no_grad():
            looks = [ssim(batch.run(court.subnet(d)), batch.target).item() for d in (wild, calm)]
        assert looks[1] >= looks[0]
    assert not torch.equal(court.calmed(wild).weights, wild.weights)
    ends_running = court.judged(draft(graph, (0, 2, 6)))
    assert court.calmed(ends_running) is ends_running
