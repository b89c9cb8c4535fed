"""What the study found, drawn. Colours and fonts are the caller's: whoever draws sets matplotlib's style."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from varphi.study import Figure
from varphi.study.results import Results, Row

_WIDTH = 5.6
_INFINITE = "∞"


def figures(results: Results) -> list[Figure]:
    """The figures of the report, in order."""
    return [_deviances(results), _dead(results), _zeros(results), _curves(results)]


def _deviances(results: Results) -> Figure:
    nets, losses = results.levels("net"), results.levels("loss")
    drawing = Drawing(figsize=(_WIDTH, 0.6 + 1.75 * len(nets)), layout="constrained")
    axes = drawing.subplots(len(nets), len(losses), sharex=True, sharey=True, squeeze=False)
    panels = {
        (net, loss): results.where(target="visits", start="mean", net=net, loss=loss) for net in nets for loss in losses
    }
    finite = [v for rows in panels.values() for row in rows for v in row.values("deviance") if np.isfinite(v)]
    # The few very bad runs would press all others into one line: they are counted at the edge instead.
    limit = float(np.quantile(finite, 0.97))
    for (net, loss), rows in panels.items():
        panel = axes[nets.index(net)][losses.index(loss)]
        _dots(panel, rows, "deviance", limit)
        panel.set_title(f"{net}, {loss}", fontsize=9.5)
    for panel in axes[-1]:
        panel.set_xlabel("Poisson deviance")
        panel.set_xlim(min(finite) - 0.05 * (limit - min(finite)), limit + 0.05 * (limit - min(finite)))
    return Figure(
        "Held-out deviance, bias started at the data's mean",
        f"A dot is a seed, a bar their median; lower is better. Runs beyond {limit:.2f}, or infinite because a "
        "positive count was given likelihood 0 (an exact zero, or a negative prediction), are counted at the right.",
        drawing,
    )


def _dots(panel: Axes, rows: tuple[Row, ...], measure: str, limit: float = np.inf) -> None:
    """One line of dots for each activation; runs beyond the limit are counted at the right edge."""
    jitter = np.random.default_rng(0)
    for place, row in enumerate(rows):
        values = row.values(measure)
        shown = values[np.isfinite(values) & (values <= limit)]
        heights = place + jitter.uniform(-0.16, 0.16, len(shown))
        panel.plot(shown, heights, "o", color=f"C{place}", markersize=3.5, alpha=0.55, markeredgewidth=0)
        # Sorted, so that runs without a finite value stand above all others; of an even number the lower middle.
        median = np.sort(np.where(np.isfinite(values), values, np.inf))[(len(values) - 1) // 2]
        if median <= limit and np.isfinite(median):
            panel.vlines(median, place - 0.32, place + 0.32, color=f"C{place}", linewidth=2.2)
        beyond, infinite = int((np.isfinite(values) & (values > limit)).sum()), int((~np.isfinite(values)).sum())
        told = [f"{beyond} →" * bool(beyond), f"{infinite} {_INFINITE}" * bool(infinite)]
        # Beside the panel, where no dot can lie under it.
        panel.annotate(
            " ".join(filter(None, told)),
            (1.0, place),
            (3, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            ha="left",
            fontsize=8,
        )
    panel.set_yticks(range(len(rows)), [row.setting["activation"] for row in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)


def _dead(results: Results) -> Figure:
    activations, starts = results.levels("activation"), results.levels("start")
    shares = np.zeros((len(activations), len(starts)))
    drawing = Drawing(figsize=(_WIDTH, 0.9 + 0.33 * len(activations)), layout="constrained")
    panel = drawing.subplots()
    for i, activation in enumerate(activations):
        for j, start in enumerate(starts):
            rows = results.where(target="visits", activation=activation, start=start)
            if not rows:
                panel.text(j, i, "–", ha="center", va="center", fontsize=8.5)
                continue
            dead = np.concatenate([row.values("dead") for row in rows])
            shares[i, j] = dead.mean()
            # On a coloured cell the ink must not follow the page's light or dark.
            ink: dict[str, Any] = {"color": "black"} if dead.any() else {}
            panel.text(j, i, f"{int(dead.sum())} of {len(dead)}", ha="center", va="center", fontsize=8.5, **ink)
    panel.imshow(np.ma.masked_equal(shares, 0), cmap="Oranges", vmin=0, vmax=2, aspect="auto")
    panel.set_xticks(range(len(starts)), starts)
    panel.set_yticks(range(len(activations)), activations)
    panel.set_xlabel("bias before the head, at the start")
    panel.grid(visible=False)
    panel.tick_params(length=0)
    return Figure(
        "Heads that ended dead",
        "Runs whose slope is exactly zero on every training row when training ends, over all nets and losses. "
        "“mean” is init_bias_, “-3 revived” is a start at -3 followed by revive_, which changes dead heads only.",
        drawing,
    )


def _zeros(results: Results) -> Figure:
    nets = results.levels("net")
    drawing = Drawing(figsize=(_WIDTH, 2.4), layout="constrained")
    axes = drawing.subplots(1, len(nets), sharey=True, squeeze=False)[0]
    for panel, net in zip(axes, nets, strict=True):
        _dots(panel, results.where(target="clipped", net=net), "at_true_zeros")
        panel.axvline(0, linewidth=0.8, linestyle="--", color="0.5")
        panel.set_title(net, fontsize=9.5)
        panel.set_xlabel("mean prediction, in visits")
    return Figure(
        "Where the truth is exactly zero",
        "Mean prediction over the held-out rows whose noiseless target is 0 (squared error). Right of the dashed line "
        "is bias that a head cannot avoid if it cannot reach 0.",
        drawing,
    )


def _curves(results: Results) -> Figure:
    starts = [s for s in results.levels("start") if s in ("mean", "-3")]
    net = results.levels("net")[-1]
    drawing = Drawing(figsize=(_WIDTH, 2.7), layout="constrained")
    axes = drawing.subplots(1, len(starts), sharey=True, squeeze=False)[0]
    for panel, start in zip(axes, starts, strict=True):
        rows = results.where(target="visits", net=net, loss="mse", start=start)
        for place, row in enumerate(rows):
            curves = row.curves["validation_loss"][row.chosen]
            share = np.arange(1, curves.shape[1] + 1) / curves.shape[1]
            # Of a single checkpoint there is no line to draw.
            marker = "o" if len(share) == 1 else ""
            middle = np.median(curves, axis=0)
            panel.plot(share * 100, middle, marker=marker, color=f"C{place}", label=row.setting["activation"])
            panel.fill_between(share * 100, *np.quantile(curves, [0.25, 0.75], axis=0), color=f"C{place}", alpha=0.15)
        panel.set_title(f"start {start}", fontsize=9.5)
        panel.set_xlabel("training, %")
    axes[0].set_ylabel("validation loss, visits²")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return Figure(
        f"Training curves ({net}, squared error)",
        "Median over seeds with the middle half, each head at the learning rate it chose.",
        drawing,
    )
