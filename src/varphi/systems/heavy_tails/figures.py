"""What the studies found, drawn. Colours and fonts are the caller's: whoever draws sets matplotlib's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import nn

from varphi.study import Figure
from varphi.study.results import Results, Row

from .influence import influence
from .losses import AutoHuber, AutoTukey, CauchyNLL, StudentTNLL
from .peers import PEERS
from .training import HEADS, LOSSES

_WIDTH = 5.6
_MAIN, _CLEAN = "γ = 0.1", "no noise"
_INFLUENCES = {
    "squared": nn.MSELoss,
    "absolute": nn.L1Loss,
    "Huber": AutoHuber,
    "Tukey": AutoTukey,
    "Cauchy": CauchyNLL,
    "t3": StudentTNLL,
}


def figures(results: Results) -> list[Figure]:
    """The figures of the report on `heavy_tails`, in order."""
    found = [
        _by_head_and_loss(results),
        _beside_classical(results),
        _influences(),
        _gradients(results),
        _speed(results),
    ]
    others = [labels for labels in results.levels("labels") if labels not in (_MAIN, _CLEAN)]
    return [*found, _other_labels(results, others)] if others else found


def real_figures(results: Results) -> list[Figure]:
    """The figures of the report on `heavy_tails_real`."""
    data = results.levels("data")
    drawing = Drawing(figsize=(_WIDTH, 0.9 + 2.3 * len(data)), layout="constrained")
    axes = drawing.subplots(len(data), 1, squeeze=False)[:, 0]
    heads = [head for head in results.levels("head") if head in HEADS]
    for panel, name in zip(axes, data, strict=True):
        rows = [row for row in results.where(data=name) if row.setting["loss"] in LOSSES]
        _grouped(panel, rows, "error", "loss", "head", heads)
        classical = [r for r in results.where(data=name) if r.setting["loss"] in PEERS]
        _classical_lines(panel, {"least squares": "--", "Tukey (statsmodels RLM)": "-"}, classical)
        panel.set_title(name, fontsize=9.5)
        panel.set_xlabel("median |error| on held-out rows, in the label's unit (logarithmic)")
    _legend(drawing, heads)
    return [
        Figure(
            "Held-out error on real labels",
            "A dot is a random split, a bar their median; lower is better. Vertical lines: least squares (dashed) and "
            "Tukey's robust line (solid), medians over the same splits.",
            drawing,
        )
    ]


def _by_head_and_loss(results: Results) -> Figure:
    methods = [m for m in results.levels("optimiser") if m in ("Adam", "SGD")]
    losses = [loss for loss in results.levels("loss") if loss in LOSSES]
    drawing = Drawing(figsize=(_WIDTH, 0.9 + (0.42 * len(losses) + 0.5) * len(methods)), layout="constrained")
    axes = drawing.subplots(len(methods), 1, sharex=True, squeeze=False)[:, 0]
    for panel, method in zip(axes, methods, strict=True):
        rows = results.where(labels=_MAIN, hidden="tanh", optimiser=method)
        _grouped(panel, rows, "error", "loss", "head", list(HEADS), limit=10.0)
        _classical_lines(panel, {_best(results): "-"}, results.where(labels=_MAIN, hidden="none"))
        panel.set_title(method, fontsize=9.5)
    axes[-1].set_xlabel("median |error| on the truth (logarithmic)")
    _legend(drawing, list(HEADS))
    return Figure(
        "Error by head and loss",
        "Cauchy noise, γ = 0.1, hidden tanh. A dot is a seed, a bar their median; lower is better. The vertical line "
        f"is the best classical fit, {_best(results)}. Runs beyond 10 or diverged are counted at the right.",
        drawing,
    )


def _beside_classical(results: Results) -> Figure:
    nets = [
        row
        for hidden in ("tanh", "gelu")
        for row in results.where(labels=_MAIN, hidden=hidden, loss="Cauchy", optimiser="Adam")
    ]
    rows = [*nets, *results.where(labels=_MAIN, hidden="none")]
    names = [f"{r.setting['hidden']} net, {r.setting['head']}" for r in nets]
    names += [row.setting["loss"] for row in rows[len(nets) :]]
    drawing = Drawing(figsize=(_WIDTH, 0.6 + 0.27 * len(rows)), layout="constrained")
    panel = drawing.subplots()
    for place, row in enumerate(rows):
        _dots(panel, place, row.values("error"), "C1" if row in nets else "C5", limit=1.0)
    _lines(panel, names, "median |error| on the truth (logarithmic)")
    return Figure(
        "Nets with Cauchy likelihood beside classical fits",
        "Cauchy noise, γ = 0.1, Adam. Classical fits are linear in the Chebyshev polynomials T₀ to T₇, a basis that "
        "suits the truth; the nets know no basis. Runs beyond 1 are counted at the right.",
        drawing,
    )


def _influences() -> Figure:
    drawing = Drawing(figsize=(_WIDTH, 3.0), layout="constrained")
    panel = drawing.subplots()
    found = {name: influence(loss(), name) for name, loss in _INFLUENCES.items()}
    for curve in found.values():
        curve.plot(panel, limit=8.0, linewidth=1.4)
    panel.set_ylim(-3.2, 3.2)
    drawing.legend(*panel.get_legend_handles_labels(), loc="outside right center")
    told = "; ".join(f"{n} {i.efficiency_normal:.0%} and {i.efficiency_cauchy:.0%}" for n, i in found.items())
    return Figure(
        "How far one residual pulls",
        "Influence ψ at the scale each loss takes under standard normal noise, slope 1 at 0 where it has one. "
        f"Asymptotic efficiency for a location under normal and under Cauchy noise: {told}.",
        drawing,
    )


def _gradients(results: Results) -> Figure:
    losses = [loss for loss in results.levels("loss") if loss in LOSSES]
    drawing = Drawing(figsize=(_WIDTH, 1.1 + 0.42 * len(losses)), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    rows = results.where(labels=_MAIN, hidden="tanh", optimiser="Adam")
    _grouped(left, rows, "top_share", "loss", "head", list(HEADS))
    left.axvline(0.01, linestyle="--", linewidth=0.8, color="0.5")
    left.set_xlabel("share of the largest 1 %")
    _grouped(right, rows, "tail", "loss", "head", list(HEADS), limit=100.0)
    right.axvline(2, linestyle="--", linewidth=0.8, color="0.5")
    right.set_xlabel("tail index")
    _legend(drawing, list(HEADS))
    return Figure(
        "Who carries the gradient",
        "Gradient with respect to pre-activations at the end of training (Adam, γ = 0.1). Left: an equal share would "
        "be 1 % (dashed). Right: left of the dashed line its variance is infinite; indices beyond 100 (no tail) are "
        "counted at the right, seeds with too few non-zero gradients left out.",
        drawing,
    )


def _speed(results: Results) -> Figure:
    methods = [m for m in results.levels("optimiser") if m in ("Adam", "SGD")]
    cases = [(_CLEAN, "squared"), (_MAIN, "squared"), (_MAIN, "Cauchy")]
    drawing = Drawing(figsize=(_WIDTH, 0.7 + 1.7 * len(methods)), layout="constrained")
    axes = drawing.subplots(len(methods), len(cases), sharex=True, sharey=True, squeeze=False)
    for line, method in zip(axes, methods, strict=True):
        for panel, (labels, loss) in zip(line, cases, strict=True):
            for place, head in enumerate(HEADS):
                row = results.one(labels=labels, loss=loss, hidden="tanh", head=head, optimiser=method)
                _curve(panel, row, f"C{place}")
            panel.set_yscale("log")
            panel.set_title(f"{loss}, {labels}", fontsize=9)
        line[0].set_ylabel(f"median |error|, {method}")
    for panel in axes[-1]:
        panel.set_xlabel("training, %")
    _legend(drawing, list(HEADS))
    return Figure(
        "Training curves",
        "Error on the truth, median over seeds with the middle half, each setting at the learning rate it chose.",
        drawing,
    )


def _curve(panel: Axes, row: Row, colour: str) -> None:
    curves = np.nan_to_num(row.curves["error"][row.chosen], nan=np.inf)
    done = 100 * np.arange(1, curves.shape[1] + 1) / curves.shape[1]
    low, middle, high = np.quantile(np.minimum(curves, 1e3), [0.25, 0.5, 0.75], axis=0)
    panel.plot(done, middle, color=colour, linewidth=1.4)
    panel.fill_between(done, low, high, color=colour, alpha=0.15, linewidth=0)


def _other_labels(results: Results, others: Sequence[str]) -> Figure:
    losses = ("squared", "absolute", "Cauchy")
    drawing = Drawing(figsize=(_WIDTH, 0.8 + 1.9 * len(others)), layout="constrained")
    axes = drawing.subplots(len(others), 1, sharex=True, squeeze=False)[:, 0]
    for panel, labels in zip(axes, others, strict=True):
        rows = [r for r in results.where(labels=labels, hidden="tanh") if r.setting["loss"] in losses]
        _grouped(panel, rows, "error", "loss", "head", list(HEADS), limit=10.0)
        _classical_lines(panel, {_best(results, labels): "-"}, results.where(labels=labels, hidden="none"))
        panel.set_title(f"{labels}: best classical fit {_best(results, labels)}", fontsize=9.5)
    axes[-1].set_xlabel("median |error| on the truth (logarithmic)")
    _legend(drawing, list(HEADS))
    return Figure(
        "Stronger noise, and a truth outside the head's range",
        "Hidden tanh, Adam. With A = 1.5 the truth leaves [-1, 1] on a part of the inputs; a tanh head cannot follow.",
        drawing,
    )


# Parts ---------------------------------------------------------------------------------------------------------------


def _best(results: Results, labels: str = _MAIN) -> str:
    rows = results.where(labels=labels, hidden="none")
    return min(rows, key=lambda row: float(np.median(row.values("error")))).setting["loss"]


def _grouped(
    panel: Axes,
    rows: Sequence[Row],
    measure: str,
    lines: str,
    colours: str,
    levels: Sequence[str],
    limit: float = np.inf,
) -> None:
    """A line for each level of one factor, in it a row of dots for each level of another."""
    names = list(dict.fromkeys(row.setting[lines] for row in rows))
    for row in rows:
        offset = (levels.index(row.setting[colours]) - (len(levels) - 1) / 2) * 0.27
        place, colour = names.index(row.setting[lines]) + offset, f"C{levels.index(row.setting[colours])}"
        _dots(panel, place, row.values(measure), colour, limit, height=0.09)
    _lines(panel, names, "")


def _dots(
    panel: Axes, place: float, values: np.ndarray, colour: str, limit: float = np.inf, height: float = 0.25
) -> None:
    inside = values[np.isfinite(values) & (values <= limit)]
    jitter = np.random.default_rng(0).uniform(-0.7 * height, 0.7 * height, len(inside))
    panel.plot(inside, place + jitter, "o", color=colour, markersize=2.6, alpha=0.5, markeredgewidth=0)
    middle = float(np.median(np.where(np.isnan(values), np.inf, values)))
    if middle <= limit and np.isfinite(middle):
        panel.vlines(middle, place - height - 0.03, place + height + 0.03, color=colour, linewidth=2.2)
    beyond = int((values > limit).sum())
    if beyond:
        # Beside the panel, where no dot can lie under it.
        panel.annotate(
            f"{beyond} →",
            (1.0, place),
            (3, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=8,
        )


def _lines(panel: Axes, names: Sequence[str], label: str) -> None:
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel(label)


def _classical_lines(panel: Axes, styles: Mapping[str, str], rows: Sequence[Row]) -> None:
    for row in rows:
        if row.setting["loss"] in styles:
            place = float(np.median(row.values("error")))
            panel.axvline(place, linestyle=styles[row.setting["loss"]], linewidth=0.9, color="0.5")


def _legend(drawing: Any, levels: Sequence[str]) -> None:
    marks = [Line2D([], [], color=f"C{i}", marker="o", markersize=4, label=level) for i, level in enumerate(levels)]
    drawing.legend(handles=marks, loc="outside lower center", ncols=len(levels))
