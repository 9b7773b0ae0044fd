"""The command line `dipgo-fx`: it parses, runs a command and prints its answer or one line about an error.

What each command needs is imported when it runs: `--help` and typing errors do not wait for torch.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence

from .answer import Answer
from .parser import UsageError, parser

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses; the last is what shells give to what Ctrl-C ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.

    Whatever goes wrong is one line on standard error, with `--debug` below a traceback.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = "dipgo-fx"
    try:
        options = parser().parse_args(given)
        command = f"dipgo-fx {options.command}"
        answer: Answer | None = importlib.import_module(f".{options.command}", __package__).run(options)
        if answer is not None:
            sys.stdout.write(f"{_printed(answer, options.json)}\n")
            sys.stdout.flush()
        return DONE
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    except BrokenPipeError:  # whoever read the answer has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush fails, too
        return DONE
    except KeyboardInterrupt:
        sys.stderr.write(f"{command}: interrupted\n")
        return INTERRUPTED
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        # PlanError is a ValueError, and so is what the library says of arguments; TraceError is not.
        is_bad_input = isinstance(error, (ValueError, TypeError, OSError))
        kind = "" if is_bad_input else f"{type(error).__name__}: "
        sys.stderr.write(f"{command}: {kind}{_in_one_line(error)}\n")
        return BAD_INPUT if is_bad_input else FAILED


def _printed(answer: Answer, as_json: bool) -> str:
    return json.dumps(answer.values, indent=1, allow_nan=False) if as_json else answer.text


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
