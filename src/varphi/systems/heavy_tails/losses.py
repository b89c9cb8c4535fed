"""Losses for labels with heavy tails: likelihoods with a learned scale, and M-estimators with an automatic one.

Every loss is ρ(r, s) of the residual r = prediction - target and a scale s in the target's unit. No residual that a
float can hold overflows it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

# 1/Φ⁻¹(3/4): times this, the median of |r| estimates a normal distribution's σ.
MADN = 1.4826022185056018
# A learned scale never falls below this share of where it started.
FLOOR = 1e-3
_DEGREES = (0.1, 100.0)
Reduction = Literal["mean", "sum", "none"]


class RobustLoss(nn.Module, ABC):
    """ρ(prediction - target, scale), reduced.

    Args:
        reduction: "mean", "sum" or "none", as in torch.
        replicas: for a batch of independently trained replicas, how many: predictions and targets then have shape
            (replicas, ...), each replica has its own scale, and "mean" and "sum" give one value for each.

    Raises:
        ValueError: for an unknown reduction, shapes that do not agree, or another number of replicas.
    """

    def __init__(self, reduction: Reduction = "mean", replicas: int | None = None) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction is 'mean', 'sum' or 'none', got {reduction!r}")
        if replicas is not None and replicas < 1:
            raise ValueError(f"replicas must be at least 1, got {replicas!r}")
        self.reduction: Reduction = reduction
        self.replicas = replicas

    @abstractmethod
    def rho(self, residual: Float[Tensor, "..."], scale: float | Tensor) -> Float[Tensor, "..."]:
        """The loss of each residual at a given scale."""

    @abstractmethod
    def current_scale(self, residual: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The scale for these residuals: a number, or one for each replica."""

    @abstractmethod
    def scale_at(self, residual: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]) -> float:
        """The scale that the loss settles at for residuals with this (weighted) distribution."""

    def forward(self, prediction: Float[Tensor, "..."], target: Float[Tensor, "..."]) -> Tensor:
        if prediction.shape != target.shape:
            raise ValueError(
                f"{type(self).__name__}: prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must "
                "have the same shape; broadcasting would pair every prediction with every target"
            )
        if self.replicas is not None and prediction.shape[:1] != (self.replicas,):
            raise ValueError(
                f"{type(self).__name__}: the first dimension counts replicas, expected {self.replicas}, "
                f"got shape {tuple(prediction.shape)}"
            )
        residual = prediction - target
        each = self.rho(residual, self._aligned(self.current_scale(residual), residual))
        if self.reduction == "none":
            return each
        kept = each.flatten(1) if self.replicas is not None else each.flatten()
        return kept.mean(-1) if self.reduction == "mean" else kept.sum(-1)

    def _aligned(self, scale: Tensor, residual: Tensor) -> Tensor:
        return scale if scale.dim() == 0 else scale.reshape(-1, *[1] * (residual.dim() - 1))

    def _madn(self, values: Tensor) -> Tensor:
        """1.4826 · median |values|, for each replica if there are replicas."""
        sizes = values.detach().abs()
        return MADN * sizes.flatten(0 if self.replicas is None else 1).median(-1).values


