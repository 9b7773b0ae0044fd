"""What a report is drawn with: escaped text, tables, and pictures whose numbers are those that came in."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.report_page import (
    NAME,
    SHOWN,
    document,
    fragment,
    paragraph,
    printable,
    section,
    states_picture,
    table,
    text,
)
from dipgo_fx.states import COLOURS, MEANINGS, State

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</title><script>alert(1)</script><img src=x onerror='a()'>\"&amp;\x00\x1b[2J"
ANY_TEXT = st.text(max_size=2 * SHOWN) | st.just(HOSTILE)


class Tags(HTMLParser):
    """Collects what a browser would find in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count an element."""
        self.found[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.texts.append(data)


def picture(states: torch.Tensor, names: list[str] | None = None, macs: list[int] | None = None) -> str:
    """Return a picture of states."""
    steps, blocks = states.shape
    names = names or [f"layers.{n}" for n in range(blocks)]
    return states_picture(
        names, states, macs or [1] * blocks, [0.5] * steps, [float(t) for t in range(steps)]
    )


def elements(svg: str, kind: str) -> list[ElementTree.Element]:
    """Return the elements of a kind in the last picture of some parts, in order."""
    return list(ElementTree.fromstring(f"<div>{svg}</div>").iter(SVG + kind))


def number(element: ElementTree.Element, name: str) -> float:
    """Return an attribute that is a number."""
    return float(element.attrib[name])


def cells(svg: str) -> list[ElementTree.Element]:
    """Return the rectangles of states."""
    return [r for r in elements(svg, "rect") if "timestep" not in (r.findtext(SVG + "title") or "timestep")]


# -- text


@given(value=ANY_TEXT)
def test_a_text_comes_back_and_is_nothing_else(value: str) -> None:
    """In an element and in an attribute, whatever it holds."""
    shown = printable(value)
    page = ElementTree.fromstring(f'<p title="{text(value)}">{text(value)}</p>')
    assert (page.text or "", page.attrib["title"], len(page)) == (shown, shown, 0)


@given(value=ANY_TEXT)
def test_a_text_is_one_short_line(value: str) -> None:
    """Nothing in it moves a cursor; what may be printed stays."""
    shown = printable(value)
    assert shown.isprintable()
    assert len(shown) <= SHOWN
    if value.isprintable() and len(value) <= SHOWN:
        assert shown == value


@given(value=ANY_TEXT)
def test_a_strangers_text_adds_no_element(value: str) -> None:
    """Everywhere that text goes: a page has the same elements as with a plain word."""

    def page(word: str) -> str:
        states = torch.tensor([[0, 1], [2, 3]])
        parts = [
            section(word, paragraph(word), table((word, word), [(word, word)]), table((), [(word, word)])),
            picture(states, [word, "b"]),
        ]
        return document(word, fragment(word, parts))

    given_page, plain = Tags(page(value)), Tags(page("a"))
    assert given_page.found == plain.found
    assert given_page.attributes == plain.attributes
    ElementTree.fromstring(page(value))


def test_a_page_stands_by_itself() -> None:
    """It loads nothing and runs nothing, and its style touches nothing outside of it."""
    page = document("title", fragment("title", [picture(torch.zeros(2, 2).long())]))
    assert not {"script", "link", "img", "iframe"} & {*Tags(page).found}
    assert set(re.findall(r"https?://[^\"]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in page
    assert "url(" not in page
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    rules = [rule.strip() for rule in re.sub(r"{[^}]*}", "|", style).split("|") if rule.strip()]
    assert len(rules) > 5
    for rule in rules:
        assert all(selector.strip().startswith(".dipgo-fx") for selector in rule.split(","))


# -- states

STATES = st.integers(1, 9).flatmap(
    lambda blocks: st.lists(
        st.lists(st.sampled_from([int(s) for s in State]), min_size=blocks, max_size=blocks),
        min_size=1,
        max_size=12,
    )
)


@given(rows=STATES)
def test_every_gate_is_drawn_once_in_its_colour(rows: list[list[int]]) -> None:
    """Equal neighbours are one rectangle, as wide as they are many; where it lies is which gates it is of."""
    states = torch.tensor(rows)
    drawn = cells(picture(states))
    left = min(number(r, "x") for r in drawn)
    tops = sorted({number(r, "y") for r in drawn})
    width = (max(number(r, "x") + number(r, "width") for r in drawn) - left) / len(rows)
    assert len(tops) == len(rows[0])
    found = torch.full_like(states, -1)
    for r in drawn:
        start, count = round((number(r, "x") - left) / width), round(number(r, "width") / width)
        (state,) = (state for state, colour in COLOURS.items() if colour == r.attrib["fill"])
        column = found[start : start + count, tops.index(number(r, "y"))]
        assert len(column) == count
        assert bool((column == -1).all())
        column[:] = state
        said = r.findtext(SVG + "title") or ""
        assert said.endswith(MEANINGS[state])
        assert (f"step {start}:" if count == 1 else f"steps {start} to {start + count - 1}:") in said
    assert torch.equal(found, states)
    changes = int((states[1:] != states[:-1]).sum()) + states.shape[1]
    assert len(drawn) == changes


@given(rows=STATES)
def test_the_legend_counts_the_gates_of_each_state(rows: list[list[int]]) -> None:
    """All states, those that do not occur too."""
    counts = Counter(value for row in rows for value in row)
    legend = ElementTree.fromstring(picture(torch.tensor(rows)).partition("\n")[0])
    said = ["".join(item.itertext()) for item in legend]
    every = len(rows) * len(rows[0])
    assert said == [f"{MEANINGS[s]}: {counts[s]} ({counts[s] / every:.0%})" for s in State]


def test_rows_are_as_high_as_their_macs() -> None:
    """Twice the MACs, twice the height; what costs next to nothing can still be seen."""
    drawn = cells(picture(torch.zeros(3, 4).long(), macs=[1000, 2000, 1000, 0]))
    heights = [number(r, "height") for r in drawn]
    assert heights[1] == pytest.approx(2 * heights[0], rel=1e-3)
    assert heights[2] == heights[0] > heights[3] >= 3


@given(
    macs=st.lists(st.integers(0, 10**15), min_size=1, max_size=80),
    names=st.text(max_size=120),
    steps=st.sampled_from([1, 20, 50, 250]),
)
def test_labels_do_not_run_into_each_other(macs: list[int], names: str, steps: int) -> None:
    """Names of narrow rows are left out, long ones lose their middle, and all lies inside of the picture."""
    blocks = [f"{n}{names}{n}" for n in range(len(macs))]
    svg = picture(torch.zeros(steps, len(macs)).long(), blocks, macs)
    (frame,) = elements(svg, "svg")
    labels = [t for t in elements(svg, "text") if t.get("class") == "name"]
    heights = [number(t, "y") for t in labels]
    assert labels
    assert all(below - above >= 10 for above, below in pairwise(heights))
    assert {len(t.text or "") for t in labels} <= {*range(1, NAME + 1)}
    assert all(6.1 * len(t.text or "") <= number(t, "x") for t in labels)
    assert all(0 <= number(r, "x") <= number(frame, "width") for r in elements(svg, "rect"))
    ticks = [number(t, "x") for t in elements(svg, "text") if t.get("class") is None][1:-1]
    assert all(right - left >= 18 for left, right in pairwise(ticks))
    assert max(number(r, "y") + number(r, "height") for r in elements(svg, "rect")) < number(frame, "height")


def test_long_names_keep_both_ends() -> None:
    """Blocks of a stage begin alike and those of the two calls end alike."""
    name = f"down_blocks.0.{'attentions.' * 9}5@unconditional"
    (label,) = (
        t for t in elements(picture(torch.zeros(2, 1).long(), [name]), "text") if t.get("class") == "name"
    )
    assert label.text is not None
    assert re.fullmatch(r"down_blocks\.0\..*\.\.\..*5@unconditional", label.text)
    assert len(label.text) == NAME
    assert label.findtext(SVG + "title") == name


def test_colours_differ_in_lightness_too() -> None:
    """What runs is dark and what is dead light, so that a grey print tells them from backups."""

    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2

    light = {state: lightness(colour) for state, colour in COLOURS.items()}
    assert {*COLOURS} == {*State}
    assert light[State.RUNS] < 0.5 * min(light[State.REPEATS], light[State.FORECASTS])
    assert light[State.DEAD] > 1.4 * max(light[State.REPEATS], light[State.FORECASTS])
