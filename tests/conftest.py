"""What tests share: one thread, repeatable properties, no network, no display; what needs newer packages."""

import os
import sys
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from packaging.version import Version

# For `import benchmarks`. Appended, not prepended: the installed dipgo_fx has to win over the folder here.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# Read when diffusers and matplotlib are imported, which no conftest does.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# Models here are too small to share among threads; another number shows what hangs on how sums are split.
torch.set_num_threads(int(os.environ.get("DIPGO_FX_THREADS", "1")))

settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("ci")

# -- with older packages, see .github/lowest.txt

NEEDS = {
    "test_group_offloading": ("diffusers", "0.41", "groups are offloaded from accelerators only"),
    "test_groups_whose_hook_never_runs": ("diffusers", "0.41", "groups are offloaded from accelerators only"),
    "test_a_split_plan_is_refused_where_two": ("diffusers", "0.42", "no pipeline has two denoisers a step"),
    "[qwenimage]": ("diffusers", "0.42", "masks of prompts of several lengths fail in the pipeline itself"),
    "test_a_model_that_never_ran": ("diffusers", "0.42", "they fail in the same pipeline"),
    "test_steered_halves": ("transformers", "5", "CLIP's mask overflows in float64"),
    "test_split_guidance_is_the_same": ("transformers", "5", "CLIP's mask overflows in float64"),
    "test_guidance_that_ends_early": ("transformers", "5", "CLIP's mask overflows in float64"),
}
"""Tests by a part of their names that fail in an older package, whatever dipgo_fx does."""

# The benchmarks call caches of diffusers by names that came with 0.41.
collect_ignore = (
    ["benchmarks", "test_importers.py"] if Version(version("diffusers")) < Version("0.41") else []
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the installed packages are too old for."""
    for item in items:
        for part, (package, needed, reason) in NEEDS.items():
            if part in item.nodeid and Version(version(package)) < Version(needed):
                item.add_marker(pytest.mark.skip(reason=f"before {package} {needed} {reason}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip a test that needs a tiny pipeline which diffusers or transformers is too old for."""
    try:
        return (yield)
    except ImportError as error:
        if type(error).__name__ == "TooOldError":  # not imported here: it would import all of diffusers
            pytest.skip(str(error))
        raise
