"""What choosing cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from benchmarks.quality.offers import Spent, spent_on, spent_on_settings


def plan(**origin: Any) -> Any:
    """Return something with an origin."""
    return SimpleNamespace(origin=origin)


def case(*trained: Any) -> Any:
    """Return a case whose evaluators generated twelve samples."""
    return SimpleNamespace(trained=dict(enumerate(trained)), generated=12)


def found(cost: float, **origin: Any) -> Any:
    """Return a found plan."""
    return SimpleNamespace(plan=plan(**origin), full_runs=cost, samples=48)


def test_a_search_says_what_it_took() -> None:
    """Also for the plans of other ratios that it left, whose origins do not say it."""
    search = plan(seconds=60.0, curve=[[1.0, 0.1]] * 3, full_runs=20.0, samples=24)
    expected = Spent(10.0, 60.0, 96)
    assert spent_on(case(), found(10.0, **search.origin), 1.0) == expected
    assert spent_on(case(search), found(10.0), 1.0) == expected


def test_other_methods_are_measured() -> None:
    """By the clock and by what the evaluators generated."""
    search = plan(seconds=60.0, curve=[], full_runs=20.0, samples=48)
    assert spent_on(case(search), found(3.0), 1.5) == Spent(3.0, 1.5, 12)


def test_a_share_pays_for_its_own_settings() -> None:
    """And for those that serve every share; its part of the seconds goes by full runs."""
    settings = [SimpleNamespace(setting=SimpleNamespace(asked=asked)) for asked in (0.2, 0.5, None)]
    curve: Any = SimpleNamespace(ran=settings, full_runs=10.0, full_runs_for=lambda asked: 4.0)
    assert spent_on_settings(curve, 0.2, 16, 100.0) == Spent(4.0 * 16 / 48, 40.0, 48)
