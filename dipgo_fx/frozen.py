"""A model in evaluation mode, and without gradients, for as long as something is counted or searched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

DROPOUT = nn.modules.dropout._DropoutNd
logger = logging.getLogger(__name__)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and back as it was."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode without parameter gradients, and back as it was."""
    if any(isinstance(module, DROPOUT) and module.training and module.p for module in model.modules()):
        logger.warning(
            "%s drops values at random, as it is in training mode; a search looks at it in evaluation mode: "
            "call model.eval() before its plan runs",
            type(model).__name__,
        )
    wanted = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        with evaluating(model):
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
