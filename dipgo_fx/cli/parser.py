"""The options of every command. It imports nothing that takes time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from .completion import SHELLS, PrintCompletion

FOLDER = "folder of a diffusers pipeline, as pipe.save_pretrained() writes it; nothing is downloaded"
PLAN = "plan file, or a folder with a plan.json"
PROMPTS = "file with one prompt a line"
STATUSES = "Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."


class UsageError(Exception):
    """Arguments that no command takes; the message is one line."""


class _Parser(argparse.ArgumentParser):
    """A parser that raises `UsageError` instead of printing and leaving.

    Attributes:
        gathers: the positional that takes words wherever they stand; argparse gives one run of them to it,
            which may be none or end at an option, and would refuse those after the option.
    """

    gathers: argparse.Action | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse as argparse does, and give what it leaves over to what gathers words."""
        found, left = super().parse_known_args(args, namespace)
        words = _words_of(left)
        if self.gathers is None or not words:
            return found, left
        kind: Any = self.gathers.type or str
        setattr(found, self.gathers.dest, [*getattr(found, self.gathers.dest), *map(kind, words)])
        return found, []

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message} (see {self.prog} --help)")


def _words_of(left: list[str]) -> list[str]:
    """Return words that were left over but for a `--`, or none if an option is among them."""
    end = left.index("--") if "--" in left else len(left)
    if any(word.startswith("-") and word != "-" for word in left[:end]):
        return []
    return left[:end] + left[end + 1 :]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; `command` in what it parses says which command is asked for."""
    top = _Parser(
        prog="dipgo-fx",
        description="Prune diffusion sampling loops.",
        epilog=STATUSES,
        allow_abbrev=False,  # also below: what is short today may mean two options tomorrow
    )
    top.add_argument(
        "--print-completion",
        choices=SHELLS,
        action=PrintCompletion,
        help="print a script that completes commands in a shell, for pip install 'dipgo-fx[completion]'",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    _add_prune(commands)
    _add_run(commands)
    _add_compare(commands)
    _add_report(commands)
    _add_macs(commands)
    _add_show(commands)
    _add_demo(commands)
    return top


def _add(commands: argparse._SubParsersAction[_Parser], name: str, does: str, example: str) -> _Parser:
    """Add a command with what all commands take."""
    command = commands.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--quiet", action="store_true", help="show no progress bars")
    command.add_argument("--debug", action="store_true", help="show where an error came from")
    return command


def _add_json(command: _Parser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _add_pipeline(command: _Parser) -> None:
    """Add what loads a pipeline."""
    command.add_argument("--device", help="torch device (default: cuda if there is one, else cpu)")
    command.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="precision (default: bfloat16 on cuda, else float32)",
    )


def _add_call(command: _Parser) -> None:
    """Add what a pipeline is called with under a plan."""
    command.add_argument("--steps", type=int, help="num_inference_steps (default: the plan's)")
    _add_guidance_and_seed(command)


def _add_size(command: _Parser) -> None:
    """Add what size of images a loop is recorded for."""
    for side in ("height", "width"):
        command.add_argument(f"--{side}", type=int, help="of the images (default: the pipeline's)")


def _add_guidance_and_seed(command: _Parser) -> None:
    command.add_argument(
        "--guidance", type=float, help="guidance_scale (default: the plan's, else the pipeline's)"
    )
    command.add_argument(
        "--seed", type=int, default=0, help="of the first image, the next ones count on (default: 0)"
    )


def _add_prune(commands: argparse._SubParsersAction[_Parser]) -> None:
    example = "dipgo-fx prune ./sd15 --prompts prompts.txt --ratio 0.8 --steps 50 --out sd15-0.8.json"
    prune = _add(commands, "prune", "search a plan for a pipeline and write it to a file", example)
    prune.add_argument("folder", type=Path, help=FOLDER)
    prune.add_argument(
        "--prompts", type=Path, metavar="FILE", help=f"{PROMPTS} (default: those that come with dipgo_fx)"
    )
    prune.add_argument("--ratio", type=float, default=0.8, help="share of MACs to remove, in [0, 1)")
    prune.add_argument("--steps", type=int, help="num_inference_steps (default: the pipeline's)")
    prune.add_argument("--guidance", type=float, help="guidance_scale (default: the pipeline's)")
    _add_size(prune)
    prune.add_argument("--samples", type=int, help="samples that the search goes by (default: 48)")
    prune.add_argument(
        "--full-runs", type=float, help="what it may spend, in unpruned runs of the samples (default: 24)"
    )
    prune.add_argument("--seed", type=int, default=0, help="the same seed gives the same plan (default: 0)")
    prune.add_argument("--out", type=Path, default=Path("plan.json"), help="plan file (default: plan.json)")
    prune.add_argument(
        "--journal",
        type=Path,
        metavar="FILE",
        help="notes what the search measures: the same command goes on where one was stopped",
    )
    prune.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="HTML page of the plan, as the report command writes it, for some 24 images more",
    )
    _add_pipeline(prune)
    _add_json(prune)


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    example = 'dipgo-fx run ./sd15 sd15-0.8.json "a red bicycle" "two cats" --seed 7 --out images'
    run = _add(commands, "run", "draw images with a pipeline that runs by a plan", example)
    run.add_argument("folder", type=Path, help=FOLDER)
    run.add_argument("plan", type=Path, help=PLAN)
    run.gathers = run.add_argument("prompt", nargs="*", help="what to draw")
    run.add_argument("--prompts", type=Path, metavar="FILE", help=f"{PROMPTS}, drawn too")
    _add_call(run)
    run.add_argument("--ratio", type=float, help="another share of MACs to remove, from the plan's frontier")
    run.add_argument("--compile", action="store_true", help="compile each distinct step with torch.compile")
    run.add_argument("--out", type=Path, default=Path("images"), help="folder of images (default: images)")
    _add_pipeline(run)
    _add_json(run)


def _add_compare(commands: argparse._SubParsersAction[_Parser]) -> None:
    example = "dipgo-fx compare ./sd15 sd15-0.8.json sd15-0.5.json --prompts prompts.txt --out compare.png"
    does = "compare plans with the full pipeline: MACs, seconds an image, PSNR, and a picture"
    compare = _add(commands, "compare", does, example)
    compare.add_argument("folder", type=Path, help=FOLDER)
    compare.gathers = compare.add_argument("plans", type=Path, nargs="+", metavar="plan", help=PLAN)
    compare.add_argument(
        "--prompts", type=Path, metavar="FILE", help=f"{PROMPTS} (default: the last 4 of dipgo_fx's own)"
    )
    _add_call(compare)
    compare.add_argument(
        "--compile", action="store_true", help="compile the plans' steps; full stays as it is"
    )
    compare.add_argument(
        "--out",
        type=Path,
        default=Path("compare.png"),
        help="PNG, images side by side (default: compare.png)",
    )
    _add_pipeline(compare)
    _add_json(compare)


def _add_report(commands: argparse._SubParsersAction[_Parser]) -> None:
    example = "dipgo-fx report ./sd15 sd15-0.8.json --prompts prompts.txt --out report.html"
    does = "write a page of a plan: images at several ratios, what runs when, how alike steps are"
    report = _add(commands, "report", does, example)
    report.add_argument("folder", type=Path, help=FOLDER)
    report.add_argument("plan", type=Path, help=PLAN)
    report.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help=f"{PROMPTS}, the last 4 are drawn (default: dipgo_fx's own)",
    )
    _add_guidance_and_seed(report)
    report.add_argument(
        "--out", type=Path, default=Path("report.html"), help="HTML, one file (default: report.html)"
    )
    report.set_defaults(steps=None)  # the plan's own
    _add_pipeline(report)
    _add_json(report)


def _add_macs(commands: argparse._SubParsersAction[_Parser]) -> None:
    example = "dipgo-fx macs sd15-0.8.json\n  dipgo-fx macs ./sd15 --steps 50"
    does = "count the MACs of a plan, by step, or of a pipeline's denoiser, for a step and the loop"
    macs = _add(commands, "macs", does, example)
    macs.add_argument("source", type=Path, help=f"{PLAN}; or {FOLDER}")
    macs.add_argument("--steps", type=int, help="of a pipeline (default: its own)")
    macs.add_argument("--guidance", type=float, help="of a pipeline (default: its own)")
    _add_size(macs)
    _add_pipeline(macs)
    _add_json(macs)


def _add_show(commands: argparse._SubParsersAction[_Parser]) -> None:
    does = "print a plan file as a table of steps and blocks"
    show = _add(commands, "show", does, "dipgo-fx show sd15-0.8.json")
    show.add_argument("plan", type=Path, help=PLAN)
    _add_json(show)


def _add_demo(commands: argparse._SubParsersAction[_Parser]) -> None:
    does = "prune the shipped digits model and compare it with the alternatives"
    demo = _add(commands, "demo", does, "dipgo-fx demo --model unet --ratio 0.7 --out digits")
    demo.add_argument("--model", choices=("dit", "unet"), default="dit")
    demo.add_argument("--ratio", type=float, default=0.8, help="share of MACs to remove, in [0, 1)")
    demo.add_argument("--steps", type=int, default=20, help="DDIM steps")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--out", type=Path, default=Path("dipgo-fx-demo"), help="folder for plan and pictures")
    demo.add_argument("--no-progress", action="store_true", help="as --quiet")
    demo.set_defaults(json=False)
