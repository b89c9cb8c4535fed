"""The small plot in the terminal."""

import math
from collections.abc import Callable

import pytest

from varphi.report import plot


def text(lines: list[plot.Line]) -> list[str]:
    return ["".join(character for character, _ in line.cells) for line in lines]


def curve_cells(lines: list[plot.Line]) -> list[tuple[int, int]]:
    return [
        (row, column)
        for row, line in enumerate(lines[:-1])
        for column, (_, kind) in enumerate(line.cells)
        if kind == "curve"
    ]


@pytest.mark.parametrize("style", [plot.BRAILLE, plot.ASCII])
@pytest.mark.parametrize(("width", "height"), [(20, 6), (60, 12), (8, 3)])
def test_the_plot_has_the_size_asked_for(style: plot.Style, width: int, height: int) -> None:
    lines = plot.draw(math.tanh, -3, 3, width=width, height=height, style=style)
    assert len(lines) == height + 1
    assert {len(line.cells) for line in lines[:-1]} == {width}


def test_a_rising_function_runs_from_the_lower_left_to_the_upper_right() -> None:
    lines = plot.draw(lambda x: x, -1, 1, width=20, height=10)
    cells = curve_cells(lines)
    assert (9, 0) in cells
    assert (0, 19) in cells
    assert len({column for _, column in cells}) == 20
    assert lines[0].label == "1"
    assert lines[-2].label == "−1"


@pytest.mark.parametrize("style", [plot.BRAILLE, plot.ASCII])
def test_the_curve_is_joined_however_steep(style: plot.Style) -> None:
    lines = plot.draw(lambda x: math.tanh(50 * x), -1, 1, width=20, height=10, style=style)
    assert {row for row, _ in curve_cells(lines)} == set(range(10))


@pytest.mark.parametrize("style", [plot.BRAILLE, plot.ASCII])
@pytest.mark.parametrize("closed", [lambda x: float(x > 0), lambda x: float(x >= 0)])
@pytest.mark.parametrize("width", [20, 21])
def test_a_jump_is_not_joined(style: plot.Style, closed: Callable[[float], float], width: int) -> None:
    lines = plot.draw(closed, -1, 1, width=width, height=9, breaks=[0.0], style=style)
    assert {row for row, _ in curve_cells(lines)} == {0, 8}


def test_holes_and_poles_leave_gaps() -> None:
    lines = plot.draw(lambda x: math.log(x) if x > 0 else math.nan, -1, 1, width=20, height=6)
    assert min(column for _, column in curve_cells(lines)) >= 10
    nowhere = plot.draw(lambda x: math.inf, -1, 1, width=20, height=6)
    assert curve_cells(nowhere) == []


def test_a_constant_lies_in_the_middle() -> None:
    rows = {row for row, _ in curve_cells(plot.draw(lambda x: 3.0, -1, 1, width=20, height=9))}
    assert rows <= {4, 5}


def test_ascii_is_ascii() -> None:
    lines = plot.draw(math.sin, 0, 7, width=30, height=8, style=plot.ASCII)
    assert "".join(text(lines[:-1])).isascii()
