"""RAND Health Insurance Experiment: how many outpatient visits a person makes in a year."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

ORIGIN = (
    "RAND Health Insurance Experiment, 1974-1982, `randhie` in statsmodels (public domain; Newhouse et al. 1993; as in "
    "Cameron & Trivedi, Microeconometrics, 2005): 20190 rows, 9 explanatory variables, target mdvis = number of "
    "outpatient visits, 31.24 % of them exactly 0. One random split (13000 rows to fit, 2000 to choose the learning "
    "rate, 5190 held out): intervals over seeds speak of initial weights and order of rows, not of other rows."
)
# Rows to fit, to choose the learning rate, and to hold out, of a permutation drawn once with seed 0.
FIT, VALIDATION = 13000, 2000


@dataclass(frozen=True)
class Part:
    """Standardised explanatory variables and target."""

    x: Float[Tensor, "features rows"]
    y: Float[Tensor, " rows"]


@dataclass(frozen=True)
class Split:
    """The rows to fit, to choose the learning rate by, and to measure on."""

    fit: Part
    validation: Part
    held_out: Part


def randhie() -> tuple[Float[np.ndarray, "20190 9"], Float[np.ndarray, "20190"]]:
    """The data set as it is: explanatory variables and number of visits.

    Raises:
        ImportError: where statsmodels is missing, naming the command that installs it.
    """
    try:
        from statsmodels.datasets import randhie as source
    except ImportError as error:
        raise ImportError("the data set is part of statsmodels: pip install 'varphi[constrained]'") from error
    table: Any = source.load_pandas().data
    return table.drop(columns="mdvis").to_numpy(float), table["mdvis"].to_numpy(float)


@functools.cache
def split(target: str = "visits") -> Split:
    """The data in three parts, features standardised by the rows to fit.

    Args:
        target: "visits", the counts themselves; or "clipped", a noiseless target on the same rows that is exactly 0 on
            as many of them: max(0, least-squares prediction of the visits - its 31.24 % quantile). It has what the real
            counts lack: a known truth that is 0 on a region of inputs.
    """
    x, visits = randhie()
    order = np.random.default_rng(0).permutation(len(visits))
    fit = order[:FIT]
    x = (x - x[fit].mean(0)) / x[fit].std(0)
    y = visits if target == "visits" else _clipped(x, visits, fit)
    parts = (order[:FIT], order[FIT : FIT + VALIDATION], order[FIT + VALIDATION :])
    return Split(*(Part(_tensor(x[rows].T), _tensor(y[rows])) for rows in parts))


def _clipped(x: np.ndarray, visits: np.ndarray, fit: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(x)), x])
    predicted = design @ np.linalg.lstsq(design[fit], visits[fit], rcond=None)[0]
    return np.maximum(0.0, predicted - np.quantile(predicted, np.mean(visits == 0)))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.tensor(np.ascontiguousarray(values), dtype=torch.float32)