class Likelihood(RobustLoss):
    """-ln p(residual) of a distribution with a scale, learned with the model's weights or fixed.

    A learned scale is floor + exp(log_excess): on labels that are fitted exactly the likelihood is unbounded as the
    scale goes to 0, and the floor, 1/1000 of the starting scale, is where that ends. Pass `loss.parameters()` to the
    optimiser together with the model's.
    """

    floor: Tensor

    def __init__(
        self, scale: Literal["learn"] | float, reduction: Reduction = "mean", replicas: int | None = None
    ) -> None:
        super().__init__(reduction, replicas)
        self.learned = scale == "learn"
        shape = () if replicas is None else (replicas,)
        if scale == "learn":
            self.log_excess = nn.Parameter(torch.full(shape, math.log1p(-FLOOR)))
            self.register_buffer("floor", torch.full(shape, FLOOR))
            return
        if not (isinstance(scale, (int, float)) and 0 < scale < math.inf):
            raise ValueError(f"scale is 'learn' or a number > 0, got {scale!r}")
        self.register_buffer("floor", torch.full(shape, float(scale)))

    @property
    def scale(self) -> Float[Tensor, "..."]:
        """The scale as it is now, in the target's unit."""
        return self.floor + self.log_excess.exp() if self.learned else self.floor

    @torch.no_grad()
    def calibrate_(self, y: Float[Tensor, "..."]) -> Likelihood:
        """Start a learned scale at the spread of the targets, 1.4826 · median |y - median y|.

        Args:
            y: targets, (replicas, ...) where there are replicas.

        Raises:
            ValueError: where the scale is fixed, or where more than half of the targets are equal.
        """
        if not self.learned:
            raise ValueError(f"{type(self).__name__}: the scale was fixed at {self.floor.tolist()}; use scale='learn'")
        flat = y.flatten(0 if self.replicas is None else 1)
        spread = self._madn(flat - flat.median(-1, keepdim=True).values)
        if not bool(((spread > 0) & spread.isfinite()).all()):
            raise ValueError(
                f"{type(self).__name__}: the targets' median absolute deviation is {spread.min():g}, which is no "
                "scale to start at (more than half of them equal, or not finite); give scale=... yourself"
            )
        self.floor.copy_(FLOOR * spread)
        self.log_excess.copy_(((1 - FLOOR) * spread).log())
        return self

    def current_scale(self, residual: Tensor) -> Tensor:
        return self.scale

    def scale_at(self, residual: np.ndarray, weight: np.ndarray) -> float:
        from scipy.optimize import minimize_scalar

        if not self.learned:
            return float(self.floor.flatten()[0])
        r, w = torch.from_numpy(residual), torch.from_numpy(weight)
        found: Any = minimize_scalar(
            lambda log_scale: float((w * self.rho(r, math.exp(log_scale)).detach()).sum()),
            bounds=(-10.0, 10.0),
            method="bounded",
            options={"xatol": 1e-10},
        )
        return math.exp(float(found.x))

    def extra_repr(self) -> str:
        return f"scale={'learned, ' * self.learned}{self.scale.detach().tolist()}"


class CauchyNLL(Likelihood):
    """-ln of the Cauchy density: ln(πs) + ln(1 + (r/s)²). Its influence falls as 2/r.

    Also known as the Lorentzian loss (there without the constant, and with a fixed scale).

    Args:
        scale: "learn", or half the density's width at half its height, in the target's unit.
    """

    def __init__(
        self,
        scale: Literal["learn"] | float = "learn",
        reduction: Reduction = "mean",
        replicas: int | None = None,
    ) -> None:
        super().__init__(scale, reduction, replicas)

    def rho(self, residual: Tensor, scale: float | Tensor) -> Tensor:
        scale = torch.as_tensor(scale, dtype=residual.dtype)
        return math.log(math.pi) + scale.log() + log1p_square(residual, scale)


class StudentTNLL(Likelihood):
    """-ln of Student's t density with ν degrees of freedom: ν = 1 is Cauchy, ν → ∞ normal.

    Args:
        nu: the degrees of freedom > 0, or "learn": started at 3, kept inside (0.1, 100).
        scale: "learn", or the scale in the target's unit (not the standard deviation).
    """

    nu_fixed: Tensor

    def __init__(
        self,
        nu: Literal["learn"] | float = 3.0,
        scale: Literal["learn"] | float = "learn",
        reduction: Reduction = "mean",
        replicas: int | None = None,
    ) -> None:
        super().__init__(scale, reduction, replicas)
        shape = () if replicas is None else (replicas,)
        self.learned_nu = nu == "learn"
        if nu == "learn":
            low, high = map(math.log, _DEGREES)
            share = (math.log(3.0) - low) / (high - low)
            self.logit_nu = nn.Parameter(torch.full(shape, math.log(share / (1 - share))))
            return
        if not (isinstance(nu, (int, float)) and 0 < nu < math.inf):
            raise ValueError(f"nu is 'learn' or a number > 0, got {nu!r}; for nu = ∞ use torch.nn.GaussianNLLLoss")
        self.register_buffer("nu_fixed", torch.full(shape, float(nu)))

    @property
    def nu(self) -> Float[Tensor, "..."]:
        """The degrees of freedom as they are now."""
        if not self.learned_nu:
            return self.nu_fixed
        low, high = map(math.log, _DEGREES)
        return torch.exp(low + (high - low) * torch.sigmoid(self.logit_nu))

    def rho(self, residual: Tensor, scale: float | Tensor) -> Tensor:
        nu = self.nu.to(residual.dtype)
        scale = torch.as_tensor(scale, dtype=residual.dtype)
        constant = 0.5 * (nu * math.pi).log() + torch.lgamma(nu / 2) - torch.lgamma((nu + 1) / 2)
        nu, constant = self._aligned(nu, residual), self._aligned(constant, residual)
        return constant + scale.log() + (nu + 1) / 2 * log1p_square(residual, scale * nu.sqrt())


