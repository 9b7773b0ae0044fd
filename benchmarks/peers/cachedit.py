"""cache-dit: all blocks after the first n of a transformer are repeated at some steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from .core import Method, Setting, Stage, Task

CALIBRATORS = ("none", "Taylor 1", "Taylor 2", "Taylor 3", "Taylor 4", "DMD 4", "DMD 5", "DMD 6", "FoCa")
PRESETS = ("slow", "medium", "fast", "ultra")
THRESHOLDS = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32, 0.5, 0.7, 1.0, 1.5, 3.0)


def mask_settings(task: Task) -> Iterator[Setting]:
    """Yield the package's presets and evenly spread steps, with each way to forecast the residual."""
    import cache_dit

    masks: dict[Any, list[int]] = {}
    for preset in PRESETS:
        masks[preset] = cache_dit.steps_mask(total_steps=task.steps, mask_policy=preset)
    for count in range(1, task.steps):
        computed = {index * task.steps // count for index in range(count)}
        masks[f"{count} of {task.steps}"] = [int(step in computed) for step in range(task.steps)]
    for calibrator in CALIBRATORS:
        for name, mask in masks.items():
            yield Setting({"mask": name, "calibrator": calibrator}, mask)


def install_mask(stage: Stage, setting: Setting) -> None:
    """Enable a static mask over steps with one leading block."""
    policy = {"steps_computation_mask": setting.data, "steps_computation_policy": "static"}
    _install(stage, setting.knobs["calibrator"], Fn_compute_blocks=1, Bn_compute_blocks=0, **policy)


def dynamic_settings(task: Task) -> Iterator[Setting]:
    """Yield thresholds on the first blocks' residual, with little and more warm-up."""
    for warmup in (1, max(2, task.steps // 5)):
        for calibrator in CALIBRATORS:
            for threshold in THRESHOLDS:
                yield Setting({"threshold": threshold, "warmup": warmup, "calibrator": calibrator})


def install_dynamic(stage: Stage, setting: Setting) -> None:
    """Enable the dual block cache with one leading block."""
    _install(
        stage,
        setting.knobs["calibrator"],
        Fn_compute_blocks=1,
        Bn_compute_blocks=0,
        residual_diff_threshold=setting.knobs["threshold"],
        max_warmup_steps=setting.knobs["warmup"],
    )


def _install(stage: Stage, calibrator: str, **options: Any) -> None:
    import cache_dit

    _silence()
    config = cache_dit.DBCacheConfig(
        **options, num_inference_steps=len(stage.scheduler.timesteps), enable_separate_cfg=False
    )
    cache_dit.enable_cache(stage.model, cache_config=config, calibrator_config=_calibrator(calibrator))


def _calibrator(name: str) -> Any:
    """Return the config of what forecasts the residual; a DMD's number is that of snapshots it fits."""
    import cache_dit

    kind, _, number = name.partition(" ")
    if kind == "Taylor":
        return cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=int(number))
    if kind == "DMD":
        return cache_dit.DMDCalibratorConfig(dmd_history=int(number))
    return cache_dit.FoCaCalibratorConfig() if kind == "FoCa" else None


def _silence() -> None:
    for name in list(logging.root.manager.loggerDict):
        if name.lower().startswith("cache_dit"):
            logging.getLogger(name).setLevel(logging.ERROR)


CACHE_DIT_MASK = Method("cache-dit SCM", "cache-dit", mask_settings, install_mask)
CACHE_DIT_DYNAMIC = Method("cache-dit DBCache", "cache-dit", dynamic_settings, install_dynamic)
