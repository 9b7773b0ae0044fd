"""The command line of `python -m benchmarks.real_size`."""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Iterator, Sequence

import torch

from benchmarks import real_size
from benchmarks.command_line import CommandLine
from benchmarks.kept_tables import beside_earlier
from benchmarks.speed.clocks import CLOCKS
from benchmarks.tables import Part, Table, write

from . import held, plots, searching
from .contestants import guided_offers, plain_offers
from .rows import merge_rows, read_rows, speed_section
from .speed import speed_rows
from .subjects import MODELS, Subject, name_of, size_of

PARTS = ("speed", "guidance", "memory", "search")
SMOKE = {
    "models": ["dit"],
    "guided": ["dit"],
    "layers": 4,
    "side": 8,
    "tokens": 7,
    "steps": 5,
    "rounds": 1,
    "memory_model": "dit",
    "memory_side": 8,
    "memory_steps": 5,
    "search_chunks": [1],
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(real_size.__doc__, SMOKE)
    made.add_models(MODELS)
    made.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        help="all if omitted; on a GPU all but the search",
    )
    made.add_argument("--guided", nargs="*", choices=MODELS, default=["dit", "sd15"])
    made.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the denoiser and pruned loops too, with CUDA graphs on a GPU; only there if omitted",
    )
    made.add_argument("--resume", action="store_true", help="leave out models that have rows")
    made.add_device()
    made.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    made.add_argument("--side", type=int, help="of the latents")
    made.add_argument("--layers", type=int, help="of a transformer, the real ones if omitted")
    made.add_argument("--tokens", type=int, help="of the text of SD3 and Flux")
    made.add_argument("--batch", type=int, default=1)
    made.add_argument("--steps", type=int, help="of the loops that are timed")
    made.add_argument("--rounds", type=int, help="of timing")
    made.add_argument(
        "--clock",
        choices=tuple(CLOCKS),
        help="of seconds: events on a GPU, else the wall's; the processor's where others share a CPU",
    )
    made.add_argument("--memory-model", choices=MODELS, default="sd15", help="whose steps are watched")
    made.add_argument("--memory-side", type=int, help="of the latents, that of the real images if omitted")
    made.add_argument("--memory-steps", type=int, default=5)
    made.add_argument(
        "--search-model", default="", help="whose search is measured, the first model if omitted"
    )
    made.add_argument("--search-chunks", type=int, nargs="*", default=[1, 2])
    made.add_argument("--search-side", type=int, help="of the latents, that of the real images if omitted")
    made.add_argument("--search-steps", type=int, default=4)
    made.add_argument("--search-samples", type=int, default=2)
    made.add_argument("--search-runs", type=float, default=4.0)
    made.add_argument("--search-guidance", type=float, help="without if omitted")
    made.add_argument("--search-of", type=json.loads, help="what a process of its own is to search")
    made.add_argument("--seed", type=int, default=0)
    options = made.read(argv)
    is_cuda = torch.device(options.device).type == "cuda"
    options.parts = options.parts or [part for part in PARTS if not (is_cuda and part == "search")]
    options.compile = is_cuda if options.compile is None else options.compile
    options.clock = options.clock or ("events" if is_cuda else "wall")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the asked parts and write the tables and the picture."""
    options = arguments(argv)
    torch.manual_seed(options.seed)
    if options.search_of:
        torch.set_num_threads(options.search_of["threads"])
        print(json.dumps(searching.searched(options.search_of)))
        return
    for key in options.models:
        measure_speed(key, options)
    rows = read_rows(options.out)
    if rows:
        plots.draw(rows, options.out)
    parts: list[Part] = [*speed_section(rows), *memory_tables(options), *search_tables(options)]
    found = beside_earlier(options.out / "real_size.md", parts)
    print(write("real_size", "At real size", found, options.out))


def measure_speed(key: str, options: argparse.Namespace) -> None:
    """Measure one model; its rows are written as they come, so that a run that stops loses little."""
    size = size_of(key, options)
    asked = {
        "speed": "speed" in options.parts,
        "guidance": "guidance" in options.parts and key in options.guided,
        "compile": options.compile,
    }
    about = (name_of(key, size), options.device, options.dtype)
    known = {(row["model"], row["device"], row["dtype"]) for row in read_rows(options.out)}
    if not any(asked.values()) or (options.resume and about in known):
        return
    subject = Subject.of(key, size, options)
    if asked["speed"]:
        merge_rows(options.out, speed_rows(subject, plain_offers(subject), size, options))
    if asked["guidance"]:
        guided = subject.guided()
        merge_rows(options.out, speed_rows(guided, guided_offers(guided), size, options))
        del guided
    if asked["compile"]:
        from .compiled import compile_rows

        for rows in compile_rows(subject, size, options):
            merge_rows(options.out, rows)
    del subject
    gc.collect()  # a loop and its model know each other


def memory_tables(options: argparse.Namespace) -> list[Table]:
    """Return what runs have alive by step."""
    if "memory" not in options.parts:
        return []
    summary, steps = held.held_rows(held.held_subject(options.memory_model, options))
    title, name = on_device("Memory of a run", "memory", options)
    return [
        Table(title, summary, held.NOTE, name),
        Table(f"{title} by step", steps, held.STEPS_NOTE, f"{name}-steps"),
    ]


def search_tables(options: argparse.Namespace) -> Iterator[Table]:
    """Yield what a search holds, and the computed size of its path."""
    if "search" in options.parts:
        rows = searching.search_rows(options.search_model or options.models[0], options)
        title, name = on_device("Memory of a search", "search", options)
        yield Table(title, rows, searching.NOTE, name)
    yield Table("The path of a search", searching.path_rows(), "Computed, not measured.", "path")


def on_device(title: str, name: str, options: argparse.Namespace) -> tuple[str, str]:
    """Return a table's title and file of a device; those of a CPU stand beside a GPU's."""
    is_cpu, device = options.device == "cpu", options.device
    return (title, name) if is_cpu else (f"{title} on {device}", f"{name}-{device.replace(':', '')}")


if __name__ == "__main__":
    main()
