"""Images side by side in one PNG: a column each way of drawing them, a row each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LEAST_SIDE = 192
"""Images that are narrower than this many pixels are enlarged, so that their titles fit."""
GAP, LINE = 8, 16


def draw_side_by_side(
    columns: Sequence[tuple[str, Sequence[Image.Image]]], prompts: Sequence[str], file: Path
) -> None:
    """Write the picture.

    Args:
        columns: titles, and an image per prompt each, all of the same size.
        prompts: written above each row.
        file: PNG, whatever its name ends in.
    """
    first = columns[0][1][0]
    scale = -(-LEAST_SIDE // first.width)
    width, height = first.width * scale, first.height * scale
    across, down = width + GAP, height + LINE + GAP
    sheet = Image.new("RGB", (GAP + across * len(columns), LINE + GAP + down * len(prompts)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (title, images) in enumerate(columns):
        left = GAP + number * across
        _write(pen, (left, GAP // 2), title, width)
        for row, image in enumerate(images):
            enlarged = image.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left, LINE + GAP + row * down + LINE))
    for row, prompt in enumerate(prompts):
        _write(pen, (GAP, LINE + GAP + row * down), prompt, across * len(columns) - GAP)
    sheet.save(file, format="PNG")


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int) -> None:
    """Write one line, cut where it does not fit; what the font does not have becomes a question mark."""
    font = ImageFont.load_default()
    shown = text.encode("latin-1", "replace").decode("latin-1")
    while shown and pen.textlength(shown, font=font) > width:
        shown = shown[:-1]
    pen.text(place, shown, fill="black", font=font)
