"""Distilling the few-step model: pairs, loss, and what is written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.cases import Case
from benchmarks.reference import distil, train
from benchmarks.reference.models import FLOW, build_flow_scheduler, load

CPU = torch.device("cpu")


@pytest.mark.long
def test_pairs_are_the_teachers_images_of_their_noise() -> None:
    """Under its guidance and in as many steps as its tables have."""
    noise, images, labels = distil.pairs(3, 2.0, torch.Generator().manual_seed(0), CPU)
    assert labels.tolist() == [0, 1, 2]
    case = Case(distil.TEACHER, distil.TEACHER_STEPS)
    with torch.no_grad():
        wanted = case.loop()(noise, **case.inputs(3, held_out=False).conditioning)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-4)


def test_who_knows_the_velocity_has_no_loss() -> None:
    """Whatever the noise level; and the levels of a batch are spread over all there are."""
    noise, images = torch.randn(2, 4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    told: list[torch.Tensor] = []

    def knowing(sample: torch.Tensor, timestep: torch.Tensor, class_labels: torch.Tensor) -> Any:
        sigma = timestep.view(-1, 1, 1, 1) / train.FLOW_TIMES
        torch.testing.assert_close(sample, (1 - sigma) * images + sigma * noise)
        told.append(timestep)
        return SimpleNamespace(sample=noise - images)

    loss = train.velocity_error(knowing, noise, images, torch.arange(4), torch.Generator().manual_seed(2))
    assert loss == 0
    assert (told[0] / train.FLOW_TIMES * 4).floor().tolist() == [0, 1, 2, 3]


def test_few_steps_end_at_a_fifth_of_the_noise() -> None:
    """So that the last of them has something to do."""
    for steps in (4, 8):
        scheduler = build_flow_scheduler()
        scheduler.set_timesteps(steps)
        assert scheduler.sigmas[[0, -2, -1]].tolist() == pytest.approx([1, 0.2, 0])


@pytest.mark.long
def test_what_is_written_can_be_loaded(tmp_path: Path) -> None:
    """Weights in half precision, with their sampler, and the page that tells of them."""
    distil.main(["--smoke", "--out", str(tmp_path)])
    model, scheduler = load(FLOW, tmp_path)
    assert type(scheduler).__name__ == "FlowMatchEulerDiscreteScheduler"
    own = load(distil.TEACHER)[0].state_dict()
    assert any(not torch.equal(value, own[name]) for name, value in model.state_dict().items())
    assert f"| {FLOW} | 0 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
