"""What the command line and scripts call. Nothing heavy is imported before a function needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import registry
from .declaration import Study

if TYPE_CHECKING:
    from rich.console import Console

    from .results import Results


def names() -> list[str]:
    """The names of all studies."""
    return registry.names()


def load(name: str) -> Study:
    """The study called `name`, or declared at "module:attribute"; see `registry.load`."""
    return registry.load(name)


def run(
    study: str | Study,
    *,
    storage: str | Path | None = None,
    size: str = "full",
    seeds: int | Sequence[int] | None = None,
    progress: bool = True,
) -> Results:
    """Run what is still missing of a study, and return all its results; see `engine.run`."""
    from . import engine

    return engine.run(_study(study), storage=storage, size=size, seeds=seeds, progress=progress)


def results(
    study: str | Study,
    storage: str | Path | None = None,
    *,
    size: str | None = None,
    seeds: int | Sequence[int] | None = None,
) -> Results:
    """What a storage holds of a study; see `engine.results`."""
    from . import engine

    return engine.results(_study(study), storage, size=size, seeds=seeds)


def show(results: Results, console: Console | None = None) -> None:
    """Print a study's answer, verdicts and table."""
    from rich.console import Console

    from .show import show

    (console or Console()).print(show(results))


def _study(study: str | Study) -> Study:
    return study if isinstance(study, Study) else load(study)
