"""What the installed diffusers has: classes of denoisers, of schedulers and of pipelines."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from types import ModuleType

import diffusers
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.models import transformers, unets

Classes = dict[str, type]


@cache
def pipeline_classes() -> Classes:
    """Return all pipelines by name, deprecated ones too."""
    return _classes(diffusers.pipelines, lambda cls: DiffusionPipeline in cls.__mro__[1:])


@cache
def denoiser_classes() -> Classes:
    """Return all models among diffusers' U-Nets and transformers by name."""
    found = [
        _classes(package, lambda cls: ModelMixin in cls.__mro__[1:]) for package in (transformers, unets)
    ]
    return {**found[0], **found[1]}


@cache
def scheduler_classes() -> Classes:
    """Return all schedulers that set timesteps and make steps by name."""
    return _classes(diffusers.schedulers, lambda cls: hasattr(cls, "step") and hasattr(cls, "set_timesteps"))


def _classes(package: ModuleType, is_wanted: Callable[[type], bool]) -> Classes:
    found: Classes = {}
    for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        try:
            module = importlib.import_module(entry.name)
        except (ImportError, RuntimeError):  # of a package that is not installed
            continue
        own = (cls for cls in vars(module).values() if inspect.isclass(cls) and cls.__module__ == entry.name)
        found |= {cls.__name__: cls for cls in own if is_wanted(cls)}
    return dict(sorted(found.items()))
