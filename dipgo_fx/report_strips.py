"""The strips of images in a report: the same noise at several ratios, a row each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image

from .arguments import check
from .report_page import paragraph, png, spread, text

MOST_SIDE, LEAST_SIDE = 160, 80
"""Images with a longer side are made smaller; those with a shorter one are enlarged by a whole number."""
MOST_ROWS, MOST_COLUMNS = 12, 8
"""So that a page stays below ten megabytes, whatever it is given."""


def check_images(images: Any, captions: Any) -> None:
    """Raise `TypeError` or `ValueError` unless these are rows of like images, or `None`."""
    check("images", images, (Mapping, type(None)), "a mapping of ratios to images, or None")
    check("captions", captions, (list, tuple), "a list of texts")
    for caption in captions:
        check("each of captions", caption, str, "a text")
    if not images:
        return
    for ratio, row in images.items():
        check("each of images", ratio, Real, "a number, the share of MACs that is removed")
        if not 0 <= ratio < 1:
            raise ValueError(f"each of images is for a share of MACs removed, in [0, 1), got {ratio}")
        check(f"images[{ratio!r}]", row, (list, tuple), "a list of PIL images, as pipe(...).images is")
        for image in row:
            check(f"each of images[{ratio!r}]", image, Image.Image, "a PIL image")
    sizes = {ratio: [image.size for image in row] for ratio, row in images.items()}
    first = next(iter(sizes.values()))
    if not first or any(row != [first[0]] * len(first) for row in sizes.values()):
        raise ValueError(f"images must be equally many of one size for each ratio, got sizes {sizes}")
    if captions and len(captions) != len(first):
        raise ValueError(
            f"captions must be one for each of {len(first)} columns of images, got {len(captions)}"
        )


def strips_table(images: Mapping[float, Sequence[Image.Image]], captions: Sequence[str]) -> Iterator[str]:
    """Yield a table of images, from the lowest ratio to the highest, and what it shows.

    Args:
        images: equally many of one size for each ratio, at least one; those in a column share their noise.
        captions: what stands above the columns; their numbers if it is empty.
    """
    ratios = sorted(images)
    pixels = {ratio: [_pixels(image) for image in images[ratio]] for ratio in ratios}
    count = len(pixels[ratios[0]])
    columns = range(min(MOST_COLUMNS, count))
    names = [captions[n] if captions else f"sample {n}" for n in columns]
    unpruned = pixels[ratios[0]] if ratios[0] == 0 else None
    width = _shown(images[ratios[0]][0])[1]
    heads = [f'<div style="width: {width}px">{text(name)}</div>' for name in names]
    lines = [_line("th", ["MACs removed"], "" if unpruned is None else "PSNR", heads)]
    for ratio in (ratios[n] for n in spread(len(ratios), MOST_ROWS)):
        removed = f"{ratio:.1%}"
        score = "" if unpruned is None else _decibel(pixels[ratio], unpruned)
        shown = [_image(images[ratio][n], f"{names[n]}, {removed} of the MACs removed") for n in columns]
        lines.append(_line("td", [removed], score, shown))
    yield f'<div class="wide"><table class="strips"><tbody>{"".join(lines)}</tbody></table></div>'
    few = "" if count <= MOST_COLUMNS else f"The first {MOST_COLUMNS} of {count} images. "
    score = "" if unpruned is None else "PSNR is that of all images of a row to the unpruned ones. "
    yield paragraph(f"{few}Images in a column begin with the same noise. {score}")


def _line(cell: str, label: Sequence[str], score: str, others: Any) -> str:
    numbers = [*label, score] if score else label
    first = "".join(f'<{cell} class="number">{words}</{cell}>' for words in numbers)
    return f"<tr>{first}{''.join(f'<{cell}>{other}</{cell}>' for other in others)}</tr>\n"


def _pixels(image: Image.Image) -> Any:
    return np.asarray(image.convert("RGB"))


def _decibel(pixels: Sequence[Any], unpruned: Sequence[Any]) -> str:
    """Return the PSNR of 8-bit images, all together."""
    error = float(np.square(np.stack(pixels).astype(float) - np.stack(unpruned)).mean())
    return "equal" if error == 0 else f"{10 * math.log10(255**2 / error):.1f} dB"


def _shown(image: Image.Image) -> tuple[Image.Image, int, int]:
    """Return an image as it lies in the page, and how wide and how high it is shown."""
    image = image.convert("RGB")
    image.thumbnail((MOST_SIDE, MOST_SIDE), Image.Resampling.LANCZOS)
    factor = max(1, -(-LEAST_SIDE // max(image.size)))
    return image, factor * image.width, factor * image.height


def _image(image: Image.Image, words: str) -> str:
    inside, width, height = _shown(image)
    address, said = png(np.asarray(inside)), text(words)
    return f'<img src="{address}" width="{width}" height="{height}" alt="{said}" title="{said}"/>'
