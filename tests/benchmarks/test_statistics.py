"""Statistics of single images, and intervals of differences: laws, and coverage on made-up data."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metrics import ImageErrors
from benchmarks.statistics import (
    CEILING,
    COMPARED,
    TOLD,
    Comparison,
    Interval,
    compared,
    decibels,
    quantile,
    resampled,
    told,
    verdict,
)

seeds = st.integers(0, 2**31)
columns = st.sampled_from(sorted(COMPARED))
sizes = st.lists(st.integers(2, 40), min_size=1, max_size=3)


def errors(seed: int, count: int, scale: float = 1e-3) -> ImageErrors:
    """Return made-up errors of images, spread over some decibels."""
    generator = torch.Generator().manual_seed(seed)
    squared, clamped, lacks, far, converged = (
        scale * torch.randn((5, count), generator=generator).exp().double()
    )
    recognised = (torch.rand(count, generator=generator) < 0.9).double()
    return ImageErrors(squared, clamped, 1 - lacks, far, recognised, converged)


def several(seed: int, counts: list[int], scale: float = 1e-3) -> list[ImageErrors]:
    """Return errors of several seeds."""
    return [errors(seed + index, count, scale) for index, count in enumerate(counts)]


def versus(column: str, ours: list[ImageErrors], other: list[ImageErrors], seed: int = 0) -> Comparison:
    """Compare two methods."""
    pair = [resampled(COMPARED[column], each, seed) for each in (ours, other)]
    assert pair[0] is not None
    assert pair[1] is not None
    return compared(COMPARED[column], pair[0], pair[1])


@given(columns, seeds, sizes)
@settings(max_examples=25, deadline=None)
def test_a_method_against_itself_is_zero(column: str, seed: int, counts: list[int]) -> None:
    """Whatever images are drawn, both have the same ones."""
    found = versus(column, several(seed, counts), several(seed, counts))
    assert found.difference == Interval(0.0, 0.0, 0.0)
    assert found.verdict == "open"


@given(columns, seeds, sizes)
@settings(max_examples=25, deadline=None)
def test_the_other_way_round_is_the_opposite(column: str, seed: int, counts: list[int]) -> None:
    """Ends change places and signs; what is won by the one is lost by the other."""
    ours, other = several(seed, counts), several(seed + 10, counts)
    forth, back = versus(column, ours, other).difference, versus(column, other, ours).difference
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    verdicts = {versus(column, *pair).verdict for pair in ((ours, other), (other, ours))}
    assert verdicts in ({"open"}, {"won", "lost"})


@given(columns, seeds, sizes)
@settings(max_examples=25, deadline=None)
def test_what_is_better_on_every_image_is_won(column: str, seed: int, counts: list[int]) -> None:
    """A tenth of the error on each image leaves 0 out of the interval, however few images there are."""
    other = several(seed, counts)
    ours = [
        replace(
            each,
            squared=each.squared / 10,
            ssim=1 - (1 - each.ssim) / 10,
            feature_distance=each.feature_distance / 10,
            converged=each.converged / 10,
        )
        for each in other
    ]
    assert versus(column, ours, other).verdict == "won"
    assert versus(column, other, ours).verdict == "lost"


def test_the_seed_fixes_the_interval_and_nothing_global_is_touched() -> None:
    """Another seed gives another one, around the same value."""
    pair = several(0, [30, 30]), several(10, [30, 30])
    before = torch.get_rng_state()
    first, again, other = (versus("psnr_db", *pair, seed=seed).difference for seed in (0, 0, 1))
    assert torch.get_rng_state().equal(before)
    assert first == again
    assert first.value == other.value
    assert first.low != other.low


def test_intervals_cover_what_is_true() -> None:
    """Of a mean difference of 0.3 with noise common to both methods, about 95 % of intervals hold it."""
    held = 0
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        common, own = torch.randn((2, 60), generator=generator).double()
        first, second = ((30 + level) for level in (3 * common + 0.3 + own, 3 * common))
        ours, other = ([replace(errors(0, 60), squared=4 / 10 ** (each / 10))] for each in (first, second))
        interval = versus("psnr_mean_db", ours, other).difference
        held += interval.low <= 0.3 <= interval.high
    assert 88 <= held <= 99


def test_seeds_are_drawn_apart() -> None:
    """Images of a seed stand in for each other only: two seeds of equal images each leave no doubt."""
    ours = [replace(errors(0, 20), squared=torch.full((20,), level).double()) for level in (1e-3, 1e-5)]
    other = [replace(errors(0, 20), squared=torch.full((20,), level).double()) for level in (2e-3, 2e-5)]
    difference = versus("psnr_db", ours, other).difference
    assert difference.low == pytest.approx(difference.high)
    assert difference.value == pytest.approx(10 * math.log10(2))


def test_statistics_are_what_their_names_say() -> None:
    """Pooled PSNR is that of the mean error; one bad image of forty is worst, and the lowest 5 % miss it."""
    squared = torch.tensor([4e-1, 4e-2, *[4e-4] * 38]).double()
    found = told(replace(errors(0, 40), squared=squared))
    assert found["psnr_db"] == pytest.approx(float(decibels(squared.mean())))
    assert found["psnr_mean_db"] == pytest.approx((10 + 20 + 38 * 40) / 40)
    assert found["psnr_worst_db"] == pytest.approx(10)
    assert found["psnr_low_db"] == pytest.approx(20)
    assert found["psnr_median_db"] == pytest.approx(40)
    assert set(found) == set(TOLD)


@given(seeds, st.integers(1, 50), st.floats(0, 1))
@settings(deadline=None)
def test_quantiles_are_values_that_a_share_does_not_exceed(seed: int, count: int, share: float) -> None:
    """Repeated images count as often as they were drawn."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=generator).double()
    chosen = torch.randint(count, (count,), generator=generator)
    counts = torch.bincount(chosen, minlength=count).double()[None]
    found = float(quantile(values, counts, share))
    drawn = values[chosen]
    assert found in drawn.tolist()
    assert float((drawn <= found).double().sum()) >= share * count - 1e-6
    assert float((drawn < found).double().sum()) < max(1.0, share * count + 1e-6)


