"""Random numbers that a run draws in passing, kept from the generators of whoever called."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def own_draws(device: torch.device) -> AbstractContextManager[None]:
    """Return a context after which the global generators of the host and of `device` are as before."""
    if device.type in ("cpu", "meta"):
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)
