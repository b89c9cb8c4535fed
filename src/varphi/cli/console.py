"""How commands speak: tables and JSON on standard output; notes, warnings and bars on standard error."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")


def complain(message: str) -> None:
    """Say what was wrong."""
    say(message, "bold red")


def warn(message: Warning | str, *_: Any) -> None:
    """A Python warning as one line; stands in for `warnings.showwarning`."""
    say(f"warning: {' '.join(str(message).split())}", "yellow")


def say(text: str, style: str) -> None:
    """One line on standard error, beside the output proper."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False, markup=False, emoji=False).print(
        text, style=style
    )


def print_json(data: Any) -> None:
    """`data` on standard output; infinities and NaN as text."""
    from varphi.study.data import plain_data

    print(json.dumps(plain_data(data), indent=2, ensure_ascii=False, allow_nan=False))


def console() -> Console:
    """The console of standard output; where that is a pipe or a file, lines are as long as they need to be."""
    from rich.console import Console

    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console(highlight=False, emoji=False)
    return Console(highlight=False, emoji=False, width=160)


def waiting(words: str) -> AbstractContextManager[Any]:
    """A spinner on standard error while the block runs."""
    from rich.console import Console

    return Console(stderr=True).status(words)


def progress(items: Iterator[T], total: int) -> Iterator[T]:
    """`items`, with a bar on standard error once two seconds have passed."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    start, task = time.monotonic(), bar.add_task("certifying", total=total)
    with ExitStack() as shown:
        late = False
        for item in items:
            bar.advance(task)
            if not late and time.monotonic() - start > 2:
                late = True
                shown.enter_context(bar)
            yield item
