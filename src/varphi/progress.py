"""A bar on standard error for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Takes how much of the work is done, 0 to 1.
Moved: TypeAlias = Callable[[float], None]
_QUIET = 2.0


class Bar:
    """Is told how far the work is, and what there is to say of it; draws that once the work has taken long enough."""

    def __init__(self, title: str, shown: bool) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
        self._drawing = Progress(
            *columns,
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=bool(sys.stdout and sys.stdout.isatty()),  # what goes to a file is no business of the bar
        )
        self._task = self._drawing.add_task(title, total=1.0, note="")
        self._shown, self._running, self._start = shown and console.is_terminal, False, time.perf_counter()

    def __call__(self, share: float, note: str = "") -> None:
        if self._shown and not self._running and time.perf_counter() - self._start > _QUIET:
            self._drawing.start()
            self._running = True
        self._drawing.update(self._task, completed=share, note=note)

    def pause(self) -> None:
        """Leave the terminal to others until the work goes on."""
        if self._running:
            self._drawing.stop()
            self._running = False


@contextmanager
def bar(title: str, shown: bool = True) -> Iterator[Bar]:
    """Yields what is told how far the work is."""
    made = Bar(title, shown)
    try:
        yield made
    finally:
        made.pause()
