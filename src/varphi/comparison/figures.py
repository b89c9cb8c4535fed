"""Drawings of a comparison: the measure seed by seed, and how gradients pass the layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure as Drawing

from varphi.study.declaration import Figure
from varphi.study.results import Results

from .trial import Trial, curve


def figures(results: Results) -> list[Figure]:
    """The measure of every seed; and, where gradients were seen, their norm in every layer."""
    trial = results.study.trial
    assert isinstance(trial, Trial)
    labels = results.levels("activation")
    drawn = [
        Figure(
            f"{trial.measures[0]}, seed by seed",
            f"A line for each of {len(results.seeds)} seeds: the same initial weights, the same random numbers. "
            f"{'Lower' if trial.best == 'lowest' else 'Higher'} is better; the thick marks are medians.",
            _seed_by_seed(results, trial, labels),
        )
    ]
    norms = {label: _norms(results, label) for label in labels}
    if any(np.isfinite(both).any() for both in norms.values()):
        drawn.append(
            Figure(
                "Gradient norm in every layer",
                "Of the loss, by what enters the activations: at the start (dotted) and at the end of the training "
                "(solid), medians over seeds.",
                _by_layer(trial, norms),
            )
        )
    return drawn


def _seed_by_seed(results: Results, trial: Trial, labels: tuple[str, ...]) -> Drawing:
    drawing = Drawing(figsize=(6.4, 3.2), layout="constrained")
    axes = drawing.subplots()
    values = np.array([results.values(trial.measures[0], activation=label) for label in labels])
    values = np.where(np.isfinite(values), values, np.nan)
    axes.plot(values, color="#999999", linewidth=0.7, marker="o", markersize=3)
    middles = [np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in values]
    axes.plot(middles, linestyle="none", marker="_", markersize=22, markeredgewidth=3, color="#D55E00")
    axes.set_xticks(range(len(labels)), labels, rotation=20, ha="right")
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylabel(trial.measures[0])
    return drawing


def _norms(results: Results, label: str) -> np.ndarray:
    """Medians over seeds, (stage, place)."""
    row = results.one(activation=label)
    both = np.stack([row.curves[curve(stage, "gradient")][row.chosen] for stage in ("start", "end")])
    masked: Any = np.ma.masked_invalid(both)
    return np.ma.median(masked, axis=1).filled(np.nan)


def _by_layer(trial: Trial, norms: dict[str, np.ndarray]) -> Drawing:
    drawing = Drawing(figsize=(6.4, 3.2), layout="constrained")
    axes = drawing.subplots()
    for i, (label, (start, end)) in enumerate(norms.items()):
        axes.plot(start, marker="o", markersize=3, linestyle=":", color=f"C{i}")
        axes.plot(end, marker="o", markersize=3, color=f"C{i}", label=label)
    axes.set_xticks(range(len(trial.places)), [p.label for p in trial.places], rotation=20, ha="right")
    axes.set_yscale("log")
    axes.set_ylabel("gradient norm")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return drawing
