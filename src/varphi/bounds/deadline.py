"""A time at which long work on bounds stops: between nodes, and between steps of an attack."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)


class OutOfTime(Exception):
    """The deadline has passed; nothing was found out."""


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Work inside raises OutOfTime once `time.monotonic()` is past the deadline."""
    token = _DEADLINE.set(deadline)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def check_deadline() -> None:
    """Raise OutOfTime if the deadline has passed."""
    if time.monotonic() > _DEADLINE.get():
        raise OutOfTime
