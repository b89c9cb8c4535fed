"""What the study found, drawn. Colours and fonts are the caller's: whoever draws sets matplotlib's style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from varphi.study import Figure
from varphi.study.results import Results, Row

from .radius import Method
from .training import CONSTRAINED, EQUAL_ACCURACY
from .trial import ALL, FEW, FEW_METHODS, INF, INF_METHODS, METHODS, RADII

_WIDTH = 5.6
_LABELS = {
    "product": "the chapter's bound",
    "pairwise": "pairwise product",
    "lipschitz": "layered recursion",
    "ibp": "intervals",
    "crown": "CROWN",
    "local-lipschitz": "local recursion",
    "alpha-crown": "α-CROWN",
    "crown-split": "CROWN, ball cut",
    "attack": "attack (no proof reaches further)",
}
# One for each method in all figures; the page's cycle has too few.
_COLOURS = {
    "product": "C0",
    "pairwise": "C1",
    "lipschitz": "C2",
    "ibp": "C3",
    "crown": "C4",
    "local-lipschitz": "C5",
    "alpha-crown": "#E69F00",
    "crown-split": "#4B2E83",
    "attack": "0.4",
}
_ASKED: dict[str, tuple[Method, ...]] = {ALL: METHODS, INF: INF_METHODS, FEW: FEW_METHODS}
_NORM = {ALL: "L2", INF: "L∞", FEW: "L2"}


def figures(results: Results) -> list[Figure]:
    """The figures of the report, in order."""
    found = []
    for net in results.levels("net"):
        found += [_accuracy(results, net, which) for which in (ALL, INF)]
        found += [_gap(results, net, which, told) for which, told in _GAPS.items()]
        found += [_constants(results, net), _cost(results, net)]
    return found


def _accuracy(results: Results, net: str, which: str) -> Figure:
    """Certified accuracy against radius, ReLU with and without 1-Lipschitz layers."""
    trainings = [t for t in (EQUAL_ACCURACY, CONSTRAINED) if t in results.levels("training")]
    names = (*_ASKED[which], "attack")
    drawing = Drawing(figsize=(_WIDTH, 3.1), layout="constrained")
    axes = drawing.subplots(1, len(trainings), sharey=True, squeeze=False)[0]
    for panel, training in zip(axes, trainings, strict=True):
        row = results.one(net=net, training=training, activation="relu")
        for name in names:
            _band(panel, RADII[which], row.curves[f"{which}{name}"][row.chosen], _COLOURS[name], _style(name))
        panel.set_title(training, fontsize=9.5)
        panel.set_xlabel(f"radius ({_NORM[which]})")
        panel.set_ylim(0, 1)
    axes[0].set_ylabel("certified accuracy")
    marks = [Line2D([], [], color=_COLOURS[n], linestyle=_style(n), label=_LABELS[n]) for n in names]
    drawing.legend(handles=marks, loc="outside lower center", ncols=2)
    return Figure(
        f"Certified accuracy against radius ({_NORM[which]}), {net}",
        "ReLU. Share of held-out images that are classified correctly and certified to a radius; median over seeds "
        "with the middle half. Between a method and the dashed line nothing is known.",
        drawing,
    )


def _style(name: str) -> Literal["-", "--"]:
    return "--" if name == "attack" else "-"


def _band(panel: Axes, radii: np.ndarray, curves: np.ndarray, colour: str, style: Literal["-", "--"]) -> None:
    low, middle, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
    panel.plot(radii, middle, color=colour, linestyle=style, linewidth=1.4)
    panel.fill_between(radii, low, high, color=colour, alpha=0.15, linewidth=0)


_GAPS = {
    ALL: "All images, L2.",
    FEW: "The few images that the dear methods are asked about, L2, one of a seed.",
    INF: "All images, L∞.",
}


def _gap(results: Results, net: str, which: str, told: str) -> Figure:
    """Each method's radius as a share of the attack's."""
    rows = results.where(net=net, training=EQUAL_ACCURACY)
    names, methods = [row.setting["activation"] for row in rows], _ASKED[which]
    drawing = Drawing(figsize=(_WIDTH, 1.3 + (0.12 + 0.06 * len(methods)) * len(rows)), layout="constrained")
    panel = drawing.subplots()
    for place, method in enumerate(methods):
        for line, row in enumerate(rows):
            offset = (place - (len(methods) - 1) / 2) * 0.75 / len(methods)
            _dots(panel, line + offset, _share(row, which, method), _COLOURS[method])
    panel.axvline(1.0, linestyle="--", linewidth=0.8, color="0.5")
    panel.set_xlim(0, 1.05)
    _lines(panel, names, "median certified radius / median radius of the attack")
    _legend(drawing, methods)
    title = f"Gap to the attack ({_NORM[which]}{', dear methods' if which == FEW else ''}), {net}"
    caption = f"Equal accuracy. {told} A dot is a seed, a bar their median; at the dashed line proof and attack meet."
    return Figure(title, caption, drawing)


def _share(row: Row, which: str, method: str) -> np.ndarray:
    return row.values(f"{which}radius_{method}") / row.values(f"{which}attacked")


# The constants, and the methods whose radii follow from them.
_CONSTANTS = {"product": "product", "layered": "lipschitz"}


def _constants(results: Results, net: str) -> Figure:
    """Bounds of the Lipschitz constant over what is attained."""
    rows = results.where(net=net, training=EQUAL_ACCURACY)
    drawing = Drawing(figsize=(_WIDTH, 1.1 + 0.34 * len(rows)), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    for line, row in enumerate(rows):
        for place, (name, method) in enumerate(_CONSTANTS.items()):
            ratio = row.values(f"lipschitz_{name}") / row.values("lipschitz_attained")
            _dots(left, line + (place - 0.5) * 0.25, ratio, _COLOURS[method])
        _dots(right, line, row.values("lipschitz_layered"), _COLOURS["lipschitz"])
    left.axvline(1.0, linestyle="--", linewidth=0.8, color="0.5")
    _logarithmic(right)
    _lines(left, [row.setting["activation"] for row in rows], "bound / attained")
    right.set_xlabel("layered bound (logarithmic)")
    _legend(drawing, tuple(_CONSTANTS.values()))
    return Figure(
        f"Global Lipschitz constants, {net}",
        "Equal accuracy. Left: proved bounds over the largest ‖Jacobian‖₂ that was found. Right: the bound itself.",
        drawing,
    )


_COSTS = [*((ALL, m) for m in METHODS), *((FEW, m) for m in FEW_METHODS if m not in METHODS)]


def _cost(results: Results, net: str) -> Figure:
    """What each method gives against what it costs."""
    rows = results.where(net=net, training=EQUAL_ACCURACY)
    drawing = Drawing(figsize=(_WIDTH, 3.0), layout="constrained")
    panel = drawing.subplots()
    for which, method in _COSTS:
        share = [np.nanmedian(_share(r, which, method)) for r in rows]
        seconds = [np.nanmedian(r.values(f"{which}seconds_{method}")) for r in rows]
        panel.plot(seconds, share, "o", color=_COLOURS[method], markersize=4, alpha=0.8, markeredgewidth=0)
    _logarithmic(panel)
    panel.set_ylim(0, 1.02)
    panel.set_xlabel("seconds an image (logarithmic)")
    panel.set_ylabel("certified / attack")
    _legend(drawing, [method for _, method in _COSTS])
    return Figure(
        f"Cost and gain, {net}",
        "Equal accuracy, L2. A dot is an activation, medians over seeds; of local recursion, α-CROWN and cutting the "
        "ball on the few images that they were asked about. Wall time on whatever else the machine did.",
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
    low, high = panel.get_xlim()
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,), numticks=12))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _lines(panel: Axes, names: Sequence[str], label: str) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel(label)


def _legend(drawing: Any, methods: Sequence[str]) -> None:
    marks = [
        Line2D([], [], color=_COLOURS[m], marker="o", linestyle="", markersize=4, label=_LABELS[m]) for m in methods
    ]
    drawing.legend(handles=marks, loc="outside lower center", ncols=min(3, len(methods)))
