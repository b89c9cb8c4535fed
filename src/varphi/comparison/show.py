"""A comparison in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from varphi.study.show import remarks

from . import tables

if TYPE_CHECKING:
    from .result import Comparison

_STYLES = {"better": "green", "worse": "red", "the model's own": "bold"}


def show(found: Comparison) -> Group:
    """Answer, evidence, gradient health, cost, and what went wrong, for `rich`'s console."""
    notes = tables.notes(found)
    parts: list[RenderableType] = [
        Panel(Text(found.answer), title=found.results.study.title, subtitle=_extent(found)),
        _table("Evidence", tables.evidence(found), 2),
        Text(f"{found.verdict.evidence[0].upper()}{found.verdict.evidence[1:]}."),
        Text(notes["Evidence"] + "\n", style="dim"),
        _table("Gradient health", _once(tables.health(found)), 2),
        Text(notes["Gradient health"] + "\n", style="dim"),
        _table("Cost", tables.costs(found), 1),
        *(Text(str(line), style="yellow") for line in remarks(found.results)),
    ]
    return Group(*parts)


def _extent(found: Comparison) -> str:
    tried = f" × {found.results.budget} points of {', '.join(found.results.tuned)}" if found.results.tuned else ""
    count = len(found.trial.candidates)
    return f"{count} activations × {len(found.seeds)} paired seeds{tried}, in {found.results.storage}"


def _once(lines: Iterable[tuple[str, ...]]) -> Iterable[tuple[str, ...]]:
    """Lines whose first word is left out where it is the same as in the line before."""
    before = ""
    for first, *others in lines:
        yield ("" if first == before else first, *others)
        before = first


def _table(title: str, lines: Iterable[tuple[str, ...]], words: int) -> Table:
    header, *body = lines
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i < words else "right", overflow="fold")
    for line in body:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in line))
    return table
