"""How far a run is: a bar on standard error, with rate and remaining time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Takes (finished, failed).
Advance: TypeAlias = Callable[[int, int], None]


class _Rate(ProgressColumn):
    """Trials a minute, or a second where they are quick."""

    def render(self, task: Task) -> Text:
        """The rate of the last half minute or so."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min")


@contextmanager
def progress(title: str, counts: tuple[int, int], total: int, shown: bool) -> Iterator[Advance]:
    """A bar while the block runs; yields the function that moves it.

    Args:
        counts: what had finished and failed before.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # Trials take minutes: a rate over the last 30 seconds would often be one of nothing.
    with Progress(*columns, console=Console(stderr=True), disable=not shown, speed_estimate_period=600) as bar:
        task = bar.add_task(title, total=total, completed=counts[0], failed="")

        def advance(finished: int, failed: int) -> None:
            bar.update(task, completed=finished, failed=f"[red]{failed} failed[/red]" if failed else "")

        advance(*counts)
        yield advance
