"""Strips have their images where noise and ratio say, as they are or made smaller, and only their pixels."""

from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from dipgo_fx.report_strips import LEAST_SIDE, MOST_COLUMNS, MOST_ROWS, MOST_SIDE, strips_table


def image(size: tuple[int, int] = (4, 3), seed: int = 0) -> Image.Image:
    """Return an image of any colours."""
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def drawn(images: Any, captions: Any = ()) -> ElementTree.Element:
    """Return the table and what is said below it."""
    return ElementTree.fromstring(f"<div>{''.join(strips_table(images, captions))}</div>")


def opened(element: ElementTree.Element) -> Image.Image:
    """Return what an image of a page holds."""
    kind, _, data = element.attrib["src"].partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(BytesIO(b64decode(data, validate=True)))


def cells(page: ElementTree.Element) -> list[list[str]]:
    """Return the texts of the table."""
    return [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]


def test_images_stand_by_ratio_and_noise() -> None:
    """Rows rise with the ratio whatever their order, columns are as given, pixels are the same."""
    images = {ratio: [image(seed=10 * row + n) for n in range(3)] for row, ratio in enumerate((0.6, 0, 0.25))}
    page = drawn(images, ["a hat", "a fox", "two cats"])
    head, *rows = page.iter("tr")
    assert ["".join(cell.itertext()) for cell in head] == [
        "MACs removed",
        "PSNR",
        "a hat",
        "a fox",
        "two cats",
    ]
    assert [row[0].text for row in rows] == ["0.0%", "25.0%", "60.0%"]
    for ratio, row in zip(sorted(images), rows, strict=True):
        for expected, found in zip(images[ratio], row.iter("img"), strict=True):
            assert np.array_equal(np.asarray(opened(found)), np.asarray(expected))
    last = rows[2][4][0]
    assert last.attrib["alt"] == last.attrib["title"] == "two cats, 60.0% of the MACs removed"


def test_a_row_has_its_psnr_to_the_unpruned_one() -> None:
    """Of all images together, by hand; there is none where the unpruned images are not given."""
    one, other = (Image.new("RGB", (2, 2), (shade,) * 3) for shade in (100, 110))
    same = {0: [one, one, one, one], 0.5: [other, one, one, one], 0.7: [one, one, one, one]}
    assert [row[1] for row in cells(drawn(same))] == [
        "PSNR",
        "equal",
        f"{10 * np.log10(255**2 / 25):.1f} dB",
        "equal",
    ]
    assert cells(drawn({0.5: [one], 0.7: [other]}))[0] == ["MACs removed", "sample 0"]


@given(width=st.integers(1, 700), height=st.integers(1, 700))
def test_images_are_neither_tiny_nor_large(width: int, height: int) -> None:
    """Small ones are enlarged by a whole number and stay what they are, large ones are made smaller."""
    (found,) = drawn({0.5: [Image.new("RGB", (width, height), (9, 99, 199))]}).iter("img")
    inside = opened(found)
    shown = int(found.attrib["width"]), int(found.attrib["height"])
    factor = shown[0] // inside.width
    assert shown == (factor * inside.width, factor * inside.height)
    assert LEAST_SIDE <= max(shown) < max(2 * LEAST_SIDE, MOST_SIDE + 1)
    assert inside.size == (width, height) if max(width, height) <= MOST_SIDE else factor == 1
    assert (np.asarray(inside) == (9, 99, 199)).all()


def test_a_page_has_a_bound() -> None:
    """As many rows and columns as can be looked at, the ends among the rows; the rest is told of."""
    images = {ratio / 100: [image(seed=n) for n in range(11)] for ratio in range(0, 90, 3)}
    page = drawn(images)
    _, *rows = page.iter("tr")
    assert len(rows) == MOST_ROWS
    assert (rows[0][0].text, rows[-1][0].text) == ("0.0%", "87.0%")
    assert {len([*row.iter("img")]) for row in rows} == {MOST_COLUMNS}
    assert "The first 8 of 11 images" in "".join(page.itertext())
    noise = {ratio / 12: [image((512, 512), n) for n in range(8)] for ratio in range(12)}
    assert len("".join(strips_table(noise, ()))) < 10e6


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_any_kind_are_drawn(mode: str) -> None:
    """As Pillow converts them."""
    given_image = image().convert(mode)
    (found,) = drawn({0: [given_image]}).iter("img")
    assert np.array_equal(np.asarray(opened(found)), np.asarray(given_image.convert("RGB")))


def test_pixels_alone_go_into_the_page() -> None:
    """No comment, no profile, no place of a photograph; a caption is text."""
    notes, file = PngImagePlugin.PngInfo(), BytesIO()
    notes.add_text("prompt", "secret")
    image().save(file, "PNG", pnginfo=notes, icc_profile=b"profile", exif=Image.Exif())
    script = "<script>alert('1')</script>\"&"
    page = "".join(strips_table({0: [Image.open(file)]}, [script]))
    assert "<script" not in page
    (found,) = ElementTree.fromstring(f"<div>{page}</div>").iter("img")
    assert found.attrib["alt"].startswith(script)
    assert opened(found).info == {}
    assert not re.findall(rb"tEXt|iCCP|eXIf", b64decode(found.attrib["src"].partition(",")[2]))
