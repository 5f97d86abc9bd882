"""Loggers of other packages, held back while we say in our own words what happens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet(level: int, *names: str) -> Iterator[None]:
    """Let nothing below a level out of some loggers and those under them, until the block ends.

    Args:
        level: Of the standard library's `logging`.
        names: The loggers. One under them that has a level of its own keeps it.
    """
    found = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, was in zip(found, before, strict=True):
            logger.setLevel(was)
