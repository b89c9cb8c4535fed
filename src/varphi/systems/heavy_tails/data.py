"""Regression problems whose labels have outliers: simulated with a known truth, and real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from .losses import MADN

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


# Real labels ---------------------------------------------------------------------------------------------------------

REAL_ORIGIN = (
    "`engel` in statsmodels (Koenker & Bassett 1982, after Engel 1857): yearly food expenditure of 235 Belgian working-"
    "class households given their income, in francs; with outliers of its own (around a robust line, kurtosis 19 and "
    "Hill index 2.2). `diabetes` in scikit-learn (Efron et al. 2004): disease progression of 442 patients given ten "
    "measurements, without outliers (Hill index 5.5); as it is, and with the decimal point slipped (label × 10) in a "
    "random tenth of the rows to fit and to choose by, which is simulated contamination of real data. Every seed is a "
    "random split: 60 % to fit, 20 % to choose the learning rate by, 20 % held out, never contaminated. Splits of one "
    "data set overlap: intervals over seeds speak of these rows, not of new households or patients."
)
SLIPPED = 0.1


def engel() -> tuple[Float[np.ndarray, "235 1"], Float[np.ndarray, "235"]]:
    """Household income and food expenditure, in francs.

    Raises:
        ImportError: where statsmodels is missing, naming the command that installs it.
    """
    try:
        from statsmodels.datasets import engel as source
    except ImportError as error:
        raise ImportError("the data set is part of statsmodels: pip install 'varphi[heavy_tails]'") from error
    table: Any = source.load_pandas().data
    return table[["income"]].to_numpy(float), table["foodexp"].to_numpy(float)


def diabetes() -> tuple[Float[np.ndarray, "442 10"], Float[np.ndarray, "442"]]:
    """Ten measurements of a patient and the progression of the disease a year later.

    Raises:
        ImportError: where scikit-learn is missing, naming the command that installs it.
    """
    try:
        from sklearn.datasets import load_diabetes
    except ImportError as error:
        raise ImportError("the data set is part of scikit-learn: pip install 'varphi[heavy_tails]'") from error
    x, y = cast("tuple[np.ndarray, np.ndarray]", load_diabetes(return_X_y=True))
    return x, y


REAL: dict[str, tuple[Callable[[], tuple[np.ndarray, np.ndarray]], float]] = {
    "engel": (engel, 0.0),
    "diabetes": (diabetes, 0.0),
    "diabetes, 10 % slipped": (diabetes, SLIPPED),
}


def real(name: str, seeds: Sequence[int]) -> tuple[Samples, Float[np.ndarray, " seeds"]]:
    """Random splits of a real data set (a key of `REAL`), features and labels scaled by the rows to fit.

    Returns:
        The samples, labels as (y - median)/MADN, and for each seed that MADN in the label's own unit.
    """
    source, slipped = REAL[name]
    x, y = source()
    splits = [_split(x, y, slipped, np.random.default_rng(seed)) for seed in seeds]
    *parts, scale = (np.stack(part) for part in zip(*splits, strict=True))
    return Samples(*parts), scale


def _split(x: np.ndarray, y: np.ndarray, slipped: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    order = rng.permutation(len(y))
    fit, choose, held = np.split(order, [round(0.6 * len(y)), round(0.8 * len(y))])
    labels = y.copy()
    for rows in (fit, choose):
        labels[rng.choice(rows, round(slipped * len(rows)), replace=False)] *= 10
    x = (x - x[fit].mean(0)) / x[fit].std(0)
    middle = np.median(labels[fit])
    scale = MADN * np.median(np.abs(labels[fit] - middle))
    parts = [(x[rows].T, (labels[rows] - middle) / scale) for rows in (fit, choose, held)]
    return (*(array for part in parts for array in part), np.array(scale))
