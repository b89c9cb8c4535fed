"""What the command line and scripts call. Nothing heavy is imported before a function needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    jobs: int = 1,
    progress: bool = True,
) -> Results:
    """Run what is still missing of a study, and return all its results; see `engine.run`."""
    from . import engine

    place = study if isinstance(study, str) else None
    return engine.run(_study(study), storage=storage, size=size, seeds=seeds, jobs=jobs, place=place, progress=progress)


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


def export(results: Results, path: str | Path, *, curves: bool = False) -> tuple[Path, ...]:
    """Write every number of a study's results as .csv, .parquet or .json; see `tables.export`."""
    from . import tables

    return tables.export(results, path, curves=curves)


def serve(storage: str | Path | None = None, *, host: str = "localhost", port: int = 13000) -> Any:
    """Start a proxy, through which other machines reach a storage; see `storage.serve`."""
    from . import storage as _storage

    return _storage.serve(storage, host, port)


def show(results: Results, console: Console | None = None) -> None:
    """Print a study's answer, verdicts and table."""
    from rich.console import Console

    from .show import show

    (console or Console()).print(show(results))


def _study(study: str | Study) -> Study:
    return study if isinstance(study, Study) else load(study)
