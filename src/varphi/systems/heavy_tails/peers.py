"""Classical fits of the same rows: linear in a fixed basis, by robust methods of scikit-learn and statsmodels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

Predict = Callable[[np.ndarray], np.ndarray]
_MISSING = "classical robust fits come from scikit-learn and statsmodels: pip install 'varphi[heavy_tails]'"


def _by_sklearn(make: Callable[[Any], Any]) -> Callable[[np.ndarray, np.ndarray], Predict]:
    def fit(x: np.ndarray, y: np.ndarray) -> Predict:
        try:
            from sklearn import linear_model
        except ImportError as error:
            raise ImportError(_MISSING) from error
        return make(linear_model).fit(x, y).predict

    return fit


def _by_rlm(norm: str) -> Callable[[np.ndarray, np.ndarray], Predict]:
    def fit(x: np.ndarray, y: np.ndarray) -> Predict:
        try:
            import statsmodels.api as sm
        except ImportError as error:
            raise ImportError(_MISSING) from error
        fitted: Any = sm.RLM(y, _with_constant(x), M=getattr(sm.robust.norms, norm)()).fit()
        return lambda at: _with_constant(at) @ fitted.params

    return fit


def _with_constant(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x])


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], Predict]] = {
    "least squares": _by_sklearn(lambda m: m.LinearRegression()),
    "Huber (sklearn)": _by_sklearn(lambda m: m.HuberRegressor(max_iter=2000)),
    "Theil-Sen (sklearn)": _by_sklearn(lambda m: m.TheilSenRegressor(random_state=0, max_subpopulation=1000)),
    "RANSAC (sklearn)": _by_sklearn(lambda m: m.RANSACRegressor(random_state=0)),
    "Huber (statsmodels RLM)": _by_rlm("HuberT"),
    "Tukey (statsmodels RLM)": _by_rlm("TukeyBiweight"),
}


def chebyshev(x: Float[np.ndarray, "1 rows"]) -> Float[np.ndarray, "rows 7"]:
    """T₁(x), ..., T₇(x): the basis for the simulated problem, whose truth it holds to 1e-4."""
    return np.polynomial.chebyshev.chebvander(x[0], 7)[:, 1:]


def linear(x: Float[np.ndarray, "features rows"]) -> Float[np.ndarray, "rows features"]:
    """The features as they are."""
    return x.T


def predictions(
    peer: str,
    basis: Callable[[np.ndarray], np.ndarray],
    x: Float[np.ndarray, "features rows"],
    y: Float[np.ndarray, " rows"],
    *at: Float[np.ndarray, "features places"],
) -> list[Float[np.ndarray, " places"]]:
    """One fit, evaluated at several sets of inputs. NaN where the method finds no fit (RANSAC without a consensus)."""
    with warnings.catch_warnings():
        # The fits speak of their own convergence; here their error on the truth does.
        warnings.simplefilter("ignore")
        try:
            predict = PEERS[peer](basis(x), y)
        except ValueError:
            return [np.full(places.shape[1], np.nan) for places in at]
        return [np.asarray(predict(basis(places)), float) for places in at]
