"""Solutions drawn: the field, what is left of the equation, and the error; and what the study found."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from varphi.study import Figure
from varphi.study.results import Results, Row

from .domain import Domain
from .problem import Problem
from .trial import OURS

if TYPE_CHECKING:
    from .solution import Solution

_WIDTH = 5.6
_LINE, _GRID = 501, 101


def figure(solution: Solution) -> Drawing:
    """Each field, the residual of each equation, and the error of each field where the truth is known.

    Raises:
        ValueError: for more than two dimensions.
    """
    problem = solution.problem
    d = problem.domain.dimensions
    if d > 2:
        raise ValueError(f"a figure is drawn in one or two dimensions; {problem.domain!r} has {d}")
    x = grid(problem.domain)
    panels = _panels(solution, x)
    drawing = Drawing(figsize=(_WIDTH, 1.9 * len(panels) if d == 1 else 2.6 * len(panels)), layout="constrained")
    axes = drawing.subplots(len(panels), 1, squeeze=False)[:, 0]
    for panel, (title, values, is_log) in zip(axes, panels, strict=True):
        draw = _line if d == 1 else _map
        draw(panel, problem, x, values, is_log)
        panel.set_title(title, fontsize=9.5)
    return drawing


def grid(domain: Domain) -> torch.Tensor:
    """Points of the box around a domain, for drawing."""
    n = _LINE if domain.dimensions == 1 else _GRID
    # Just inside: some factors have no derivatives on the boundary itself.
    sides = [
        torch.linspace(float(a + 1e-6 * (b - a)), float(b - 1e-6 * (b - a)), n, dtype=torch.float64)
        for a, b in zip(domain.lower, domain.upper, strict=True)
    ]
    return torch.cartesian_prod(*sides).reshape(-1, domain.dimensions)


def _panels(solution: Solution, x: torch.Tensor) -> list[tuple[str, np.ndarray, bool]]:
    problem = solution.problem
    inside = problem.domain.distance(x) > 0

    def spread(found: torch.Tensor) -> np.ndarray:
        whole = np.full(len(x), np.nan)
        whole[inside.numpy()] = found.double().numpy()
        return whole

    at = x[inside]
    u = solution(at)
    panels = [(name, spread(u[:, i]), False) for i, name in enumerate(problem.fields)]
    if problem.form == "strong":
        r = solution.residual(at).abs()
        which = [""] if r.shape[1] == 1 else [f" of equation {i + 1}" for i in range(r.shape[1])]
        panels += [(f"|residual|{told}", spread(r[:, i]), True) for i, told in enumerate(which)]
    if problem.truth is not None:
        for i, (name, truth) in enumerate(zip(problem.fields, problem.truth, strict=True)):
            panels.append((f"|error of {name}|", spread((u[:, i] - truth(at)[:, 0]).abs()), True))
    return panels


def _line(panel: Axes, problem: Problem, x: torch.Tensor, values: np.ndarray, is_log: bool) -> None:
    panel.plot(x[:, 0].numpy(), values, linewidth=1.4)
    if is_log:
        panel.set_yscale("log")
    panel.set_xlabel(problem.coordinates[0])


def _map(panel: Axes, problem: Problem, x: torch.Tensor, values: np.ndarray, is_log: bool) -> None:
    shape = (_GRID, _GRID)
    shown = np.log10(np.maximum(values, 1e-300)) if is_log else values
    a, b = (x[:, i].numpy().reshape(shape) for i in range(2))
    colours = panel.pcolormesh(a, b, shown.reshape(shape), shading="nearest", rasterized=True)
    drawing: Any = panel.figure
    drawing.colorbar(colours, ax=panel, label="log₁₀" if is_log else "")
    panel.grid(visible=False)
    panel.set_xlabel(problem.coordinates[0])
    panel.set_ylabel(problem.coordinates[1])


# The studies ---------------------------------------------------------------------------------------------------------


def line_figures(results: Results) -> list[Figure]:
    """The figures of the report on `physics`, in order."""
    forms = {form: {"form": form} for form in results.levels("form")}
    return [
        Figure(
            "The chapter's problem, by activation and form",
            "−u″ = π² sin πx on [0, 1], u(0) = u(1) = 0; a dot for each seed, a line at the median. Activations that "
            "are not C² were trained in the strong form with the gate opened.",
            _errors(results, forms),
        ),
        Figure("Error against time", f"{_TIMES} {_STARS}", _against_time(results, forms)),
    ]


_TIMES = (
    "Medians over seeds after 1, 2, 3, ... iterations, a line for each activation, from the end of the search for a "
    "first scale on; broken: DeepXDE."
)
_STARS = "Stars: solvers without a net, which are the tool for this problem."


def further_figures(results: Results, told: str, problem: Problem) -> list[Figure]:
    """The figures of the report on a study of one problem, in order."""
    return [
        Figure("The solution", f"{told}.", _field(problem)),
        Figure(
            "Error by activation",
            "A dot for each seed, a line at the median. Activations that are not C² were trained with the gate opened.",
            _errors(results, {"": {}}),
        ),
        Figure("Error against time", f"{_TIMES} {_STARS}", _against_time(results, {"": {}})),
    ]


def _field(problem: Problem) -> Drawing:
    """The truth of a problem in two dimensions."""
    assert problem.truth is not None, "the studies know their truth"
    x = grid(problem.domain)
    values = np.full(len(x), np.nan)
    inside = problem.domain.distance(x) > 0
    values[inside.numpy()] = problem.truth[0](x[inside])[:, 0].numpy()
    low, high = (np.array(side) for side in (problem.domain.lower, problem.domain.upper))
    across, along = high - low
    drawing = Drawing(figsize=(min(_WIDTH, 1.4 + 2.4 * across / along), 2.9), layout="constrained")
    panel = drawing.subplots()
    _map(panel, problem, x, values, False)
    panel.set_title(problem.fields[0], fontsize=9.5)
    panel.set_aspect("equal")
    return drawing


def _errors(results: Results, conditions: Mapping[str, Mapping[str, str]]) -> Drawing:
    names = list(dict.fromkeys(_name(r) for r in results.rows))
    drawing = Drawing(figsize=(_WIDTH, 1.0 + 0.42 * len(names)), layout="constrained")
    panel = drawing.subplots()
    for i, (told, levels) in enumerate(conditions.items()):
        for row in results.where(**levels):
            place = names.index(_name(row)) + 0.25 * (i - (len(conditions) - 1) / 2)
            _dots(panel, place, row.values("error"), f"C{i}")
        panel.plot([], [], "o", color=f"C{i}", markersize=4, label=told)
    panel.set_xscale("log")
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel("relative L2 error at fresh points")
    if len(conditions) > 1:
        drawing.legend(loc="outside lower center", ncols=len(conditions))
    return drawing


def _name(row: Row) -> str:
    activation, solver = row.setting["activation"], row.setting["solver"]
    return activation if solver == OURS else f"{solver}, {activation}"


def _against_time(results: Results, conditions: Mapping[str, Mapping[str, str]]) -> Drawing:
    drawing = Drawing(figsize=(_WIDTH, 0.6 + 2.7 * len(conditions)), layout="constrained")
    panels = drawing.subplots(len(conditions), 1, squeeze=False, sharex=True)[:, 0]
    names = [n for n in results.study.factors["activation"] if n in results.levels("activation")]
    for panel, (told, levels) in zip(panels, conditions.items(), strict=True):
        for row in results.where(**levels):
            ours = row.setting["solver"] == OURS
            seconds, error = (_course(row, c) for c in ("seconds", "error"))
            colour = f"C{names.index(row.setting['activation'])}"
            panel.plot(seconds, error, "-" if ours else "--", color=colour, linewidth=1.3)
            panel.plot(seconds[-1], error[-1], "o" if ours else "s", color=colour, markersize=4)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.margins(0.1)
        _stars(panel, results.references)
        panel.set_ylabel("relative L2 error")
        panel.set_title(told, fontsize=9.5)
    panels[-1].set_xlabel("CPU seconds")
    for i, name in enumerate(names):
        panels[0].plot([], [], color=f"C{i}", label=name)
    drawing.legend(loc="outside right center", fontsize=8)
    return drawing


def _stars(panel: Axes, references: Mapping[str, Mapping[str, float]]) -> None:
    known = {n: (v["seconds"], v["error"]) for n, v in references.items() if "error" in v}
    for at in known.values():
        panel.plot(*at, "k*", markersize=7)
    middle = math.sqrt(math.prod(panel.get_xlim()))
    for (name, at), down in zip(known.items(), itertools.cycle((4, -9)), strict=False):
        across, side = (4, "left") if at[0] < middle else (-4, "right")
        panel.annotate(name, at, fontsize=7, xytext=(across, down), textcoords="offset points", ha=side)


def _course(row: Row, curve: str) -> np.ndarray:
    """The median over seeds at each look; a seed that stopped early stays where it was."""
    values = row.curves[curve][row.chosen].copy()
    for line in values:
        ended = np.isnan(line)
        line[ended] = line[~ended][-1]
    return np.median(values, 0)


def _dots(panel: Axes, place: float, values: np.ndarray, colour: str) -> None:
    jitter = np.random.default_rng(0).uniform(-0.07, 0.07, len(values))
    panel.plot(values, place + jitter, "o", color=colour, markersize=2.6, alpha=0.5, markeredgewidth=0)
    panel.vlines(float(np.median(values)), place - 0.1, place + 0.1, color=colour, linewidth=2.2)
