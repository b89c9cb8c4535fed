"""A small plot of a function in the terminal: braille dots, or plain characters where the encoding has no others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .notation import number

# A cell of braille is 2 dots wide and 4 high; their bits, by column and row from the top.
_BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
# A cell of ASCII tells three heights apart; more than one of them is a steep line.
_ASCII = {0b001: "'", 0b010: "-", 0b100: "_", 0b011: "'", 0b110: ",", 0b101: "|", 0b111: "|"}


@dataclass(frozen=True)
class Style:
    """What a canvas is drawn with.

    Attributes:
        across, down: dots in a cell.
        axes: the characters of the horizontal axis, the vertical axis and their crossing.
    """

    across: int
    down: int
    axes: tuple[str, str, str]
    cell: Callable[[frozenset[tuple[int, int]]], str]


def _braille(dots: frozenset[tuple[int, int]]) -> str:
    return chr(0x2800 + sum(_BRAILLE[column][row] for column, row in dots))


def _ascii(dots: frozenset[tuple[int, int]]) -> str:
    return _ASCII[sum(1 << row for row in {row for _, row in dots})]


BRAILLE = Style(2, 4, ("╌", "┊", "┼"), _braille)
ASCII = Style(1, 3, (".", ":", ":"), _ascii)


@dataclass(frozen=True)
class Line:
    """One line of a plot: its label at the left, then (character, kind) pairs; kind is "curve", "axis" or ""."""

    label: str
    cells: tuple[tuple[str, str], ...]


def draw(
    function: Callable[[float], float],
    lower: float,
    upper: float,
    *,
    width: int,
    height: int,
    breaks: Iterable[float] = (),
    style: Style = BRAILLE,
) -> list[Line]:
    """The graph of `function` on [lower, upper], with its two axes where they fall inside.

    Args:
        function: its value at a float; NaN or ±inf where there is nothing to draw.
        width, height: of the drawing, in characters, labels left out.
        breaks: where the graph may jump, so that no line joins its two sides.
        style: BRAILLE or ASCII.

    Returns:
        `height` lines from the top, the y-labels beside the first, the last and the one of y = 0, and one more line
        with the x-labels.
    """
    columns, rows = width * style.across, height * style.down
    breaks = sorted(breaks)
    xs = [_right_of(breaks, lower + (upper - lower) * i / (columns - 1), upper - lower) for i in range(columns)]
    ys = [function(x) for x in xs]
    low, high = _window(ys)

    def row(y: float) -> int:
        return min(rows - 1, max(0, int((high - y) / (high - low) * rows)))

    dots = _dots(xs, ys, row, breaks, (low, high))
    zero = round(-lower / (upper - lower) * (columns - 1))
    column_of_zero = zero // style.across if lower < 0 < upper else None
    row_of_zero = row(0.0) // style.down if low <= 0 <= high else None
    labels = {0: number(high, 3), height - 1: number(low, 3)}
    if row_of_zero is not None:
        labels.setdefault(row_of_zero, "0")
    lines = [
        Line(labels.get(r, ""), tuple(_cell(dots, c, r, column_of_zero, row_of_zero, style) for c in range(width)))
        for r in range(height)
    ]
    return [*lines, Line("", tuple((c, "") for c in _scale(lower, upper, width, column_of_zero)))]


def _right_of(breaks: Sequence[float], x: float, span: float) -> float:
    """x, a little to the right where it is a break: there f has the value of neither side, or of the wrong one."""
    beside = 1e-9 * span
    return x + 2 * beside if any(abs(x - b) <= beside for b in breaks) else x


def _window(ys: Sequence[float]) -> tuple[float, float]:
    finite = [y for y in ys if math.isfinite(y)]
    if not finite:
        return -1.0, 1.0
    low, high = min(finite), max(finite)
    # A constant gets room on both sides; a graph that ends at zero shows its axis.
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    low = 0.0 if 0 < low < 0.25 * high else low
    return low, 0.0 if 0 > high > 0.25 * low else high


def _dots(
    xs: Sequence[float],
    ys: Sequence[float],
    row: Callable[[float], int],
    breaks: Sequence[float],
    window: tuple[float, float],
) -> set[tuple[int, int]]:
    dots: set[tuple[int, int]] = set()
    previous: int | None = None
    for column, y in enumerate(ys):
        if not math.isfinite(y) or not window[0] <= y <= window[1]:
            previous = None
            continue
        here = row(y)
        jumps = column and any(xs[column - 1] < b <= xs[column] for b in breaks)
        start = here if previous is None or jumps else previous
        # The line between neighbours: each column takes the half on its own side.
        middle = (start + here) // 2
        step = 1 if here >= start else -1
        dots.update((column - 1, r) for r in range(start, middle, step))
        dots.update((column, r) for r in (*range(middle, here, step), here))
        previous = here
    return dots


def _cell(
    dots: set[tuple[int, int]], column: int, row: int, axis_column: int | None, axis_row: int | None, style: Style
) -> tuple[str, str]:
    inside = frozenset(
        (c, r)
        for c in range(style.across)
        for r in range(style.down)
        if (column * style.across + c, row * style.down + r) in dots
    )
    if inside:
        return style.cell(inside), "curve"
    if column == axis_column or row == axis_row:
        return style.axes[2 if column == axis_column and row == axis_row else int(column == axis_column)], "axis"
    return " ", ""


def _scale(lower: float, upper: float, width: int, column_of_zero: int | None) -> str:
    left, right = number(lower, 3), number(upper, 3)
    text = list(left + " " * max(1, width - len(left) - len(right)) + right)
    if column_of_zero is not None and len(left) < column_of_zero < width - len(right) - 1:
        text[column_of_zero] = "0"
    return "".join(text)