def test_equal_images_are_infinite_together_and_capped_alone() -> None:
    """So that one equal image does not make a mean infinite."""
    nothing = torch.zeros(4, dtype=torch.float64)
    found = told(replace(errors(0, 4), squared=nothing, clamped=nothing))
    assert found["psnr_db"] == found["clamped_psnr_db"] == math.inf
    assert found["psnr_mean_db"] == CEILING


def test_what_does_not_apply_has_no_statistic() -> None:
    """A model without features has no distance, alone or compared."""
    lacking = replace(errors(0, 4), feature_distance=torch.full((4,), math.nan).double())
    assert told(lacking)["feature_distance"] is None
    assert resampled(COMPARED["feature_distance"], [lacking]) is None


def test_other_images_are_not_compared() -> None:
    """Pairs need as many images of each seed."""
    with pytest.raises(ValueError, match=r"same images, got \(4,\) and \(5,\)"):
        versus("ssim", several(0, [4]), several(0, [5]))


@pytest.mark.parametrize(
    ("ends", "higher", "expected"),
    [
        ((0.1, 0.2), True, "won"),
        ((0.1, 0.2), False, "lost"),
        ((-0.2, -0.1), True, "lost"),
        ((-0.2, -0.1), False, "won"),
        ((-0.1, 0.1), True, "open"),
        ((0.0, 0.1), True, "open"),
        ((-0.02, -0.01), True, "open"),  # no digit that a table shows
    ],
)
def test_a_verdict_needs_an_interval_without_zero(
    ends: tuple[float, float], higher: bool, expected: str
) -> None:
    """An end at 0 is not enough."""
    statistic = replace(COMPARED["psnr_db"], higher_is_better=higher)
    assert verdict(Interval(sum(ends) / 2, *ends), statistic) == expected
