"""Figures: one style for all of them, and the portrait of an activation.

The style serves the command line, the reports and the documentation: colours that the colour-blind can tell apart, few
lines, files that are equal byte for byte when their content is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from varphi.activation.layer import Activation

from .curves import Curve, curves

# Okabe & Ito's colours, in the order in which lines use them.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)
FORMATS = (".svg", ".png", ".pdf")

_STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "svg.hashsalt": "varphi",
}


@contextmanager
def style() -> Iterator[None]:
    """Within it, figures look like varphi's."""
    with mpl.rc_context(_STYLE):
        yield


def save(figure: Figure, path: str | Path) -> None:
    """Write `figure` as SVG, PNG or PDF, by the ending of `path`; equal figures give equal files."""
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ValueError(f"a figure ends in {', '.join(FORMATS)}, got {path.name!r}")
    dateless = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with style():
        figure.savefig(path, metadata=dateless.get(kind, {}))


@dataclass(frozen=True)
class Marks:
    """What is pointed out in a portrait.

    Attributes:
        kinks: where the graph or its slope breaks.
        jumps: those of them, by order of derivative, at which f, f', f'' is not continuous.
        levels: horizontal lines in f: the ends of its range, as (value, label).
        saturated: the x beyond which the slope is small, at the left and at the right; None where it never is.
        slopes: horizontal lines in f': the least and the greatest slope, as (value, label).
    """

    kinks: Sequence[float] = ()
    jumps: tuple[Sequence[float], Sequence[float], Sequence[float]] = ((), (), ())
    levels: Sequence[tuple[float, str]] = ()
    saturated: tuple[float | None, float | None] = (None, None)
    slopes: Sequence[tuple[float, str]] = ()


def portrait(activation: Activation, title: str, lower: float, upper: float, marks: Marks | None = None) -> Figure:
    """f, f' and f'' of an activation on [lower, upper], one above the other, with what is known about them marked."""
    marks = marks or Marks()
    with style():
        figure = Figure(figsize=(6.4, 6.6), layout="constrained")
        rows = figure.subplots(3, 1, sharex=True, height_ratios=(1.5, 1, 1))
        names = ("f(x)", "f′(x)", "f″(x)")
        lines = (marks.levels, marks.slopes, ())
        for k, (axes, curve) in enumerate(zip(rows, curves(activation, 2), strict=True)):
            _graph(axes, curve, lower, upper, marks.jumps[k], COLOURS[k])
            _levels(axes, lines[k])
            axes.set_ylabel(names[k])
            for kink in marks.kinks:
                if lower < kink < upper:
                    axes.axvline(kink, color=GREY, linewidth=0.9, linestyle=(0, (1, 2)))
            _shade(axes, marks.saturated, lower, upper)
        rows[0].set_title(title, pad=10)
        rows[-1].set_xlabel("x")
        rows[-1].set_xlim(lower, upper)
        rows[0].legend(*_legend(marks, lower, upper), loc="best")
    return figure


def _graph(axes: Axes, curve: Curve, lower: float, upper: float, jumps: Sequence[float], colour: str) -> None:
    x = _samples(lower, upper, jumps)
    y = np.array([math.nan if math.isnan(v) else curve(v) for v in x.tolist()])
    y[~np.isfinite(y)] = np.nan
    axes.plot(x, y, color=colour)
    axes.axhline(0, color=GREY, linewidth=0.7)
    if np.isfinite(y).any() and np.nanmin(y) == np.nanmax(y):
        axes.set_ylim(float(np.nanmin(y)) - 1, float(np.nanmax(y)) + 1)


def _samples(lower: float, upper: float, jumps: Sequence[float]) -> np.ndarray:
    """Even points; at a jump a point on each side and a gap (NaN) between, so that no line joins them."""
    x = np.linspace(lower, upper, 1201)
    beside = 1e-9 * (upper - lower)
    for jump in jumps:
        if lower < jump < upper:
            x = x[~(np.abs(x - jump) <= beside)]
            place = int(np.searchsorted(np.nan_to_num(x, nan=-math.inf), jump))
            x = np.insert(x, place, [jump - beside, math.nan, jump + beside])
    return x


def _levels(axes: Axes, levels: Sequence[tuple[float, str]]) -> None:
    for value, label in levels:
        if math.isfinite(value):
            axes.axhline(value, color=GREY, linewidth=0.9, linestyle="--")
            axes.annotate(
                label, (1, value), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=8, color=GREY,
            )  # fmt: skip


def _shade(axes: Axes, saturated: tuple[float | None, float | None], lower: float, upper: float) -> None:
    left, right = saturated
    if left is not None and left > lower:
        axes.axvspan(lower, min(left, upper), color=ORANGE, alpha=0.1, linewidth=0)
    if right is not None and right < upper:
        axes.axvspan(max(right, lower), upper, color=ORANGE, alpha=0.1, linewidth=0)


def _legend(marks: Marks, lower: float, upper: float) -> tuple[list[object], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[tuple[object, str]] = []
    if any(lower < k < upper for k in marks.kinks):
        entries.append((Line2D([], [], color=GREY, linewidth=0.9, linestyle=(0, (1, 2))), "kink"))
    left, right = marks.saturated
    if (left is not None and left > lower) or (right is not None and right < upper):
        entries.append((Patch(color=ORANGE, alpha=0.2), "saturated: |f′| < 0.01"))
    return [e[0] for e in entries], [e[1] for e in entries]
