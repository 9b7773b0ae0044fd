"""Heat maps have the colours of their values where their steps are."""

from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dipgo_fx.report_maps import MOST, SIDE, VIRIDIS, colours, maps_pictures

SVG = "{http://www.w3.org/2000/svg}"
STEPS = st.sampled_from([1, 2, 5, 20, 250])


def similarity(steps: int, seed: int = 0) -> torch.Tensor:
    """Return cosines between steps."""
    vectors = torch.randn(steps, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    unit = torch.nn.functional.normalize(vectors, dim=1)
    return (unit @ unit.T).clamp(-1, 1).fill_diagonal_(1)


def pictures(maps: dict[str, torch.Tensor], runs: Any = None) -> list[ElementTree.Element]:
    """Return the maps that are drawn, and the legend."""
    return list(
        ElementTree.fromstring(f"<div>{''.join(maps_pictures(maps, runs or {}))}</div>").iter(SVG + "svg")
    )


def pixels(picture: ElementTree.Element) -> Any:
    """Return what the only image in a picture shows."""
    (image,) = picture.iter(SVG + "image")
    kind, _, data = image.attrib["href"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(BytesIO(b64decode(data, validate=True))) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened.convert("RGB"))


@given(steps=STEPS, seed=st.integers(0, 99))
def test_a_cell_has_the_colour_of_its_value(steps: int, seed: int) -> None:
    """The first of two steps goes to the right, the other one up: what is not symmetric would show."""
    values = torch.rand(steps, steps, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    drawn = pixels(pictures({"a": values})[0])
    size = drawn.shape[0] // steps
    assert drawn.shape == (size * steps, size * steps, 3)
    low = min(float(values.min()), 1 - 1e-6)
    assert (drawn.reshape(steps, size, steps, size, 3) == drawn[::size, None, ::size, None]).all()
    assert np.array_equal(drawn[::-size, ::size], colours(values.numpy(), low))


def test_all_maps_have_one_scale() -> None:
    """From the lowest value of all of them to 1; equal values look equal."""
    maps = {"a": torch.tensor([[1, 0.5], [0.5, 1.0]]), "b": torch.tensor([[1, -0.25], [-0.25, 1.0]])}
    first, other, legend = map(pixels, pictures(maps))
    assert tuple(first[-1, 0]) == tuple(other[-1, 0]) == rgb(VIRIDIS[-1])
    assert tuple(other[0, 0]) == rgb(VIRIDIS[0])
    assert tuple(first[0, 0]) == tuple(colours(0.5, -0.25))
    assert tuple(legend[0, 0]) == rgb(VIRIDIS[-1])
    assert tuple(legend[-1, 0]) == rgb(VIRIDIS[0])
    scale = [t.text for t in pictures(maps)[-1].iter(SVG + "text")]
    assert scale == ["cosine", "1.00", "0.38", "-0.25"]


def rgb(colour: str) -> tuple[int, ...]:
    """Return the three numbers of a colour."""
    return tuple(int(colour[i : i + 2], 16) for i in (0, 2, 4))


@pytest.mark.parametrize("low", [1 - 1e-6, 1 - 3e-4, 0.99, 0.5, 0.0, -1.0])
def test_the_scale_tells_its_ends_and_its_middle_apart(low: float) -> None:
    """Numbers of like values are as long as that takes."""
    values = torch.tensor([[1, low], [low, 1]], dtype=torch.float64)
    _, *scale = (t.text or "" for t in pictures({"a": values})[-1].iter(SVG + "text"))
    top, middle, bottom = map(float, scale)
    assert top == 1 > middle > bottom == pytest.approx(low, abs=0.06 * (1 - low))
    assert middle == pytest.approx((1 + low) / 2, abs=0.06 * (1 - low))


def test_colours_get_lighter_all_the_way() -> None:
    """So they are told apart in grey print, and by eyes that do not see all hues."""
    shades = colours(np.linspace(-1, 1, 101), -1) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(shades) > 0).all()


@given(steps=STEPS, count=st.integers(1, 70))
def test_a_few_blocks_stand_for_many(steps: int, count: int) -> None:
    """The first and the last are among them, all have names, and nothing lies outside of its picture."""
    maps = {f"layers.{n}": similarity(steps, n) for n in range(count)}
    *drawn, _ = pictures(maps)
    assert len(drawn) == min(count, MOST)
    names = [next(picture.iter(SVG + "text")).text for picture in drawn]
    assert names == sorted(names, key=lambda name: int((name or "").partition(".")[2]))
    assert len({*names}) == len(names)
    assert (names[0], names[-1]) == ("layers.0", f"layers.{count - 1}")
    said = "".join(maps_pictures(maps, {}))
    assert (f"{MOST} of {count} blocks" in said) == (count > MOST)
    for picture in drawn:
        for label in picture.iter(SVG + "text"):
            assert 0 <= float(label.attrib["x"]) <= float(picture.attrib["width"])
            assert 0 <= float(label.attrib["y"]) <= float(picture.attrib["height"])


def test_a_map_says_how_alike_neighbours_are() -> None:
    """And in words what it shows, for those who do not see it."""
    values = torch.tensor([[1, 0.9, 0.2], [0.9, 1, 0.8], [0.2, 0.8, 1.0]])
    drawn, _ = pictures({"proj": values})
    assert "neighbours 0.850" in [t.text for t in drawn.iter(SVG + "text")]
    words = "proj: cosine between steps, 0.2 to 1, neighbours 0.850"
    assert drawn.attrib["aria-label"] == drawn.findtext(SVG + "title") == words


def test_the_call_of_guidance_has_a_line_of_its_own() -> None:
    """So that what tells blocks apart is not cut."""
    name = "down_blocks.0.attentions.1@unconditional"
    drawn, _ = pictures({name: similarity(3)})
    labels = {t.text: float(t.attrib["y"]) for t in drawn.iter(SVG + "text") if t.get("class") == "name"}
    assert {*labels} == {"down_blocks.0.attentions.1", "@unconditional"}
    assert labels["@unconditional"] - labels["down_blocks.0.attentions.1"] == 12


def test_bars_stand_below_the_steps_that_run() -> None:
    """Of the blocks that the plan knows."""
    maps = {"a": similarity(10), "b": similarity(10)}
    known, unknown, _ = pictures(maps, {"a": [0, 1, 7]})
    (bars,) = (p for p in known.iter(SVG + "path") if p.get("class") == "runs")
    (image,) = known.iter(SVG + "image")
    starts = [float(x) for x in re.findall(r"M(\S+) ", bars.attrib["d"])]
    left, cell = float(image.attrib["x"]), SIDE / 10
    assert [int((start - left) / cell) for start in starts] == [0, 1, 7]
    assert not list(unknown.iter(SVG + "path"))
    assert "Bars" in "".join(maps_pictures(maps, {"a": [0]}))
    assert "Bars" not in "".join(maps_pictures(maps, {}))


def test_a_strangers_name_is_text() -> None:
    """A block called like a script adds no element to the page."""
    script = "</text><script>alert('1')</script>\""
    said = "".join(maps_pictures({script: similarity(3)}, {}))
    assert "<script" not in said
    drawn, _ = pictures({script: similarity(3)})
    assert (drawn.findtext(SVG + "title") or "").startswith(f"{script}: cosine")
    assert {e.tag for e in drawn.iter()} == {SVG + kind for kind in ("svg", "title", "text", "image")}
