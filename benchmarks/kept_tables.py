"""Tables of an earlier run, kept on a page of which only some parts are measured anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import Part, Table


@dataclass(frozen=True)
class KeptTable(Table):
    """A table as it stands on a page; it has no rows and no file of its own to write."""

    text: str = ""

    def markdown(self, level: int = 2) -> str:
        """Return the table as it was."""
        return self.text


def kept_tables(page: Path) -> dict[str, KeptTable]:
    """Return what stands under each heading of a page, by title; nothing where there is no page."""
    if not page.exists():
        return {}
    _, *sections = page.read_text(encoding="utf-8").split("\n## ")
    titles = [section.partition("\n")[0] for section in sections]
    return {
        title: KeptTable(title, (), text=f"## {section.rstrip()}\n")
        for title, section in zip(titles, sections, strict=True)
    }


def beside_earlier(page: Path, new: Sequence[Part]) -> list[Part]:
    """Return the tables of a page with new ones in place of those of the same title, or at the end."""
    parts: dict[str, Part] = {**kept_tables(page), **{part.title: part for part in new}}
    return list(parts.values())
