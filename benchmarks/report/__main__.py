"""The command line of `python -m benchmarks.report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import report

from . import blocks


def main(argv: Sequence[str] | None = None) -> int:
    """Write the blocks, or with `--check` tell whether they are as the results say."""
    parser = argparse.ArgumentParser(
        description=report.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit with 1 if text would change"
    )
    options = parser.parse_args(argv)
    if options.check:
        differences = [line for file in blocks.FILES for line in blocks.changes(file)]
        print("\n".join(differences) or "the text is what the results say")
        return int(bool(differences))
    for file in blocks.FILES:
        file.write_text(blocks.filled(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
