"""Figures and lists as English and Markdown have them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable

WIDTH = 110


def percent(share: float, digits: int = 0) -> str:
    """Return a share as text."""
    return f"{100 * share:.{digits}f}%"


def span(values: Iterable[float], digits: int = 1) -> str:
    """Return the lowest and the highest value, or the one there is."""
    found = [f"{value:.{digits}f}" for value in sorted(values)]
    return found[0] if found[0] == found[-1] else f"{found[0]} to {found[-1]}"


def out_of(count: int, total: int) -> str:
    """Return a count as text."""
    return f"all {total}" if count == total else f"{count} of {total}"


def listed(words: Iterable[object]) -> str:
    """Return words as English lists them."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def sequence(values: Iterable[float]) -> str:
    """Return numbers as English lists them."""
    return listed(f"{value:.1f}" for value in values)


def bold(text: str, really: bool = True) -> str:
    """Return a text in bold, if it is to be."""
    return f"**{text}**" if really else text


def remarked(text: str, *remarks: str) -> str:
    """Return a text with those remarks that are not empty in brackets."""
    told = ", ".join(filter(None, remarks))
    return f"{text} ({told})" if told else text


def wrapped(text: str, hanging: str = "") -> str:
    """Break a text into lines."""
    return textwrap.fill(
        text, WIDTH, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )


def bullets(*sentences: Callable[[], str]) -> str:
    """Return a wrapped list."""
    return "\n".join(wrapped(f"* {sentence()}", "  ") for sentence in sentences)
