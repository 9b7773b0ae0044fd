"""Plots have their points where their numbers are."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.report_plots import PLOT_HEIGHT, PLOT_WIDTH, Axis, curve_picture, frontier_picture

SVG = "{http://www.w3.org/2000/svg}"
LOSSES = st.floats(1e-300, 1e300) | st.just(0.0)


def elements(svg: str, kind: str) -> list[ElementTree.Element]:
    """Return the elements of a kind in a picture, in order."""
    return list(ElementTree.fromstring(svg).iter(SVG + kind))


def number(element: ElementTree.Element, name: str) -> float:
    """Return an attribute that is a number."""
    return float(element.attrib[name])


@given(
    points=st.lists(st.tuples(st.floats(0, 1e6), LOSSES), min_size=1, max_size=20),
    found=st.none() | LOSSES,
)
def test_a_curve_has_a_dot_a_point_inside_its_frame(
    points: list[tuple[float, float]], found: float | None
) -> None:
    """Whatever the losses: zeros, equal ones, hundreds of powers of ten; dots keep their order."""
    svg = curve_picture(points, found)
    dots = elements(svg, "circle")
    assert len(dots) == len(points)
    _assert_inside(dots)
    places = [(number(dot, "cx"), -number(dot, "cy")) for dot in dots]
    for axis in range(2):
        in_order = sorted(range(len(points)), key=lambda k, axis=axis: points[k][axis])  # type: ignore[misc]
        at = [places[k][axis] for k in in_order]
        assert all(a <= b + 0.11 for a, b in pairwise(at))
    assert ("stroke-dasharray" in svg) == (found is not None)


@given(
    points=st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), max_size=20),
    chosen=st.tuples(st.integers(1, 500), st.floats(0, 1)),
)
def test_a_frontier_marks_the_chosen_point(
    points: list[tuple[int, float]], chosen: tuple[int, float]
) -> None:
    """A dot for each point, and one mark at the place where a dot of the chosen one would be."""
    svg = frontier_picture([*points, chosen], chosen)
    *dots, at = elements(svg, "circle")
    assert len(dots) == len(points)
    _assert_inside([*dots, at])
    (mark,) = (p for p in elements(svg, "path") if p.get("class") == "chosen")
    x, y = re.match(r"M(\S+) (\S+)l", mark.attrib["d"]).groups()  # type: ignore[union-attr]
    assert (float(x) + 7, float(y)) == pytest.approx((number(at, "cx"), number(at, "cy")), abs=0.11)


def _assert_inside(dots: list[ElementTree.Element]) -> None:
    assert all(0 < number(dot, "cx") < PLOT_WIDTH and 0 < number(dot, "cy") < PLOT_HEIGHT for dot in dots)


@given(low=st.floats(1e-300, 1e300), factor=st.floats(1, 1e9), log=st.booleans())
def test_an_axis_has_a_few_ticks_within_its_range(low: float, factor: float, log: bool) -> None:
    """One at least, rising, with places along the axis."""
    high = min(low * factor, 1e301)
    axis = Axis("x", low if log else 0.0, high, log)
    ticks = axis.ticks
    assert 1 <= len(ticks) <= 12
    assert ticks == sorted(ticks)
    assert all(-1e-6 <= axis.share(tick) <= 1 + 1e-6 for tick in ticks)


def test_ticks_by_hand() -> None:
    """Round numbers, percent, and powers of ten."""
    assert [Axis("x", 0, 24.5).named(v) for v in Axis("x", 0, 24.5).ticks] == ["0", "5", "10", "15", "20"]
    share = Axis("x", 0, 0.83, percent=True)
    assert [share.named(v) for v in share.ticks] == ["0%", "20%", "40%", "60%", "80%"]
    assert Axis("x", 1e-4, 2.0, log=True).ticks == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1])
    assert Axis("x", 0.15, 0.7, log=True).ticks == pytest.approx([0.2, 0.5])


@pytest.mark.parametrize("spent", [0.0, 5e-324, 1e-310])
def test_an_axis_as_short_as_a_number_can_be_has_a_tick(spent: float) -> None:
    """There is no round value between its ends."""
    assert Axis("full runs spent", 0.0, spent).ticks == [0.0]
