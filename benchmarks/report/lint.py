"""Find figures that look measured where no block writes them."""

from __future__ import annotations

import re

from .blocks import BLOCK

UNITS = r"dB|%|×|[KMG]i?B|[GMT](?:MACs)?|m?s|seconds?|minutes?|hours?|times\s(?:as|faster|slower|more|less)"
FIGURE = re.compile(
    rf"""
    [\d.]*\d\s?(?:{UNITS})(?!\w)
    | (?:PSNR|SSIM|FID|KID)\b[^.|\n\d]{{0,30}}\d[\d.]*
    | (?<![\d.])\d{{2,3}}\.\d+(?![\d.])  # as PSNR and FID-like look
    | (?<![\d.])0\.\d{{3,}}  # as SSIM looks
    """,
    re.VERBOSE,
)


def loose_figures(text: str) -> list[str]:
    """Return figures that look measured and stand outside of blocks and code."""
    blank = re.compile(rf"{BLOCK.pattern}|```.*?```|`[^`]*`|<!--.*?-->|\]\([^)]*\)", re.DOTALL)
    return [match[0] for match in FIGURE.finditer(blank.sub(" ", text))]
