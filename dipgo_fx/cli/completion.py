"""`dipgo-fx --print-completion`: a script for a shell, made by shtab."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")


class PrintCompletion(argparse.Action):
    """Prints what completes commands, options and files in a shell, and ends; shtab is imported here only."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, *_: Any) -> None:
        """Print the script. Raises `ValueError` where shtab is missing."""
        sys.stdout.write(f"{completion(parser, values)}\n")
        parser.exit()


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script that completes a parser's words in a shell."""
    try:
        shtab = importlib.import_module("shtab")
    except ModuleNotFoundError as error:
        raise ValueError("shell completion needs shtab: pip install 'dipgo-fx[completion]'") from error
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell)
    return script


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield what a parser takes, and what its commands do."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
