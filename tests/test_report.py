"""What a pruned loop reports."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import dipgo_fx
from dipgo_fx import Plan, Report, measure_similarity
from dipgo_fx.applying import build
from dipgo_fx.deriving import at_ratio
from dipgo_fx.macs import Cost
from dipgo_fx.states import COLOURS, MEANINGS, State
from loops import calls, cost, inputs, loop
from plans import plan
from searches import PLAIN, SPLIT, STEPS, searched, with_frontier

SVG = "{http://www.w3.org/2000/svg}"


def report_of(made: Plan, key: Any = ("dit",)) -> Report:
    """Return the report of a plan on the loop `loop(*key)`."""
    return replace(build(loop(*key), made).report, plan=made)


def titles(page: ElementTree.Element) -> list[str]:
    """Return what stands above the parts of a page."""
    return [title.text or "" for title in page.iter("h2")]


def rows(page: ElementTree.Element) -> list[list[str]]:
    """Return the cells of all tables of a page."""
    return [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]


def test_a_report_counts_what_was_removed() -> None:
    """MACs of both loops, in both conventions, are those that are counted node by node."""
    report = searched().report
    after = dipgo_fx.count_macs(searched())
    assert report.before == cost("dit", "ddim", "block", None, STEPS).full
    assert (report.after.total, report.after.attention) == (after.total, after.attention)
    assert report.ratio == searched().plan.ratio
    before = report.before.without_attention
    assert report.ratio_without_attention == 1 - report.after.without_attention / before


def test_a_report_has_the_states_of_its_plan() -> None:
    """What runs is what the graph calls."""
    report, blocks = searched().report, searched().blocks
    assert torch.equal(report.states, searched().plan.states())
    running = {(blocks[n], t) for t, n in (report.states == State.RUNS).nonzero().tolist()}
    assert running == calls(searched())


def test_a_report_prints_in_a_few_lines() -> None:
    """MACs, calls and what is known of the plan; lists and tables of the origin stay out."""
    text = str(searched().report)
    running = int((searched().report.states == State.RUNS).sum())
    assert f"block calls             {searched().report.states.numel()} -> {running}" in text
    assert "MACs with attention" in text
    assert "plan seed" in text
    assert "curve" not in text
    assert max(map(len, text.splitlines())) < 110


@pytest.mark.parametrize(
    "changes", [{"after": Cost(1, 0)}, {"states": torch.zeros(STEPS, 4, dtype=torch.int64)}, {"origin": {}}]
)
def test_reports_are_compared_by_value(changes: dict[str, Any]) -> None:
    """The states count too, which are a tensor."""
    report = searched().report
    assert replace(report, states=report.states.clone()) == report
    assert replace(report, **changes) != report


# -- the page


@pytest.mark.parametrize("key", [PLAIN, SPLIT], ids=["plain", "split"])
def test_a_page_says_what_the_report_says(key: Any) -> None:
    """MACs of both loops, every pass with its seconds, the plan and where it came from."""
    report = report_of(with_frontier(key), key)
    page = ElementTree.fromstring(report.html())
    said = {row[0]: row[1:] for row in rows(page)}
    assert said["MACs with attention, for one sample"][2] == f"{report.ratio:.2%}"
    assert said["MACs without attention, for one sample"][2] == f"{report.ratio_without_attention:.2%}"
    running = int((report.states == State.RUNS).sum())
    assert said["calls of blocks"][:2] == [str(report.states.numel()), str(running)]
    for record in report.passes:
        assert said[record.name][-1] == f"{record.seconds:.3f}"
    assert said["full_runs"] == [f"{report.origin['full_runs']:.6g}"]
    assert said["model"] == ["DiTTransformer2DModel"]
    assert ("guidance" in said) == (key is SPLIT)
    assert "curve" not in said


def test_a_page_draws_the_states_the_curve_and_the_frontier() -> None:
    """As many gates of each colour as there are, a dot an evaluation, a dot a point and the plan marked."""
    made = with_frontier(SPLIT)
    report = report_of(made, SPLIT)
    page = ElementTree.fromstring(report.html())
    states, curve, frontier = page.iter(SVG + "svg")
    counts = Counter(report.states.flatten().tolist())
    (legend,) = (p for p in page.iter("p") if p.get("class") == "keys")
    for state, item in zip(State, legend, strict=True):
        assert "".join(item.itertext()).startswith(f"{MEANINGS[state]}: {counts[state]} (")
    assert {r.get("fill") for r in states.iter(SVG + "rect")} >= {COLOURS[State(state)] for state in counts}
    assert len([*curve.iter(SVG + "circle")]) == len(made.origin["curve"])
    assert len([*frontier.iter(SVG + "circle")]) == len(made.frontier)
    assert len([p for p in frontier.iter(SVG + "path") if p.get("class") == "chosen"]) == 1


def test_the_chosen_point_lies_on_its_frontier() -> None:
    """A plan of the frontier is marked where its dot is: by the calls that run and the MACs that are kept."""
    made = with_frontier(SPLIT)
    assert made.cost is not None
    kept = made.cost.kept(made.frontier[0].table(made.cost))
    cheapest = at_ratio(made, 1 - kept - 1e-9, made.cost)
    *_, frontier = ElementTree.fromstring(report_of(cheapest, SPLIT).html()).iter(SVG + "svg")
    dot = next(frontier.iter(SVG + "circle"))
    (mark,) = (p for p in frontier.iter(SVG + "path") if p.get("class") == "chosen")
    x, y = map(float, re.findall(r"[\d.]+", mark.attrib["d"])[:2])
    assert (x + 7, y) == pytest.approx((float(dot.attrib["cx"]), float(dot.attrib["cy"])), abs=0.11)


def test_a_derived_plan_shows_the_search_that_it_came_from() -> None:
    """The curve is the other plan's, so no loss of this one is drawn into it."""
    made = with_frontier(PLAIN)
    assert made.cost is not None
    page = report_of(at_ratio(made, 0.3, made.cost), PLAIN).html()
    said = {row[0]: row[1:] for row in rows(ElementTree.fromstring(page))}
    assert "This plan was made from one of another search" in page
    assert "stroke-dasharray" not in page
    assert said["seed of the plan it was made from"] == ["1"]


