"""A bar on standard error for work that takes longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_QUIET = 2.0


@contextmanager
def bar(title: str, total: int, shown: bool) -> Iterator[Callable[[int, float], None]]:
    """Yields the function that is told the iteration and the loss."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.2e}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    drawing = Progress(*columns, console=console, transient=True)
    task = drawing.add_task(title, total=total, loss=float("nan"))
    start, running = time.perf_counter(), False

    def moved(iteration: int, loss: float) -> None:
        nonlocal running
        if shown and console.is_terminal and not running and time.perf_counter() - start > _QUIET:
            drawing.start()
            running = True
        drawing.update(task, completed=iteration, loss=loss)

    try:
        yield moved
    finally:
        if running:
            drawing.stop()
