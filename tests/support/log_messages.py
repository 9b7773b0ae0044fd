"""What the library logs, for properties: pytest's caplog lasts for a test, not for one of its examples."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def log_messages() -> Iterator[list[str]]:
    """Note what is logged inside."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("dipgo_fx")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
