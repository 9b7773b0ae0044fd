"""List the scripts: `python -m benchmarks`."""

import ast
from importlib.util import find_spec
from pathlib import Path

SCRIPTS = (
    "quality",
    "ablations",
    "factorial",
    "peers",
    "search_cost",
    "search_runs",
    "step_counts",
    "macs",
    "coverage",
    "enabled",
    "speed",
    "compiling",
    "real_size",
    "report",
    "train_digits",
    "reference.data",
    "reference.train",
    "reference.distil",
    "reference.samples",
    "reference.features",
)


def about(script: str) -> str:
    """Return the first line of a script's docstring; the script is not imported."""
    spec = find_spec(f"benchmarks.{script}")
    assert spec is not None
    assert spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0]


if __name__ == "__main__":
    for script in SCRIPTS:
        print(f"python -m benchmarks.{script:<20}{about(script)}")
