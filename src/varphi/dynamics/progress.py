"""Waiting for threads: a bar for work that takes longer than two seconds, and an end for all of them on Ctrl-C."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait

import numpy as np


def watched(jobs: Sequence[Future[None]], watches: Sequence[np.ndarray], samples: int, progress: bool) -> None:
    """Wait for jobs; each counts the samples that it ended in its watch's first word and stops if the second is set."""
    try:
        if wait(jobs, timeout=2.0).not_done and progress:
            _show(jobs, watches, samples)
        wait(jobs)
    except BaseException:
        for watch in watches:
            watch[1] = 1
        raise
    for job in jobs:
        job.result()


def _show(jobs: Sequence[Future[None]], watches: Sequence[np.ndarray], samples: int) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("simulating", total=samples)
        while wait(jobs, timeout=0.2).not_done:
            bar.update(task, completed=int(sum(w[0] for w in watches)))
