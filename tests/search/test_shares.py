"""Several processes search the plan that one searches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dipgo_fx import Plan
from dipgo_fx.search.shares import Shares, processes

SUPPORT = Path(__file__).parents[1] / "support"
SEARCH = """
import sys
from datetime import timedelta
import torch
from torch import distributed
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
rank, count, store, out = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
if count > 1:
    wait = timedelta(seconds=60)
    distributed.init_process_group("gloo", f"file://{store}", timeout=wait, rank=rank, world_size=count)
import dipgo_fx, zoo
if sys.argv[6] == "killed" and rank:
    import dipgo_fx.search.chunks
    seen = []
    real = dipgo_fx.search.chunks.Chunks.map
    def dying(self, function, batch):
        seen.append(0)
        return sys.exit(3) if len(seen) > 1 else real(self, function, batch)
    dipgo_fx.search.chunks.Chunks.map = dying
config = dipgo_fx.PruneConfig(samples=9, chunk=2, full_runs=6)
pruned = dipgo_fx.prune(
    zoo.model("dit"), zoo.SCHEDULERS["euler-a"](), 0.5, num_inference_steps=6, config=config, progress=False
)
pruned.plan.save(f"{out}-{rank}.json")
"""


def launched(folder: Path, count: int, how: str = "whole") -> list[subprocess.Popen[str]]:
    """Start a search in so many processes."""
    arguments = [
        str(SUPPORT),
        "{rank}",
        str(count),
        str(folder / f"store-{count}"),
        str(folder / f"plan-{count}"),
        how,
    ]
    return [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SEARCH, *(a.format(rank=rank) for a in arguments)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


@pytest.mark.long
def test_two_processes_find_the_plan_of_one(tmp_path: Path) -> None:
    """The same gates, weights up to the order of sums, and each process has the same plan to the bit."""
    for count in (1, 2):
        for process in launched(tmp_path, count):
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
    alone, *both = (
        Plan.load(tmp_path / name) for name in ("plan-1-0.json", "plan-2-0.json", "plan-2-1.json")
    )
    assert both[0].table == both[1].table
    assert torch.equal(both[0].keep, alone.keep)
    assert torch.allclose(both[0].weights, alone.weights, rtol=1e-3, atol=1e-3)
    assert both[0].origin["full_runs"] == alone.origin["full_runs"]


@pytest.mark.long
def test_a_killed_process_ends_the_others_with_an_error(tmp_path: Path) -> None:
    """They do not wait for it, nor go on without it."""
    first, second = launched(tmp_path, 2, "killed")
    _, said = first.communicate(timeout=200)
    second.communicate(timeout=60)
    assert second.returncode == 3
    assert first.returncode not in (0, None)
    assert "gloo" in said.lower()
    assert not list(tmp_path.glob("plan-*"))


def test_a_process_by_itself_does_all() -> None:
    """Nothing is split, summed or sent."""
    shares = Shares([torch.zeros(1), torch.ones(1), torch.ones(2)])
    assert processes() == 1
    assert len(shares.own) == 3
    assert shares.join([1, 2, 3]) == [1, 2, 3]
    assert torch.equal(shares.sum(torch.ones(2)), torch.ones(2))
