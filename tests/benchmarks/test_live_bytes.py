"""The peak of live tensor bytes."""

from __future__ import annotations

import torch

from benchmarks.live_bytes import LiveBytes, meter

KILO = 250  # float32 values of 1000 bytes


def test_the_peak_is_of_what_lives_together() -> None:
    """What is gone does not count, views do not count twice, and what was there before does not count."""
    before = torch.ones(KILO)
    with LiveBytes() as live:
        first = torch.ones(3 * KILO)
        view = first[:KILO].reshape(10, -1)
        assert (live.current, live.peak) == (3000, 3000)
        del first, view
        assert live.current == 0
        second = before + 1
        third = second * 2
        assert live.current == 2000
        third.add_(before)
    assert live.peak == 3000


def test_views_of_what_was_there_before_do_not_count() -> None:
    """A layer transposes its weight, which is no new memory."""
    layer = torch.nn.Linear(KILO, KILO)
    with LiveBytes() as live:
        layer(torch.ones(1, KILO))
    assert live.peak == 2000


def test_a_peak_may_start_anew() -> None:
    """From what is alive at that time."""
    with meter(torch.device("cpu")) as live:
        kept = torch.ones(KILO)
        torch.ones(3 * KILO)
        assert live.peak == 4000
        live.restart()
        assert (live.current, live.peak) == (1000, 1000)
        kept += 1