def test_a_page_leaves_out_what_there_is_not() -> None:
    """A plan by hand was not searched and has no frontier; without a plan there are no pictures of it."""
    bare = replace(plan(), frontier=(), origin={})
    both = ["What was kept", "Which block runs at which step", "The plan", "The passes of the compiler"]
    assert titles(ElementTree.fromstring(report_of(bare).html())) == both
    without = replace(report_of(bare), plan=None)
    assert titles(ElementTree.fromstring(without.html())) == [both[0], *both[2:]]


def test_names_of_strangers_are_text() -> None:
    """A block called like a script is shown as one, in the page and in a notebook, and runs nothing."""
    script = "<script>alert('1')</script>&"
    made = plan()
    facts = replace(made.facts, model=script, blocks=(script, *made.blocks[1:]))
    hostile = replace(made, facts=facts, origin={script: script, "curve": [script, [1, 2]]})
    report = replace(report_of(made), plan=hostile, origin=hostile.origin)
    for page in (report.html(), report._repr_html_()):
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        found = ElementTree.fromstring(page)
        assert [script, script] in rows(found)
        assert script in ["".join(t.text or "") for t in found.iter(SVG + "text")]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
CURVES = JSON | st.lists(
    st.tuples(JSON, JSON).map(list) | st.tuples(st.floats(0, 9), st.floats(0, 1)).map(list)
)


@given(curve=CURVES, loss=JSON, derived=JSON, other=st.dictionaries(st.text(), JSON, max_size=4))
def test_any_origin_is_shown_or_left_out(curve: Any, loss: Any, derived: Any, other: dict[str, Any]) -> None:
    """Files may hold anything there; a page is well formed and a terminal gets printable lines."""
    origin = {**other, "curve": curve, "loss": loss, "derived_from": derived}
    report = replace(report_of(plan()), origin=origin)
    ElementTree.fromstring(report.html())
    assert all(line.isprintable() for line in str(report).split("\n"))


@pytest.mark.parametrize(
    "entry",
    [[-1, 1], [1, -0.5], [1, 1e-320], [1, 1e308], [10**400, 1], [1, True], [1, "1"], [1], [1, 2, 3], 1],
)
def test_what_cannot_be_drawn_is_left_out_of_a_curve(entry: Any) -> None:
    """What no search writes: numbers below 0 or beyond all scales, no numbers, no pairs."""
    made = replace(plan(), frontier=())
    report = replace(report_of(made), origin={"curve": [[1, 0.5], entry, [2, 0.25]]})
    assert len([*ElementTree.fromstring(report.html()).iter(SVG + "circle")]) == 2


# -- what would take runs of the model


def test_a_page_draws_what_it_is_given() -> None:
    """Maps with the steps at which this very plan runs each block, and a row of images a ratio."""
    report = report_of(plan())
    maps = measure_similarity(loop("dit"), *inputs("dit", 1))
    images = {ratio: [Image.new("L", (8, 8))] * 2 for ratio in (0, 0.4)}
    page = ElementTree.fromstring(report.html(similarity=maps, images=images, captions=["a hat", "a fox"]))
    assert titles(page)[:4] == [
        "What was kept",
        "Images",
        "Which block runs at which step",
        "How alike steps are",
    ]
    assert len([*page.iter("img")]) == 4
    words = [
        svg.attrib["aria-label"] for svg in page.iter(SVG + "svg") if "cosine" in svg.attrib["aria-label"]
    ]
    assert [said.partition(":")[0] for said in words] == list(plan().blocks)
    bars = [p.attrib["d"].count("M") for p in page.iter(SVG + "path") if p.get("class") == "runs"]
    assert bars == (report.states == State.RUNS).sum(0).tolist()


def test_a_page_with_pictures_loads_nothing() -> None:
    """Every image lies in the page itself."""
    maps = {"a": torch.eye(5)}
    page = report_of(plan()).html(similarity=maps, images={0.5: [Image.new("RGB", (8, 8))]})
    addresses = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert len(addresses) == 3
    assert all(re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", address) for address in addresses)
    assert not re.findall(r"<(?:script|link|iframe)|@import|url\(", page)


def test_a_page_without_pictures_has_none() -> None:
    """Nothing given, nothing drawn: empty mappings are nothing, too."""
    report = report_of(plan())
    assert report.html() == report.html(similarity={}, images={}, captions=["unused"])
    assert "<img" not in report.html()


def test_maps_of_unknown_blocks_have_no_bars() -> None:
    """As those of a loop whose guidance was traced otherwise, or where there is no plan."""
    report = report_of(plan())
    for page in (
        report.html(similarity={"other": torch.eye(5)}),
        replace(report, plan=None).html(similarity={plan().blocks[0]: torch.eye(5)}),
    ):
        assert 'class="runs"' not in page
        assert "How alike steps are" in page


def test_a_notebook_gets_an_element_and_a_file_a_page() -> None:
    """The same within."""
    report = report_of(plan())
    page, element = report.html(), report._repr_html_()
    assert page.startswith("<!DOCTYPE html>")
    assert element.startswith('<div class="dipgo-fx">')
    assert element in page