class AutoScaled(RobustLoss):
    """An M-estimator whose scale is 1.4826 · median |residual|, without a gradient.

    In training mode every call takes the scale of its own residuals and remembers it; in `eval()` the remembered one
    is used. The residuals' centre is taken as 0, as in statsmodels' RLM.
    """

    scale: Tensor

    def __init__(self, reduction: Reduction = "mean", replicas: int | None = None) -> None:
        super().__init__(reduction, replicas)
        self.register_buffer("scale", torch.full(() if replicas is None else (replicas,), math.nan))

    def current_scale(self, residual: Tensor) -> Tensor:
        if self.training:
            # Where half of the residuals are exactly 0, the smallest normal float keeps 0/0 away.
            self.scale = self._madn(residual).clamp_min(torch.finfo(residual.dtype).tiny)
        elif bool(self.scale.isnan().any()):
            raise RuntimeError(
                f"{type(self).__name__} has no scale yet: call it once in training mode, on a representative batch"
            )
        return self.scale

    def scale_at(self, residual: np.ndarray, weight: np.ndarray) -> float:
        order = np.argsort(np.abs(residual))
        mass = np.cumsum(weight[order])
        return MADN * float(np.interp(0.5 * mass[-1], mass - weight[order] / 2, np.abs(residual)[order]))


class AutoHuber(AutoScaled):
    """Huber's loss with an automatic scale: r²/2 up to k scales, then k s|r| - (k s)²/2. Its influence is bounded.

    Args:
        k: where the parabola ends, in scales; 1.345 is 95 % efficient on normal noise (Huber 1964).
    """

    def __init__(self, k: float = 1.345, reduction: Reduction = "mean", replicas: int | None = None) -> None:
        super().__init__(reduction, replicas)
        self.k = _positive("k", k)

    def rho(self, residual: Tensor, scale: float | Tensor) -> Tensor:
        end = self.k * torch.as_tensor(scale, dtype=residual.dtype)
        # c (r - c/2) is both pieces at once and squares nothing that is large.
        clipped = torch.minimum(torch.maximum(residual, -end), end)
        return clipped * (residual - clipped / 2)


class AutoTukey(AutoScaled):
    """Tukey's biweight with an automatic scale: beyond c scales a residual has no influence at all.

    It is not convex: from a bad start it can ignore good samples for ever.

    Args:
        c: the rejection point, in scales; 4.685 is 95 % efficient on normal noise (Beaton & Tukey 1974).
    """

    def __init__(self, c: float = 4.685, reduction: Reduction = "mean", replicas: int | None = None) -> None:
        super().__init__(reduction, replicas)
        self.c = _positive("c", c)

    def rho(self, residual: Tensor, scale: float | Tensor) -> Tensor:
        end = self.c * torch.as_tensor(scale, dtype=residual.dtype)
        u2 = (torch.minimum(torch.maximum(residual, -end), end) / end).square()
        # 1 - (1 - u²)³ without cancellation at small u.
        return end.square() / 6 * (u2 * (3 - 3 * u2 + u2.square()))


def log1p_square(r: Float[Tensor, "..."], s: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """ln(1 + (r/s)²) for s > 0, accurate and with finite gradients for every finite r."""
    inside = r.abs() <= s
    small = torch.where(inside, r, 0.0) / s
    large = torch.where(inside, s, r.abs())
    return torch.where(
        inside, torch.log1p(small.square()), 2 * (large.log() - s.log()) + torch.log1p((s / large).square())
    )


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number > 0, got {value!r}")
    return float(value)
