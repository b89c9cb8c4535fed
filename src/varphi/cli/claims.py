"""`varphi claims`: what the chapter claims, and where each claim stands."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import Json, Storage
from .console import console, print_json, say, waiting

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from varphi.systems.claims import Run, Standing


def _known_systems(incomplete: str) -> list[str]:
    from varphi.systems.claims import entries

    return [name for name in dict.fromkeys(e.system for e in entries()) if name.startswith(incomplete)]


def claims(
    system: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only this system's claims, with the chapter's sentences and the measures.",
            autocompletion=_known_systems,
        ),
    ] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """The chapter's claims, and where each stands: its verdict, or how to get one."""
    from varphi.systems.claims import data, standings

    with waiting("judging the claims ..."):
        found = standings(system, storage)
    if as_json:
        return print_json({"claims": [data(standing) for standing in found]})
    out = console()
    for _, group in itertools.groupby(found, key=lambda standing: standing.claim.number):
        for part in _section(list(group), out.width, storage, at_length=system is not None):
            out.print(part)
    say(_summary(found), "dim")


def _section(group: Sequence[Standing], width: int, storage: str | None, *, at_length: bool) -> Iterator[Any]:
    from rich.padding import Padding
    from rich.text import Text

    claim = group[0].claim
    yield Text.assemble((f"{claim.number:>2}  {claim.title}", "bold"), (f"  {claim.system}", "dim"))
    if at_length:
        yield from (Padding(_at_length(standing, storage), (1, 0, 0, 4)) for standing in group)
    else:
        yield _table(group, width, storage)
    yield Text()


def _table(group: Sequence[Standing], width: int, storage: str | None) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(width=2)
    # As wide in every system, so that all verdicts begin in one column.
    table.add_column(width=min(width * 2 // 5, 52))
    table.add_column(overflow="fold")
    for standing in group:
        table.add_row("", standing.claim.name, _stands(standing, storage))
    return table


def _at_length(standing: Standing, storage: str | None) -> Text:
    from rich.text import Text

    said = Text.assemble((standing.claim.name, "bold"), f"\n“{standing.quote}”\n")
    if standing.measure:
        said.append(f"Measure: {standing.measure}\n", "dim")
    return said.append_text(_stands(standing, storage))


def _stands(standing: Standing, storage: str | None) -> Text:
    from rich.text import Text

    from varphi.study.show import COLOURS

    verdict, run = standing.verdict, standing.run
    if verdict is None or run is None:
        command = f": {_command(standing.claim.study, storage)}" if standing.claim.study else ""
        return Text(f"{standing.status}{command}", style="" if command else "dim")
    status = f"only if {verdict.condition}" if verdict.status == "only if" else verdict.status
    style = f"bold {COLOURS[verdict.status]}" if run.is_evidence else "dim"
    return Text.assemble(
        (status, style), (f" · {_told(run)}", "dim" if run.is_evidence else "yellow"), f"\n{verdict.evidence}"
    )


def _command(study: str, storage: str | None) -> str:
    from varphi.study.storage import described

    words = ["varphi", "study", "run", study]
    return shlex.join(words if storage is None else [*words, "--storage", described(storage)])


def _told(run: Run) -> str:
    """Where a verdict comes from."""
    size = run.size if run.is_evidence else "only a smoke run"
    unfinished = "" if run.finished == run.settings else f", {run.finished} of {run.settings} settings"
    return f"{size}, {run.seeds} seeds{unfinished}, {run.date}"


def _summary(found: Sequence[Standing]) -> str:
    counted = Counter(f"{s.status} (smoke)" if s.run is not None and not s.run.is_evidence else s.status for s in found)
    return f"{len(found)} claims: " + ", ".join(f"{count} {status}" for status, count in counted.items())
