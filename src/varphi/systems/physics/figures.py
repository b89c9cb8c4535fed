"""Solutions drawn: the field, what is left of the equation, and the error; and what the study found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from varphi.study import Figure
from varphi.study.results import Results, Row

if TYPE_CHECKING:
    from .solution import Solution

_WIDTH = 5.6
_LINE, _GRID = 501, 101


def figure(solution: Solution) -> Drawing:
    """Each field, the residual of each equation, and the error of each field where the truth is known.

    Raises:
        ValueError: for more than two dimensions.
    """
    d = solution.problem.domain.dimensions
    if d > 2:
        raise ValueError(f"a figure is drawn in one or two dimensions; {solution.problem.domain!r} has {d}")
    x = _grid(solution)
    panels = _panels(solution, x)
    drawing = Drawing(figsize=(_WIDTH, 1.9 * len(panels) if d == 1 else 2.6 * len(panels)), layout="constrained")
    axes = drawing.subplots(len(panels), 1, squeeze=False)[:, 0]
    for panel, (title, values, is_log) in zip(axes, panels, strict=True):
        draw = _line if d == 1 else _map
        draw(panel, solution, x, values, is_log)
        panel.set_title(title, fontsize=9.5)
    return drawing


def _grid(solution: Solution) -> torch.Tensor:
    domain = solution.problem.domain
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


def _line(panel: Axes, solution: Solution, x: torch.Tensor, values: np.ndarray, is_log: bool) -> None:
    panel.plot(x[:, 0].numpy(), values, linewidth=1.4)
    if is_log:
        panel.set_yscale("log")
    panel.set_xlabel(solution.problem.coordinates[0])


def _map(panel: Axes, solution: Solution, x: torch.Tensor, values: np.ndarray, is_log: bool) -> None:
    shape = (_GRID, _GRID)
    shown = np.log10(np.maximum(values, 1e-300)) if is_log else values
    a, b = (x[:, i].numpy().reshape(shape) for i in range(2))
    colours = panel.pcolormesh(a, b, shown.reshape(shape), shading="nearest", rasterized=True)
    drawing: Any = panel.figure
    drawing.colorbar(colours, ax=panel, label="log₁₀" if is_log else "")
    panel.set_xlabel(solution.problem.coordinates[0])
    panel.set_ylabel(solution.problem.coordinates[1])


# The study -----------------------------------------------------------------------------------------------------------


def figures(results: Results) -> list[Figure]:
    """The figures of the report on `physics`, in order."""
    return [_errors(results), _against_time(results)]


def _errors(results: Results) -> Figure:
    names = list(results.levels("activation"))
    drawing = Drawing(figsize=(_WIDTH, 1.0 + 0.42 * len(names)), layout="constrained")
    panel = drawing.subplots()
    forms = list(results.levels("form"))
    for row in results.rows:
        place = names.index(row.setting["activation"]) + 0.25 * (forms.index(row.setting["form"]) - 1)
        _dots(panel, place, row.values("error"), f"C{forms.index(row.setting['form'])}")
    for i, form in enumerate(forms):
        panel.plot([], [], "o", color=f"C{i}", markersize=4, label=form)
    panel.set_xscale("log")
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel("relative L2 error at fresh points")
    drawing.legend(loc="outside lower center", ncols=len(forms))
    return Figure(
        "The chapter's problem, by activation and form",
        "−u″ = π² sin πx on [0, 1], u(0) = u(1) = 0; a dot for each seed, a line at the median. Activations that are "
        "not C² were trained in the strong form with the gate opened.",
        drawing,
    )


def _against_time(results: Results) -> Figure:
    drawing = Drawing(figsize=(_WIDTH, 3.4), layout="constrained")
    panel = drawing.subplots()
    for i, name in enumerate(results.levels("activation")):
        rows: Sequence[Row] = [r for r in results.rows if r.setting["activation"] == name]
        for row, mark in zip(rows, "os^", strict=False):
            panel.plot(
                np.median(row.values("seconds")), np.median(row.values("error")), mark, color=f"C{i}", markersize=5
            )
        panel.plot([], [], "o", color=f"C{i}", markersize=5, label=name)
    for name, values in results.references.items():
        panel.plot(values["seconds"], values["error"], "k*", markersize=8)
        panel.annotate(
            name, (values["seconds"], values["error"]), fontsize=7.5, xytext=(4, 4), textcoords="offset points"
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("CPU seconds")
    panel.set_ylabel("relative L2 error")
    drawing.legend(loc="outside right center", fontsize=8)
    return Figure(
        "Error against time",
        "Medians over seeds: circles strong form with hard conditions, squares strong form with soft ones, triangles "
        "weak form. Stars: solvers without a net, which are the tool for this problem.",
        drawing,
    )


def _dots(panel: Axes, place: float, values: np.ndarray, colour: str) -> None:
    jitter = np.random.default_rng(0).uniform(-0.07, 0.07, len(values))
    panel.plot(values, place + jitter, "o", color=colour, markersize=2.6, alpha=0.5, markeredgewidth=0)
    panel.vlines(float(np.median(values)), place - 0.1, place + 0.1, color=colour, linewidth=2.2)
