"""Which tiny pipeline can have which scheduler."""

from __future__ import annotations

import warnings
from functools import cache, partial
from typing import Any

from diffusers import DiffusionPipeline

from .pipelines import PIPELINES
from .subject import Subject

HOSTS = ("sd", "sd3", "cogvideox", "lcm", "sana-sprint", "wan")
"""Pipelines that take schedulers other than their own: noise prediction, flow matching and more."""


class NoHost(ValueError):
    """No tiny pipeline runs with a scheduler."""


def host_of(scheduler: type) -> Subject:
    """Return a tiny pipeline with a scheduler: one that has it, else the first that runs with it.

    Raises `NoHost` if none does.
    """
    own = next((key for key in PIPELINES if _scheduler_of(key) is scheduler), None)
    if own is not None:
        return Subject.of(own)
    for key in HOSTS:
        subject = Subject.of(key, build=partial(_with, key, scheduler))
        if _runs(subject):
            return subject
    raise NoHost("no tiny pipeline runs with it")


@cache
def _scheduler_of(key: str) -> type:
    return type(getattr(PIPELINES[key].build(), "scheduler", None))


def _with(key: str, scheduler: Any) -> DiffusionPipeline:
    pipe: Any = PIPELINES[key].build()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    return pipe  # type: ignore[no-any-return]


def _runs(subject: Subject) -> bool:
    """Tell whether a pipeline runs and gives finite values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(subject.run(subject.build()).isfinite().all())
    except Exception:
        return False
