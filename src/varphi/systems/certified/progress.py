"""A bar on standard error for work that takes longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Takes how much of the work is done, 0 to 1.
Moved: TypeAlias = Callable[[float], None]
_QUIET = 2.0


@contextmanager
def bar(title: str, shown: bool) -> Iterator[Moved]:
    """Yields the function that is told how far the work is."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    drawing = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    task = drawing.add_task(title, total=1.0)
    start, running = time.perf_counter(), False

    def moved(share: float) -> None:
        nonlocal running
        if shown and console.is_terminal and not running and time.perf_counter() - start > _QUIET:
            drawing.start()
            running = True
        drawing.update(task, completed=share)

    try:
        yield moved
    finally:
        if running:
            drawing.stop()
