"""What commands read, and whether they may write: told before long work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dipgo_fx.cli.inputs import check_file_to_write, read_prompts


def lock(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a place seem read-only, also to root."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place.resolve())


def test_a_mark_at_the_beginning_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    """Some editors write one."""
    (tmp_path / "prompts.txt").write_text("\ufeffa fox\ntwo cats\n", encoding="utf-8")
    assert read_prompts(tmp_path / "prompts.txt") == ["a fox", "two cats"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in it may be, unless a draft is to lie beside it."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.touch()
    for file in (old, new):
        check_file_to_write(file, drafted=True)
    lock(tmp_path, monkeypatch)
    check_file_to_write(old)
    with pytest.raises(ValueError, match=r"--page must be a file that can be written, got .*new\.json"):
        check_file_to_write(new, "--page")
    with pytest.raises(ValueError, match="is read-only"):
        check_file_to_write(old, drafted=True)


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its folder can."""
    file = tmp_path / "old.json"
    file.touch()
    lock(file, monkeypatch)
    with pytest.raises(ValueError, match=r"--out must be a file that can be written, got .*old\.json"):
        check_file_to_write(file)
