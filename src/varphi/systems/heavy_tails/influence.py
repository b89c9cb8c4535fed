"""How far one residual can pull: the influence function ψ of a loss, and what it costs on clean labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor, nn

from .losses import RobustLoss

LossLike = nn.Module | Callable[[Tensor, Tensor], Tensor]


class Law(NamedTuple):
    """A symmetric law of noise with unit scale: its density's logarithmic slope, -p'/p, and Fisher information."""

    name: str
    quantile: Callable[[np.ndarray], np.ndarray]
    density: Callable[[np.ndarray], np.ndarray]
    score: Callable[[np.ndarray], np.ndarray]
    information: float
    # E|r|^t is finite for t below this.
    moments: float


NORMAL = Law("normal", stats.norm.ppf, stats.norm.pdf, lambda r: r, 1.0, math.inf)
CAUCHY = Law("Cauchy", stats.cauchy.ppf, stats.cauchy.pdf, lambda r: 2 * r / (1 + r * r), 0.5, 1.0)


@dataclass(frozen=True)
class Influence:
    """The influence function of a loss for a location: ψ = ∂loss/∂residual at the loss's own scale.

    Attributes:
        name: of the loss.
        psi: ψ as a function of residuals (in the unit of the noise's scale), at the scale the loss takes under standard
            normal noise.
        scale: that scale; NaN where the loss has none.
        rejection_point: the smallest |r| beyond which ψ is 0; inf where there is none.
        gross_error_sensitivity: sup|ψ|/E[ψ'] under standard normal noise (Hampel 1974): how far one bad sample can
            shift the estimate, times the number of samples; inf where ψ is unbounded.
        efficiency_normal, efficiency_cauchy: asymptotic efficiency: the Cramér-Rao variance over the variance of the
            location estimate, under normal and under Cauchy noise, the scale settled at that noise; 0 where the
            variance is infinite.
    """

    name: str
    psi: Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]]
    scale: float
    rejection_point: float
    gross_error_sensitivity: float
    efficiency_normal: float
    efficiency_cauchy: float

    def __str__(self) -> str:
        rejects = math.isfinite(self.rejection_point)
        reach = f"up to |r| = {self.rejection_point:.4g}" if rejects else "at every residual"
        return (
            f"{self.name}: influence {reach}; gross-error sensitivity {self.gross_error_sensitivity:.4g}; "
            f"efficiency {self.efficiency_normal:.1%} at the normal, {self.efficiency_cauchy:.1%} at the Cauchy"
        )

    def plot(self, axes: Any = None, limit: float = 10.0, **style: Any) -> Any:
        """Draw ψ on [-limit, limit], scaled to slope 1 at 0 where it has one; returns matplotlib's axes."""
        if axes is None:
            from matplotlib.figure import Figure

            axes = Figure(figsize=(5.0, 3.2), layout="constrained").subplots()
        r = np.linspace(-limit, limit, 2001)
        values = self.psi(r)
        step = 1e-4
        slope = float(np.diff(self.psi(np.array([-step, step])))[0]) / (2 * step)
        # A jump at 0 (absolute error) has no slope to scale by.
        axes.plot(r, values / (slope if slope < 1 / (2 * step) else 1.0), **({"label": self.name} | style))
        axes.set_xlabel("residual, in scales of the noise")
        axes.set_ylabel("influence ψ")
        return axes


def influence(loss: LossLike, name: str = "") -> Influence:
    """The influence function of a loss and its figures, by quadrature.

    Args:
        loss: one of varphi's, one of torch's (`nn.L1Loss()`, `nn.HuberLoss()`), or any callable (prediction, target) →
            loss of symmetric shape in the residual.
        name: for tables; the class's name if not given.

    Raises:
        ValueError: for a loss that has no influence at all.
    """
    at_normal, scale = _settled(loss, NORMAL)
    at_cauchy, _ = _settled(loss, CAUCHY)
    growth = _growth(at_normal)
    shift = _expected(lambda r: at_normal(r) * NORMAL.score(r), NORMAL)
    if not shift > 0:
        raise ValueError(f"{_named(loss)}: its gradient with respect to the residual is not positive on average")
    largest = math.inf if growth > 0.01 else float(np.abs(at_normal(_reach())).max())
    return Influence(
        name=name or _named(loss),
        psi=at_normal,
        scale=scale,
        rejection_point=_rejection(at_normal),
        gross_error_sensitivity=largest / shift,
        efficiency_normal=_efficiency(at_normal, growth, NORMAL),
        efficiency_cauchy=_efficiency(at_cauchy, growth, CAUCHY),
    )


def cramer_rao(law: Law, scale: float, samples: int) -> float:
    """The least standard deviation of an unbiased location estimate from so many samples of a law with this scale."""
    return scale / math.sqrt(samples * law.information)


def _settled(loss: LossLike, law: Law) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """ψ at the scale that the loss takes under this noise, and that scale."""
    if not isinstance(loss, RobustLoss):
        return lambda r: _gradient(lambda x: _each(loss, x), r), math.nan
    nodes, weights = _quadrature(law)
    scale = loss.scale_at(nodes, weights)
    return lambda r: _gradient(lambda x: loss.rho(x, scale), r), scale


def _each(loss: LossLike, residual: Tensor) -> Tensor:
    zero = torch.zeros((), dtype=residual.dtype)
    return torch.func.vmap(lambda r: loss(r, zero))(residual)


def _gradient(each: Callable[[Tensor], Tensor], r: np.ndarray) -> np.ndarray:
    x = torch.tensor(np.asarray(r, float).ravel(), requires_grad=True)
    (slope,) = torch.autograd.grad(each(x).sum(), x)
    return slope.numpy().reshape(np.shape(r))


def _quadrature(law: Law, panels: int = 4000, order: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for an expectation: Gauss-Legendre on panels in θ, where r = tan θ."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    edges = np.linspace(-np.pi / 2, np.pi / 2, panels + 1)
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    theta = (middle[:, None] + half[:, None] * nodes).ravel()
    r = np.tan(theta)
    return r, (half[:, None] * weights).ravel() * (1 + r * r) * law.density(r)


def _expected(f: Callable[[np.ndarray], np.ndarray], law: Law) -> float:
    nodes, weights = _quadrature(law)
    return float(np.sum(weights * f(nodes)))


def _efficiency(psi: Callable[[np.ndarray], np.ndarray], growth: float, law: Law) -> float:
    # E[ψ'] = E[ψ · score] by parts, which also holds where ψ jumps.
    if 2 * growth >= law.moments:
        return 0.0
    pull = _expected(lambda r: psi(r) * law.score(r), law)
    return pull**2 / (_expected(lambda r: psi(r) ** 2, law) * law.information)


def _growth(psi: Callable[[np.ndarray], np.ndarray]) -> float:
    """The t for which |ψ(r)| grows as r^t; -inf where it vanishes."""
    near, far = np.abs(psi(np.array([1e8, 1e10])))
    return -math.inf if far == 0 else math.log(far / near) / math.log(100.0)


def _reach() -> np.ndarray:
    return np.concatenate([np.linspace(0.0, 20.0, 200_001), np.geomspace(20.0, 1e10, 2000)])


def _rejection(psi: Callable[[np.ndarray], np.ndarray]) -> float:
    r = _reach()
    alive = np.flatnonzero(psi(r) != 0)
    last = int(alive[-1])
    if last == len(r) - 1:
        return math.inf
    low, high = r[last], r[last + 1]
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if psi(np.array([middle]))[0] != 0 else (low, middle)
    return float(high)


def _named(loss: LossLike) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
