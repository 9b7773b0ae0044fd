"""All settings of a method, and the best of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.cases import Case
from benchmarks.peers import FEWER, NOTHING, Method, PeerSampler, Setting, Task
from benchmarks.peers.core import Stage
from benchmarks.peers.curve import Curve, Outcome

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def task() -> Task:
    """Four steps of the digits transformer."""
    return Task.of(Case("digits-dit", 4), samples=2, ratios=[0.5], full_runs=2.0)


def outcome(task: Task, kept: float, psnr: float, error: str = "") -> Outcome:
    """Return an outcome that was not run."""
    return Outcome(PeerSampler(task, NOTHING, Setting()), kept, kept, psnr, error)


def test_the_best_within_a_share_has_most_psnr(task: Task) -> None:
    """A package may keep a little more than asked; what failed is no choice."""
    low, near, high = outcome(task, 0.3, 20.0), outcome(task, 0.51, 30.0), outcome(task, 0.9, 40.0)
    curve = Curve((low, near, high, outcome(task, 0.45, 15.0), outcome(task, 0.1, 99.0, "no")))
    assert curve.best(0.5) is near
    assert curve.best(0.5, slack=0.0) is low
    assert curve.best(1.0) is high
    assert curve.best(0.2) is None
    assert curve.reach == "keeps 0.300 or more"
    assert curve.full_runs == pytest.approx(0.3 + 0.51 + 0.9 + 0.45)
    assert curve.error == ""
    assert Curve((outcome(task, 1.0, 99.0),)).reach == "skips nothing"


def test_fewer_steps_cost_less_and_are_worse(task: Task) -> None:
    """There is one outcome a setting, in the order of the settings."""
    own = [each for each in Curve.of(task, FEWER).ran if each.setting.knobs["spacing"] == "leading"]
    assert [each.kept for each in own] == [0.75, 0.5, 0.25]
    assert own[0].psnr > own[-1].psnr


def test_errors_are_outcomes(task: Task) -> None:
    """Those of one setting leave the others alone; a method without settings has its own words."""

    def install(stage: Stage, setting: Setting) -> None:
        if setting.knobs["fails"]:
            raise AttributeError("no such block")

    def none(task: Task) -> Iterator[Setting]:
        raise RuntimeError("not made for this model")

    some = [Setting({"fails": fails}) for fails in (True, False)]
    curve = Curve.of(task, Method("some", "", lambda task: some, install))
    assert [each.error for each in curve.outcomes] == ["AttributeError: no such block", ""]
    assert (len(curve.ran), curve.error) == (1, "")
    assert curve.ran[0].psnr == float("inf")
    failed = Curve.of(task, Method("none", "", none))
    assert failed.error == "RuntimeError: not made for this model"
    assert failed.best(1.0) is None
