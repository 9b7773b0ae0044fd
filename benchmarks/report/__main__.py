"""The command line of `python -m benchmarks.report`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.command_line import CommandLine

from . import blocks


def main(argv: Sequence[str] | None = None) -> int:
    """Write the blocks, or with `--check` tell whether they are as the results say."""
    made = CommandLine(report.__doc__, {}, blocks.ROOT)
    made.add_argument("--check", action="store_true", help="write nothing, exit with 1 if text would change")
    options = made.read(argv)
    if options.check:
        differences = [line for page in blocks.PAGES for line in blocks.changes(page)]
        print("\n".join(differences) or "the text is what the results say")
        return int(bool(differences))
    for page in blocks.PAGES:
        write(options.out / page, blocks.filled(blocks.page_text(page)))
    return 0


def write(file: Path, text: str) -> None:
    """Write a page, in a folder that may be new."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
