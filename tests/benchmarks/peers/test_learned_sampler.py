"""Learned samplers start as stock ones, get nearer, and stay within their budget."""

from __future__ import annotations

import pytest
import torch

from benchmarks.cases import Case
from benchmarks.peers import FITTED, LEARNED, Curve, Method, PeerSampler, Setting, Task
from benchmarks.peers.adam import adam
from benchmarks.peers.learned_sampler import Teacher, install, lesson_of, path_of, scheduler
from benchmarks.peers.learning import Corrections, Recipe, detached
from benchmarks.peers.levenberg import levenberg
from benchmarks.peers.multistep import THEORIES, MultistepScheduler
from benchmarks.peers.path_fit import fit_to_path

pytestmark = pytest.mark.long

STEPS, TIMES = 6, (830.0, 498.0, 166.0)


@pytest.fixture(scope="module", params=["digits-dit", "fashion-unet"])
def task(request: pytest.FixtureRequest) -> Task:
    """A few steps of a transformer, and of a U-Net under guidance."""
    return Task.of(Case(request.param, STEPS), samples=4, ratios=[0.5], full_runs=1.0)


@pytest.mark.parametrize("theory", THEORIES)
def test_no_correction_is_theory(task: Task, theory: str) -> None:
    """The start is the stock solver on the same grid, in the gradient's loop and in the eager one."""
    lesson, _ = lesson_of(task)
    stock = THEORIES[theory](lesson.levels, lesson.levels.tensor(TIMES))
    plain = Method(
        "plain", "", lambda task: [], scheduler=lambda *_: MultistepScheduler({}, lesson.levels, stock)
    )
    wanted = PeerSampler(task, plain, Setting())(task.sample, **task.conditioning)
    with torch.no_grad():
        start = Corrections(lesson.levels, Recipe(theory, TIMES))()
        torch.testing.assert_close(start.coefficients.times, stock.times)
        torch.testing.assert_close(start.coefficients.told, stock.told)
        torch.testing.assert_close(lesson.trace(start).result, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("both", [None, (True, False, True), (True, True, False)])
def test_a_resumed_run_is_the_whole_run(task: Task, both: tuple[bool, ...] | None) -> None:
    """Whatever number is nudged, calls before it stay as they were."""
    if both is not None and task.guidance_scale is None:
        pytest.skip("there are no halves")
    lesson, _ = lesson_of(task)
    corrections = Corrections(lesson.levels, Recipe("DDIM", TIMES, both=both))
    with torch.no_grad():
        base = lesson.trace(corrections())
        for parameter, place, first in corrections.entries():
            parameter[place] += 0.05
            whole = lesson.trace(corrections()).result
            assert not torch.equal(whole, base.result)
            resumed = lesson.trace(corrections(), base, first).result
            torch.testing.assert_close(resumed, whole, rtol=0, atol=1e-5)
            parameter[place] -= 0.05


def test_learning_gets_nearer_within_its_budget(task: Task) -> None:
    """By the path, by Levenberg and Marquardt, and by Adam; twice the same."""
    lesson, model = lesson_of(task)

    def learned() -> list[float]:
        corrections = Corrections(lesson.levels, Recipe("DDIM", TIMES))
        with torch.no_grad():
            losses = [lesson.loss(corrections()).item()]
        losses.append(fit_to_path(lesson, corrections, path_of(task)))
        assert levenberg(lesson, corrections, 20.0) <= 20.0
        with torch.no_grad():
            losses.append(lesson.loss(corrections()).item())
        assert adam(lesson, model, corrections, 3.0, batch=2) <= 3.0
        with torch.no_grad():
            losses.append(lesson.loss(detached(corrections())).item())
        return losses

    losses = learned()
    assert losses[0] > losses[1] > losses[2]
    assert learned() == losses


def test_adam_goes_down_the_gradient(task: Task) -> None:
    """From theory alone; the model keeps its parameters and their flags."""
    lesson, model = lesson_of(task)
    corrections = Corrections(lesson.levels, Recipe("DPM-Solver++ 2M", TIMES))
    with torch.no_grad():
        start = lesson.loss(corrections()).item()
    assert adam(lesson, model, corrections, 60.0, batch=4, rate=2e-3, time_rate=2e-3) <= 60.0
    with torch.no_grad():
        assert lesson.loss(corrections()).item() < start
    assert all(parameter.grad is None for parameter in model.parameters())
    times = corrections.times()
    assert bool((times.diff() < 0).all())
    assert times[0].item() == TIMES[0]


def test_a_method_counts_what_it_spends(task: Task) -> None:
    """No more than the budget, and its sampler is what was learned; halves cost what they ask for."""
    curve = Curve.of(task, LEARNED)
    assert not curve.failed
    assert len(curve.outcomes) == (1 if task.guidance_scale is None else 2)
    for outcome in curve.outcomes:
        assert 1 < outcome.setting.spent <= task.full_runs
        assert outcome.kept <= 0.5 + 1e-6
    fitted = Curve.of(task, FITTED)
    assert fitted.full_runs < curve.full_runs
    assert fitted.outcomes[0].psnr <= curve.outcomes[0].psnr + 0.5


def test_a_setting_that_cannot_be_learned_is_an_error() -> None:
    """It is told with its cost, not dropped."""
    task = Task.of(Case("digits-dit", STEPS, "Euler"), samples=2, ratios=[0.5], full_runs=1.0)
    curve = Curve.of(task, Method("learned", "", Teacher().settings, install, scheduler))
    assert curve.ran == []
    assert "scales its samples in a way of its own" in curve.error
