"""Circuits and what the study found, drawn. Colours and fonts are the caller's, by matplotlib's style."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure as Drawing

from varphi.study import Figure
from varphi.study.results import Results

from .measures import Pulse, Response

_WIDTH, _GREY = 5.6, "#9A9A9A"
_SHOWN = {"pulse": "with a pulse", "late": "later than simple", "monotone": "monotone"}


def figures(results: Results) -> list[Figure]:
    """The figures of the report on `circuits`."""
    return [_shares(results, gate) for gate in results.levels("gate")]


def _shares(results: Results, gate: str) -> Figure:
    drawing = Drawing(figsize=(_WIDTH, 3.0), layout="constrained")
    axes = drawing.subplots(1, len(_SHOWN), sharey=True)
    steps = results.levels("n")
    loops = [loop for loop in results.levels("loop") if results.where(loop=loop, gate=gate)]
    for panel, (measure, label) in zip(axes, _SHOWN.items(), strict=True):
        for i, n in enumerate(steps):
            means = [float(np.nanmean(results.values(measure, loop=loop, gate=gate, n=n))) for loop in loops]
            places = np.arange(len(loops)) + 0.22 * (i - (len(steps) - 1) / 2)
            panel.plot(means, places, "o", markersize=4, color=f"C{i}", label=f"n = {n:g}")
        panel.set_xlim(-0.03, 1.03)
        panel.set_title(label, fontsize=8.5)
        panel.set_yticks(range(len(loops)), loops)
    axes[0].set_ylim(len(loops) - 0.5, -0.5)
    axes[len(axes) // 2].set_xlabel("share of parameter sets")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(steps))
    return Figure(
        f"What random loops do, {gate} gate",
        "X steps from 0 to 1. A dot is the mean share over seeds of random parameter sets; simple: simple regulation. "
        "Intervals of differences stand with the verdicts.",
        drawing,
    )


def time_course(answer: Response, sample: int = 0, points: int = 400) -> Any:
    """One sample's output after the step, with its steady levels and its pulse; axes carry the units.

    Returns:
        A matplotlib figure.
    """
    end = float(answer.horizon[sample])
    times = np.linspace(0, end, points)
    course = answer._only(np.array([sample])).course(times).state(answer.output)[0]
    units = answer.system.units
    drawing = Drawing(figsize=(_WIDTH, 3.0), layout="constrained")
    panel = drawing.subplots()
    panel.plot(times, course, color="C0")
    panel.axhline(float(answer.last[sample]), color=_GREY, linewidth=0.8, linestyle="--")
    pulse = answer.pulses()[sample]
    if isinstance(pulse, Pulse):
        panel.plot([pulse.time], [pulse.peak], "o", color="C1")
        amount, time = (f" {u}" if u != "1" else "" for u in (units.get(answer.output, "1"), units.get("t", "1")))
        panel.set_title(
            f"pulse of {pulse.amplitude:.3g}{amount} at {pulse.time:.3g}{time}, {pulse.width:.3g}{time} wide",
            fontsize=9,
        )
    else:
        panel.set_title(f"no pulse: {pulse.reason}", fontsize=9)
    panel.set_xlabel(_labelled("time", units.get("t", "1")))
    panel.set_ylabel(_labelled(answer.output, units.get(answer.output, "1")))
    return drawing


def parameter_map(
    x: tuple[str, np.ndarray], y: tuple[str, np.ndarray], values: np.ndarray, what: str, units: Any = None, *,
    failed: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """A measure over two parameters, one dot for each sample, on logarithmic axes; hollow where there is none.

    Infinite values are drawn in the colour of the largest finite one. Samples that failed are crosses.

    Args:
        x, y: names and values (samples,).
        values: the measure (samples,), NaN where absent.
        units: by name.
        failed: which samples came to no rest or could not be simulated.

    Returns:
        A matplotlib figure.
    """
    units = units or {}
    drawing = Drawing(figsize=(_WIDTH, 4.0), layout="constrained")
    panel = drawing.subplots()
    lost = np.zeros(len(values), bool) if failed is None else failed
    there = ~np.isnan(values) & ~lost
    absent = ~there & ~lost
    panel.scatter(
        x[1][absent],
        y[1][absent],
        s=5,
        facecolors="none",
        edgecolors=_GREY,
        linewidths=0.4,
        label=f"none: {absent.sum()}",
    )
    if lost.any():
        panel.scatter(
            x[1][lost], y[1][lost], s=10, marker="x", color="C3", linewidths=0.7, label=f"failed: {lost.sum()}"
        )
    finite = values[there & np.isfinite(values)]
    shown = np.clip(values[there], None, finite.max()) if finite.size else values[there]
    wide = finite.size > 0 and finite.min() > 0 and finite.max() > 100 * np.median(finite)
    dots = panel.scatter(x[1][there], y[1][there], s=7, c=shown, norm="log" if wide else None)
    if absent.any() or lost.any():
        drawing.legend(
            *panel.get_legend_handles_labels(), loc="outside upper right", fontsize=8, ncols=2, frameon=False
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel(_labelled(x[0], units.get(x[0], "1")))
    panel.set_ylabel(_labelled(y[0], units.get(y[0], "1")))
    drawing.colorbar(dots, ax=panel, label=what)
    return drawing


def _labelled(name: str, unit: str) -> str:
    return name if unit == "1" else f"{name} ({unit})"
