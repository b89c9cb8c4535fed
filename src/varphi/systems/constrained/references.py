"""What needs no seeds: classical models on the same rows, and how many badly started heads come back to life."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from varphi.heads.heads import head

from .data import Split, split
from .training import poisson_deviance

_BAD_STARTS = 100


def references(**_: Any) -> dict[str, dict[str, float]]:
    """Held-out measures of a constant, least squares and a Poisson GLM; dead shares of 100 bad starts."""
    return classical(split("visits")) | revival(_BAD_STARTS)


def classical(data: Split) -> dict[str, dict[str, float]]:
    """Models fitted on the same rows as the heads, measured on the same held-out rows."""
    import statsmodels.api as sm

    x, y = _design(data.fit.x), data.fit.y.double().numpy()
    held_out, truth = _design(data.held_out.x), data.held_out.y.double().numpy()
    predictions = {
        "constant (mean)": np.full(len(truth), y.mean()),
        "least squares": sm.OLS(y, x).fit().predict(held_out),
        "Poisson GLM": sm.GLM(y, x, family=sm.families.Poisson()).fit().predict(held_out),
    }
    return {name: _measured(truth, mu) for name, mu in predictions.items()}


def revival(starts: int) -> dict[str, dict[str, float]]:
    """The share of dead ReLU heads among random bad starts (bias -3 to -100), as they are and after each remedy."""
    data = split("visits").fit
    relu = head("nonnegative")
    x = data.x.T
    layers = [_badly_started(x.shape[1], seed) for seed in range(starts)]
    before = [relu.report(layer(x)).dead_outputs for layer in layers]
    for layer in layers:
        relu.revive_(layer, x)
    revived = [relu.report(layer(x)).dead_outputs for layer in layers]
    for seed, layer in enumerate(layers):
        layer.load_state_dict(_badly_started(x.shape[1], seed).state_dict())
        relu.init_bias_(layer, data.y.mean())
    started = [relu.report(layer(x)).dead_outputs for layer in layers]
    shares = {"as they are": before, "after revive_": revived, "after init_bias_": started}
    return {f"{starts} bad ReLU starts, {name}": {"dead": float(np.mean(dead))} for name, dead in shares.items()}


def _badly_started(features: int, seed: int) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(features, 1)
    with torch.no_grad():
        layer.weight.uniform_(-1, 1, generator=generator).div_(features**0.5)
        layer.bias.uniform_(-100, -3, generator=generator)
    return layer


def _design(x: torch.Tensor) -> np.ndarray:
    return np.column_stack([np.ones(x.shape[1]), x.T.double().numpy()])


def _measured(y: np.ndarray, mu: np.ndarray) -> dict[str, float]:
    return {
        "deviance": poisson_deviance(y, mu),
        "rmse": float(np.sqrt(((mu - y) ** 2).mean())),
        "zeros": float((mu == 0).mean()),
        "negative": float((mu < 0).mean()),
    }
