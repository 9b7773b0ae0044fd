"""Settings that are tried one knob after the other, each on the best so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from .core import Setting
from .curve import Outcome

Knobs = Mapping[str, Any]
Made = Callable[[Knobs], Setting]


def staged(start: Knobs, stages: Sequence[Sequence[Knobs]], made: Made) -> Generator[Setting, Outcome, Knobs]:
    """Yield for each stage the best setting so far with each of the stage's changes.

    Args:
        start: the knobs to begin with.
        stages: the changes to try in each.
        made: returns the setting of some knobs.

    Returns the best knobs. A setting is not tried twice, and one that fails is never the best.
    """
    best, most, known = dict(start), -math.inf, set[str]()
    for changes in stages:
        for knobs in [{**best, **change} for change in changes]:
            if str(knobs) in known:
                continue
            known.add(str(knobs))
            outcome = yield made(knobs)
            if not outcome.error and outcome.psnr > most:
                best, most = knobs, outcome.psnr
    return best
