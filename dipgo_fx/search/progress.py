"""When a search shows its progress bar: not in a file, where it would be one endless line."""

from __future__ import annotations

from tqdm import auto, std

IN_NOTEBOOK = auto.notebook_tqdm is not std.tqdm


def hidden(progress: bool) -> bool | None:
    """Return what tqdm calls `disable`; `None` hides a bar whose output is no terminal."""
    return (False if IN_NOTEBOOK else None) if progress else True
