"""A time at which long work on bounds stops: between nodes, steps of an attack, and parts of a text that is read."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
# So many small things take some milliseconds.
_OFTEN = 4096
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


def in_time(items: Iterable[T]) -> Iterator[T]:
    """Many small things, with a look at the clock now and then."""
    for i, item in enumerate(items):
        if i % _OFTEN == 0:
            check_deadline()
        yield item
