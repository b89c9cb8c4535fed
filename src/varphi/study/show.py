"""A study's results in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .ranking import Contest, Ranking
from .results import Results

COLOURS = {
    "supported": "green",
    "refuted": "red",
    "only if": "yellow",
    "undecided": "bright_black",
    "not enough seeds": "bright_black",
}


def show(results: Results) -> Group:
    """Question, answer, verdicts, table and what went wrong, for `rich`'s console."""
    parts: list[RenderableType] = [
        Panel(Text(results.answer), title=results.study.title, subtitle=_extent(results)),
        _verdicts(results),
        *(part for contest, found in results.rankings for part in _ranking(contest, found)),
        _table("Median over seeds [least, most]", results.table(), len(results.study.factors)),
    ]
    if results.references:
        parts.append(_table("References, which need no seeds", results.reference_table(), 1))
    parts += [Text(str(remark), style="yellow") for remark in remarks(results)]
    return Group(*parts)


@dataclass(frozen=True)
class Remark:
    """What a reader must know besides the numbers, and the text behind it, if there is one (a traceback)."""

    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text}:\n{self.detail}" if self.detail else self.text


def remarks(results: Results) -> list[Remark]:
    """What is missing, failed, or at the edge of its tuning."""
    return [*_unfinished(results), *_at_edges(results)]


def _unfinished(results: Results) -> Iterator[Remark]:
    missing, errors = len(results.missing), len(results.errors)
    if missing:
        settings = "1 setting is" if missing == 1 else f"{missing} settings are"
        yield Remark(f"{settings} not finished: the command of the run goes on from here.")
    if errors:
        last = results.errors[-1]
        trials = "1 trial" if errors == 1 else f"{errors} trials"
        yield Remark(f"{trials} failed with an error; the last, of {last.setting}", last.traceback)
    died = len(results.failures) - errors
    if died:
        trials = "1 trial was" if died == 1 else f"{died} trials were"
        yield Remark(f"{trials} cut short (Ctrl-C or a process that ended) and run again.")


def _at_edges(results: Results) -> Iterator[Remark]:
    for name in results.tuned:
        at_edge = sum(name in row.edges for row in results.rows)
        if at_edge:
            yield Remark(
                f"{at_edge} of {len(results.rows)} settings chose the smallest or largest {name} that was tried; "
                "a better one may lie beyond."
            )


def _extent(results: Results) -> str:
    return f"size {results.size}, {len(results.rows)} settings, {len(results.seeds)} paired seeds, in {results.storage}"


def _verdicts(results: Results) -> Table:
    table = Table(title="Claims", title_justify="left", show_lines=True)
    for column in ("claim", "verdict", "the number behind it"):
        table.add_column(column, overflow="fold")
    for claim, verdict in zip(results.study.claims, results.verdicts, strict=True):
        status = f"only if {verdict.condition}" if verdict.status == "only if" else verdict.status
        table.add_row(claim.name, Text(status, style=f"bold {COLOURS[verdict.status]}"), Text(verdict.evidence))
    return table


def _ranking(contest: Contest, found: Ranking) -> Iterable[RenderableType]:
    yield Text(f"\n{contest.title}. {found.sentence()}", style="italic")
    yield _table("", found.table(), 2)


def _table(title: str, content: Iterable[tuple[str, ...]], words: int) -> Table:
    header, *lines = content
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i < words else "right")
    for line in lines:
        table.add_row(*line)
    return table
