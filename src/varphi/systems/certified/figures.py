"""What the study found, drawn. Colours and fonts are the caller's: whoever draws sets matplotlib's style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from varphi.study import Figure
from varphi.study.results import Results

from .training import CONSTRAINED, EQUAL_ACCURACY
from .trial import METHODS, RADII

_WIDTH = 5.6
_LABELS = {
    "product": "the chapter's bound",
    "pairwise": "pairwise product",
    "lipschitz": "layered recursion",
    "ibp": "intervals",
    "crown": "CROWN",
    "attack": "attack (no proof reaches further)",
}


def figures(results: Results) -> list[Figure]:
    """The figures of the report, in order."""
    found = []
    for net in results.levels("net"):
        found += [_accuracy(results, net), _gap(results, net), _constants(results, net), _cost(results, net)]
    return found


def _accuracy(results: Results, net: str) -> Figure:
    """Certified accuracy against radius, ReLU with and without 1-Lipschitz layers."""
    trainings = [t for t in (EQUAL_ACCURACY, CONSTRAINED) if t in results.levels("training")]
    drawing = Drawing(figsize=(_WIDTH, 3.1), layout="constrained")
    axes = drawing.subplots(1, len(trainings), sharey=True, squeeze=False)[0]
    for panel, training in zip(axes, trainings, strict=True):
        row = results.one(net=net, training=training, activation="relu")
        for place, name in enumerate((*METHODS, "attack")):
            colour, style = ("0.4", "--") if name == "attack" else (f"C{place}", "-")
            _band(panel, row.curves[name][row.chosen], colour, style)
        panel.set_title(training, fontsize=9.5)
        panel.set_xlabel("radius (L2)")
        panel.set_ylim(0, 1)
    axes[0].set_ylabel("certified accuracy")
    marks = [
        Line2D(
            [],
            [],
            color="0.4" if n == "attack" else f"C{i}",
            linestyle="--" if n == "attack" else "-",
            label=_LABELS[n],
        )
        for i, n in enumerate((*METHODS, "attack"))
    ]
    drawing.legend(handles=marks, loc="outside lower center", ncols=2)
    return Figure(
        f"Certified accuracy against radius, {net}",
        "ReLU. Share of held-out images that are classified correctly and certified to a radius; median over seeds "
        "with the middle half. Between a method and the dashed line nothing is known.",
        drawing,
    )


def _band(panel: Axes, curves: np.ndarray, colour: str, style: str) -> None:
    low, middle, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
    panel.plot(RADII, middle, color=colour, linestyle=style, linewidth=1.4)
    panel.fill_between(RADII, low, high, color=colour, alpha=0.15, linewidth=0)


def _gap(results: Results, net: str) -> Figure:
    """Each method's radius as a share of the attack's."""
    rows = results.where(net=net, training=EQUAL_ACCURACY)
    names = [row.setting["activation"] for row in rows]
    drawing = Drawing(figsize=(_WIDTH, 1.3 + 0.42 * len(rows)), layout="constrained")
    panel = drawing.subplots()
    for place, method in enumerate(METHODS):
        for line, row in enumerate(rows):
            share = row.values(f"radius_{method}") / row.values("attacked")
            _dots(panel, line + (place - 2) * 0.15, share, f"C{place}")
    panel.axvline(1.0, linestyle="--", linewidth=0.8, color="0.5")
    panel.set_xlim(0, 1.05)
    _lines(panel, names, "median certified radius / median radius of the attack")
    _legend(drawing, [_LABELS[m] for m in METHODS])
    return Figure(
        f"Gap to the attack, {net}",
        "Equal accuracy. A dot is a seed, a bar their median; at the dashed line proof and attack would meet.",
        drawing,
    )


def _constants(results: Results, net: str) -> Figure:
    """Bounds of the Lipschitz constant over what is attained."""
    rows = results.where(net=net, training=EQUAL_ACCURACY)
    drawing = Drawing(figsize=(_WIDTH, 1.1 + 0.34 * len(rows)), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    for line, row in enumerate(rows):
        for place, name in enumerate(("product", "layered")):
            ratio = row.values(f"lipschitz_{name}") / row.values("lipschitz_attained")
            _dots(left, line + (place - 0.5) * 0.25, ratio, f"C{place}")
        _dots(right, line, row.values("lipschitz_layered"), "C1")
    left.axvline(1.0, linestyle="--", linewidth=0.8, color="0.5")
    _logarithmic(right)
    _lines(left, [row.setting["activation"] for row in rows], "bound / attained")
    right.set_xlabel("layered bound (logarithmic)")
    _legend(drawing, ["product of norms", "layered recursion"])
    return Figure(
        f"Global Lipschitz constants, {net}",
        "Equal accuracy. Left: proved bounds over the largest ‖Jacobian‖₂ that was found. Right: the bound itself.",
        drawing,
    )


def _cost(results: Results, net: str) -> Figure:
    """What each method gives against what it costs."""
    rows = results.where(net=net, training=EQUAL_ACCURACY)
    drawing = Drawing(figsize=(_WIDTH, 3.0), layout="constrained")
    panel = drawing.subplots()
    for place, method in enumerate(METHODS):
        share = [np.median(r.values(f"radius_{method}") / r.values("attacked")) for r in rows]
        seconds = [np.median(r.values(f"seconds_{method}")) for r in rows]
        panel.plot(seconds, share, "o", color=f"C{place}", markersize=4, alpha=0.8, markeredgewidth=0)
    _logarithmic(panel)
    panel.set_ylim(0, 1)
    panel.set_xlabel("seconds for all samples of a network (logarithmic)")
    panel.set_ylabel("certified / attack")
    _legend(drawing, [_LABELS[m] for m in METHODS])
    return Figure(
        f"Cost and gain, {net}",
        "Equal accuracy. A dot is an activation, medians over seeds. Wall time on whatever else the machine did.",
        drawing,
    )


# Parts ---------------------------------------------------------------------------------------------------------------


def _dots(panel: Axes, place: float, values: np.ndarray, colour: str) -> None:
    inside = values[np.isfinite(values)]
    panel.plot(inside, np.full(len(inside), place), "o", color=colour, markersize=2.6, alpha=0.5, markeredgewidth=0)
    if len(inside):
        panel.vlines(float(np.median(inside)), place - 0.09, place + 0.09, color=colour, linewidth=2.2)


def _logarithmic(panel: Axes) -> None:
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _lines(panel: Axes, names: Sequence[str], label: str) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel(label)


def _legend(drawing: Any, labels: Sequence[str]) -> None:
    marks = [
        Line2D([], [], color=f"C{i}", marker="o", linestyle="", markersize=4, label=t) for i, t in enumerate(labels)
    ]
    drawing.legend(handles=marks, loc="outside lower center", ncols=min(3, len(labels)))
