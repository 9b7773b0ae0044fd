"""Images side by side: where each lies, and titles that fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dipgo_fx.cli.pictures import GAP, LEAST_SIDE, LINE, draw_side_by_side

COLOURS = [[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (9, 9, 9)]]


@pytest.mark.parametrize("side", [16, 300])
def test_a_column_each_way_and_a_row_each_prompt(side: int, tmp_path: Path) -> None:
    """Small images are enlarged by whole factors; titles of any length and script are written."""
    columns = [
        (title * 60, [Image.new("RGB", (side, side), colour) for colour in colours])
        for title, colours in zip(("full", "画"), COLOURS, strict=True)
    ]
    draw_side_by_side(columns, ["a fox", "いぬ"], tmp_path / "picture")
    shown = side if side > LEAST_SIDE else LEAST_SIDE
    with Image.open(tmp_path / "picture") as picture:
        assert picture.size == (GAP + 2 * (shown + GAP), LINE + GAP + 2 * (shown + LINE + GAP))
        for column in range(2):
            for row in range(2):
                middle = (
                    GAP + column * (shown + GAP) + shown // 2,
                    LINE + GAP + row * (shown + LINE + GAP) + LINE + shown // 2,
                )
                assert picture.getpixel(middle) == COLOURS[column][row]
        edges = [picture.getpixel((x, y)) for x in (0, picture.width - 1) for y in range(picture.height)]
        assert set(edges) == {(255, 255, 255)}
