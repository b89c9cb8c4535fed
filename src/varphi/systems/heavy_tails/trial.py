"""Train and measure one setting of the studies: a net with its head and loss, or a classical fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from varphi.study import Outcome, Point, Setting

from .data import Samples, simulated
from .diagnosis import SATURATED, tail_index, top_share
from .peers import PEERS, chebyshev, predictions
from .training import Fit, output_gradients, trained

CLASSICAL = "Chebyshev basis"
# An error that counts as having learned the curve: an eighth of the truth's amplitude, the noise scale at γ = 0.1.
LEARNED = 0.1
# A prediction beyond this, more than 60 times the largest truth, counts as diverged.
DIVERGED = 100.0
_CHECKPOINTS = 50
# For a tail index a sample needs a gradient; where fewer have one (Tukey rejects, a fit is exact) there is none.
_FEWEST = 50

Measures = dict[str, np.ndarray]


def trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point], *, steps: int) -> Outcome:
    """One setting of the study `heavy_tails`; see `study.declaration.Trial`."""
    rates = [point["learning rate"] for point in points]
    samples = simulated(setting["labels"], seeds)
    if setting["loss"] in PEERS:
        measures, curves = _classical(setting["loss"], samples, chebyshev), {}
        measures = {name: np.tile(values, (len(rates), 1)) for name, values in measures.items()}
    else:
        with _one_thread():
            measures, curves = _net(setting, samples, seeds, rates, steps)
        shape = (len(rates), len(seeds))
        measures = {name: values.reshape(shape) for name, values in measures.items()}
        curves = {name: values.reshape(*shape, -1) for name, values in curves.items()}
    measures["regret"] = regret(measures["validation_loss"])
    return Outcome(measures, curves)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    # Matrices this small gain little from a second thread, and lose much where another process has the core.
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def regret(losses: Float[np.ndarray, "points seeds"]) -> Float[np.ndarray, "points seeds"]:
    """By how much each seed's loss exceeds its own best one: noise that all learning rates share drops out."""
    finite = np.where(np.isnan(losses), math.inf, losses)
    best = finite.min(axis=0)
    return np.where(np.isfinite(best), finite - np.where(np.isfinite(best), best, 0.0), math.inf)


def cauchy_loss(residuals: Float[np.ndarray, "... rows"]) -> Float[np.ndarray, "..."]:
    """Mean Cauchy negative log-likelihood without its constant, the scale being the median |residual|."""
    sizes = np.abs(np.asarray(residuals, float))
    scale = np.median(sizes, axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # ln(s² + r²) - ln s is ln s + ln(1 + (r/s)²), and defined at s = 0.
        return (2 * np.log(np.hypot(scale, sizes)) - np.log(scale)).mean(axis=-1)


def _classical(peer: str, samples: Samples, basis: Callable[[np.ndarray], np.ndarray]) -> Measures:
    fitted = [
        predictions(peer, basis, x, y, at, held)
        for x, y, at, held in zip(samples.x, samples.y, samples.x_validation, samples.x_test, strict=True)
    ]
    validation, test = (np.stack(part) for part in zip(*fitted, strict=True))
    nothing = np.full(len(samples.y), math.nan)
    return {
        "validation_loss": cauchy_loss(validation - samples.y_validation),
        "error": _error(test, samples.y_test),
        "diverged": _diverged(test),
        **{name: nothing for name in ("top_share", "tail", "saturated", "steps", "roughness")},
    }


def _net(
    setting: Setting, samples: Samples, seeds: Sequence[int], rates: Sequence[float], steps: int
) -> tuple[Measures, dict[str, np.ndarray]]:
    copies = len(rates)
    test = tensor(samples.x_test).repeat(copies, 1, 1)
    truth = tensor(samples.y_test).repeat(copies, 1)
    every = max(1, steps // _CHECKPOINTS)
    fit = trained(
        *(tensor(samples.x), tensor(samples.y), seeds, rates),
        head=setting["head"],
        loss=setting["loss"],
        method=setting["optimiser"],
        hidden=setting["hidden"],
        steps=steps,
        watch=partial(_median_error, x=test, truth=truth),
        every=every,
    )
    curve = torch.stack(fit.checkpoints, dim=-1).double().numpy()
    measures = measured(fit, samples, copies)
    measures["steps"] = _steps(curve, every)
    with np.errstate(invalid="ignore"):
        rises = np.diff(np.where(np.isnan(curve), math.inf, curve), axis=-1)
    measures["roughness"] = np.maximum(np.nan_to_num(rises, nan=0.0, posinf=math.inf).max(-1), 0.0)
    return measures, {"error": curve}


def _steps(curve: Float[np.ndarray, "replicas checkpoints"], every: int) -> Float[np.ndarray, " replicas"]:
    """Steps from which on the error is at most `LEARNED` at every checkpoint; inf where the last is above."""
    above = ~(curve <= LEARNED)
    count = curve.shape[-1]
    last = np.where(above.any(-1), count - above[:, ::-1].argmax(-1), 0)
    return np.where(last == count, math.inf, (last + 1.0) * every)


@torch.no_grad()
def _median_error(fit: Fit, x: Tensor, truth: Tensor) -> Tensor:
    return (fit.predict(x) - truth).abs().median(-1).values


def measured(fit: Fit, samples: Samples, copies: int) -> Measures:
    """What is measured of trained replicas, one value each."""
    x, y = tensor(samples.x).repeat(copies, 1, 1), tensor(samples.y).repeat(copies, 1)
    with torch.no_grad():
        validation = fit.predict(tensor(samples.x_validation).repeat(copies, 1, 1)).double().numpy()
        test = fit.predict(tensor(samples.x_test).repeat(copies, 1, 1)).double().numpy()
        slopes = torch.ones_like(y) if fit.head is None else fit.head.saturation(fit.net(x))
    gradients = output_gradients(fit, x, y).abs().double().numpy()
    return {
        "validation_loss": cauchy_loss(validation - np.tile(samples.y_validation, (copies, 1))),
        "error": _error(test, np.tile(samples.y_test, (copies, 1))),
        "diverged": _diverged(test),
        "top_share": top_share(gradients),
        "tail": np.array([_tail(row) for row in gradients]),
        "saturated": (slopes < SATURATED).double().mean(1).numpy(),
    }


def _tail(sizes: np.ndarray) -> float:
    if not np.isfinite(sizes).all() or (sizes > 0).sum() < _FEWEST:
        return math.nan
    return tail_index(sizes).index


def _error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    errors = np.abs(prediction - truth)
    # One place without a number is a model without a curve.
    return np.where(np.isnan(errors).any(-1), math.nan, np.median(np.nan_to_num(errors, nan=math.inf), axis=-1))


def _diverged(prediction: np.ndarray) -> np.ndarray:
    return (~(np.abs(prediction) <= DIVERGED)).any(-1).astype(float)


def tensor(values: np.ndarray) -> Tensor:
    """float32 for the nets."""
    return torch.tensor(np.ascontiguousarray(values), dtype=torch.float32)
