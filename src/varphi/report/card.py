"""The facts of one activation as a card for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from varphi.activation.layer import Activation
from varphi.numbers import variable

from . import plot
from .curves import Curve
from .notation import ascii_text, number, plain_formula, unicode_formula

_WIDEST, _PLOT_HEIGHT, _LABEL, _VALUE = 120, 9, 16, 20
_COLOURS = ("cyan", "magenta")


@dataclass(frozen=True)
class Row:
    """One fact: what it is called, its value, a remark, and how it is known ("proved", "computed", ...)."""

    label: str
    value: str
    remark: str = ""
    method: str = "proved"


@dataclass(frozen=True)
class Section:
    """Facts that belong together."""

    title: str
    rows: Sequence[Row]


# How a fact is known: its mark, its colour and the words of the legend.
METHODS = {
    "proved": ("●", "green", "proved for every x"),
    "computed": ("◐", "yellow", "computed"),
    "measured": ("○", "cyan", "measured here"),
    "undecided": ("?", "red", "undecided"),
}


def formula(activation: Activation) -> str:
    """The formula of an activation in one line of Unicode."""
    definition = activation.definition
    if definition.latex:
        return unicode_formula(definition.latex)
    return plain_formula(definition.expression(activation.numbers()))


def python_formula(activation: Activation) -> str:
    """The formula in Python's spelling, parameters by name: "softplus(beta*x)/beta"."""
    definition, values = activation.definition, activation.numbers()
    named = {p.name: variable(p.name) for p in definition.parameters if not p.constraint.whole}
    return str(definition.expression({**values, **named}))


def parameters(activation: Activation) -> str:
    """The parameters and their values: "β = 2, n = 3"."""
    letters = unicode_formula
    return ", ".join(f"{letters(_symbol(name))} = {number(value)}" for name, value in activation.numbers().items())


def _symbol(name: str) -> str:
    stem, _, index = name.partition("_")
    symbol = f"\\{stem}" if len(stem) > 1 else stem
    return f"{symbol}_{{{index}}}" if index else symbol


class Card:
    """A card that rich can print: head, plots of f and f', sections of facts, legend.

    Args:
        activation: whose card it is.
        sections: the facts, in the order in which they are read.
        drawn: f and f', and the window on which they are drawn.
        breaks: where f and f' jump.
    """

    def __init__(
        self,
        activation: Activation,
        sections: Sequence[Section],
        drawn: tuple[Sequence[Curve], float, float],
        breaks: tuple[Sequence[float], Sequence[float]] = ((), ()),
    ) -> None:
        self.activation, self.sections, self.drawn, self.breaks = activation, sections, drawn, breaks

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, _WIDEST)
        plain = not options.encoding.startswith("utf")
        say = ascii_text if plain else str
        yield from self._head(say, plain)
        yield Text()
        yield self._plots(width, plain)
        for section in self.sections:
            yield Text()
            yield Text(section.title, style="bold")
            yield _table(section, say, width)
        yield Text()
        yield _legend(self.sections, say)

    def _head(self, say: Callable[[str], str], plain: bool) -> Iterator[Text]:
        definition = self.activation.definition
        written = python_formula(self.activation) if plain else formula(self.activation)
        title = Text(definition.name, style="bold")
        if definition.name != written:
            title.append(f"   f(x) = {written}", style="not bold cyan")
        if values := parameters(self.activation):
            title.append(say(f"   {values}"), style="not bold")
        yield title
        for line in (definition.doc.split("\n\n")[0].replace("\n", " "), definition.source):
            if line:
                yield Text(say(line), style="" if line != definition.source else "dim")
        names = [f"torch.nn.{definition.torch}"] if definition.torch else []
        if known := [*definition.aliases, *names]:
            yield Text(say(f"Also known as {', '.join(known)}"), style="dim")

    def _plots(self, width: int, plain: bool) -> Table:
        graphs, lower, upper = self.drawn
        label = 8
        panel = (width - 4) // 2 - label - 1
        table = Table.grid(padding=(0, 2))
        drawings = [
            plot.draw(
                graph, lower, upper, width=panel, height=_PLOT_HEIGHT, breaks=breaks,
                style=plot.ASCII if plain else plot.BRAILLE,
            )
            for graph, breaks in zip(graphs[:2], self.breaks, strict=True)
        ]  # fmt: skip
        names = ("f", "f'" if plain else "f′")
        table.add_row(
            *(Text(" " * (label + 1) + name, style=f"bold {c}") for name, c in zip(names, _COLOURS, strict=True))
        )
        for lines in zip(*drawings, strict=True):
            table.add_row(*(_line(line, colour, label, plain) for line, colour in zip(lines, _COLOURS, strict=True)))
        return table


def _line(line: plot.Line, colour: str, label: int, plain: bool) -> Text:
    text = Text(f"{ascii_text(line.label) if plain else line.label:>{label}} ", style="dim", no_wrap=True)
    styles = {"curve": f"not dim {colour}", "axis": "dim", "": "dim"}
    for character, kind in line.cells:
        text.append(ascii_text(character) if plain and not kind else character, style=styles[kind])
    return text


def _table(section: Section, say: Callable[[str], str], width: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(width=_LABEL, style="dim")
    table.add_column(max_width=width - _LABEL - 8)
    for row in section.rows:
        mark, colour, _ = METHODS[row.method]
        value = Text(say(row.value))
        if row.remark:
            value.append(say(f"{'':{max(2, _VALUE - len(row.value))}}{row.remark}"), style="dim")
        table.add_row(Text(say(mark), style=colour), say(row.label), value)
    return table


def _legend(sections: Sequence[Section], say: Callable[[str], str]) -> Text:
    used = {row.method for section in sections for row in section.rows}
    text = Text()
    for mark, colour, words in (METHODS[method] for method in METHODS if method in used):
        text.append(say(mark), style=colour).append(f" {words}   ", style="dim")
    return text
