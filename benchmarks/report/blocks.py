"""The blocks in the text, and the pages that have them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping

from benchmarks.tables import RESULTS

from . import (
    ablations,
    costs,
    coverage,
    elsewhere,
    enough,
    few_steps,
    frozen,
    glance,
    limits,
    projected,
    quality,
    real_size,
    trials,
)
from .words import listed

ROOT = RESULTS.parents[1]
PAGES = ("README.md", "dipgo_fx/GUIDE.md", "benchmarks/README.md")
BLOCKS: dict[str, Callable[[], str]] = {
    "price-of-use": glance.price,
    "behind": glance.behind,
    "beyond": glance.beyond,
    "coverage-counted": coverage.counted,
    "psnr": quality.psnr,
    "verdict": quality.verdict,
    "frechet": limits.frechet,
    "price": limits.price,
    "weak": limits.weak,
    "small": costs.small,
    "real-size": real_size.summary,
    "real-size-details": real_size.details,
    "real-size-table": real_size.table,
    "effort": limits.effort,
    "projected": projected.table,
    "seeds": quality.seeds,
    "likeness": quality.likeness,
    "lost-cells": quality.lost_cells,
    "held": quality.held,
    "few-steps": few_steps.table,
    "few-steps-summary": few_steps.summary,
    "elsewhere": elsewhere.table,
    "elsewhere-summary": elsewhere.summary,
    "enough": enough.table,
    "frozen": frozen.table,
    "frozen-summary": frozen.summary,
    "frozen-verdict": frozen.verdict,
    "recognised": limits.recognised,
    "searching": costs.searching,
    "quick-search": costs.quick_search,
    "coverage": coverage.coverage,
    "ablations": ablations.ablations,
    "choices": ablations.choices,
    "ways": ablations.ways,
    "trials": trials.trials,
}
BLOCK = re.compile(r"(<!-- report: (\S+) -->\n).*?(<!-- end report -->)", re.DOTALL)


def filled(text: str, blocks: Mapping[str, Callable[[], str]] = BLOCKS) -> str:
    """Return a text with its blocks written anew."""
    unknown = {name for _, name, _ in BLOCK.findall(text)} - set(blocks)
    if unknown:
        raise KeyError(
            f"there is no block named {listed(sorted(unknown))}; there are {listed(sorted(blocks))}"
        )
    return BLOCK.sub(lambda match: f"{match[1]}\n{blocks[match[2]]()}\n\n{match[3]}", text)


def page_text(page: str) -> str:
    """Return a page as it stands."""
    return (ROOT / page).read_text(encoding="utf-8")


def changes(page: str) -> list[str]:
    """Return the lines of a diff between a page and what the results make of it."""
    old = page_text(page)
    return list(
        difflib.unified_diff(old.splitlines(), filled(old).splitlines(), page, f"{page} from results")
    )
