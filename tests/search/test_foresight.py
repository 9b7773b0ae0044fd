"""Steps found on the unpruned path: the best by what is foretold of them, and those at which it turns."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipgo_fx.search.batch import Batch
from dipgo_fx.search.foresight import REACH, Foresight


def path_of(points: torch.Tensor) -> Batch:
    """Return a batch whose samples go through `(T + 1, n, values)`."""
    return Batch(points[0], {}, points[1:], 1, (0,) * points.shape[1])


def random_path(steps: int, seed: int) -> Batch:
    """Return a batch with a rough path."""
    generator = torch.Generator().manual_seed(seed)
    return path_of(torch.randn(steps + 1, 3, 5, generator=generator).cumsum(0))


@settings(max_examples=30)
@given(steps=st.integers(1, 9), seed=st.integers(0, 99), data=st.data())
def test_what_is_foretold_to_be_best_is_found(steps: int, seed: int, data: st.DataObject) -> None:
    """Dynamic programming ends with the sets of steps of the least sums of errors, in order."""
    sensitivity = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=steps, max_size=steps))
    count, most = data.draw(st.integers(1, steps)), data.draw(st.integers(1, 5))
    first = data.draw(st.integers(0, steps - count))
    foresight = Foresight(random_path(steps, seed), [sensitivity])

    def foretold(chosen: tuple[int, ...]) -> float:
        ends = [first, *chosen[1:], steps]
        known = [(), *(chosen[max(0, place - 1) : place + 1] for place in range(count))]
        return sum(foresight._cost(runs, stop) for runs, stop in zip(known, ends, strict=True))

    reach = REACH * (steps - first) / count + 1
    every = [
        (first, *rest)
        for rest in combinations(range(first + 1, steps), count - 1)
        if all(later - earlier < reach for earlier, later in pairwise((first, *rest)))
    ]
    found = foresight.placements(count, most, first)
    assert len({*found}) == len(found) == min(most, len(every))
    assert {*found} <= {*every}
    assert [foretold(each) for each in found] == pytest.approx(sorted(map(foretold, every))[: len(found)])


def test_steps_run_where_the_path_turns() -> None:
    """On straight lines all can be known from two samples; what comes after a turn cannot."""
    generator = torch.Generator().manual_seed(0)
    start, one, other = torch.randn(3, 4, 50, generator=generator)
    before = [start + step * one for step in range(7)]
    after = [before[-1] + step * other for step in range(1, 7)]
    foresight = Foresight(path_of(torch.stack([*before, *after])), [[1.0] * 12])
    assert foresight.placements(2, 1) == [(0, 6)]
    assert foresight.placements(1, 1, first=3) == [(3,)]
    assert foresight._cost((0,), 6) < 1e-4 * foresight._cost((0,), 12)


def test_errors_weigh_what_steps_were_measured_to_matter() -> None:
    """Of two equal turns a single run goes to the one that is dearer to miss."""
    generator = torch.Generator().manual_seed(0)
    points, steps = torch.randn(21, 4, 50, generator=generator), 20
    path = path_of((points * torch.tensor([0.1] * 21).view(-1, 1, 1) + torch.ones(4, 50)).cumsum(0))
    early = Foresight(path, [[100.0] * 10 + [1.0] * 10]).placements(8, 1)[0]
    late = Foresight(path, [[1.0] * 10 + [100.0] * 10]).placements(8, 1)[0]
    assert sum(step < steps // 2 for step in early) > sum(step < steps // 2 for step in late)


def test_the_order_and_number_of_samples_change_little() -> None:
    """What is foretold is a mean over samples: twice the same are as one, in any order."""
    path = random_path(8, 3)
    doubled = path.part(torch.tensor([2, 0, 1, 1, 0, 2]))
    one, two = (Foresight(batch, [[1.0] * 8]) for batch in (path, doubled))
    np.testing.assert_allclose(one.gram, two.gram)
    assert one.placements(4, 3) == two.placements(4, 3)


def test_a_path_that_stays_is_no_error() -> None:
    """Samples that are all alike, or all 0, leave no error, and any steps do."""
    for points in (torch.ones(7, 2, 4), torch.zeros(7, 2, 4)):
        foresight = Foresight(path_of(points), [[1.0] * 6])
        assert len(foresight.placements(3, 4)) == 4
        assert foresight._left((0,)).max() < 1e-6
