"""Small really trained models on the 8x8 digits of scikit-learn, for examples and tests."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = ("models", "pictures", "run")


def __getattr__(name: str) -> Any:
    """Import a module when it is first asked for: pictures and the run need extras."""
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
