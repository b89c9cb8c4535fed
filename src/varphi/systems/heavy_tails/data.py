"""Regression problems whose labels have outliers: simulated with a known truth, and real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ORIGIN = (
    "Simulated. For every seed, x ~ U(-1, 1) and y = A sin 3x + γ·Cauchy(0, 1): 512 rows to fit, and 512 more, as "
    "noisy, that serve only to choose one learning rate for each setting (the classical fits have none to choose). The "
    "truth A sin 3x is used for measuring alone, on 401 equidistant points of [-1, 1]."
)
ROWS, GRID = 512, 401


@dataclass(frozen=True)
class Labels:
    """How the labels of a simulated problem arise: amplitude A and noise scale γ."""

    amplitude: float
    gamma: float


LABELS = {
    "γ = 0.1": Labels(0.8, 0.1),
    "γ = 0.3": Labels(0.8, 0.3),
    "A = 1.5": Labels(1.5, 0.1),
    "no noise": Labels(0.8, 0.0),
}


@dataclass(frozen=True)
class Samples:
    """One problem for each seed.

    Attributes:
        x, y: rows to fit.
        x_validation, y_validation: rows to choose the learning rate by.
        x_test, y_test: rows to measure on; a simulated problem's are the truth, a real one's held-out labels.
    """

    x: Float[np.ndarray, "seeds features rows"]
    y: Float[np.ndarray, "seeds rows"]
    x_validation: Float[np.ndarray, "seeds features validation"]
    y_validation: Float[np.ndarray, "seeds validation"]
    x_test: Float[np.ndarray, "seeds features test"]
    y_test: Float[np.ndarray, "seeds test"]


def simulated(labels: str, seeds: Sequence[int], rows: int = ROWS) -> Samples:
    """The simulated problem with these labels (a key of `LABELS`), the same for a seed in every setting."""
    law = LABELS[labels]
    truth = lambda x: law.amplitude * np.sin(3 * x)  # noqa: E731 - one formula, used thrice
    drawn = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        x = rng.uniform(-1, 1, 2 * rows)
        drawn.append((x, truth(x) + law.gamma * rng.standard_cauchy(2 * rows)))
    x, y = (np.stack(part) for part in zip(*drawn, strict=True))
    grid = np.broadcast_to(np.linspace(-1, 1, GRID), (len(x), GRID))
    return Samples(x[:, None, :rows], y[:, :rows], x[:, None, rows:], y[:, rows:], grid[:, None], truth(grid))
