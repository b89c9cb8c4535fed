"""The sets of inputs that bounds hold for: balls in L∞, L2 and L1, and boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .arithmetic import Arithmetic

NORMS: tuple[float, ...] = (1.0, 2.0, math.inf)


@dataclass(frozen=True, eq=False)
class Region:
    """{x : ‖x - centre‖ <= radius} for each sample; for L∞ the radius may differ by coordinate (a box).

    Attributes:
        centre: (batch, ...).
        radius: (batch,), or of the centre's shape for boxes.
        norm: 1, 2 or inf.
        arithmetic: what the two are held in.
    """

    centre: Tensor
    radius: Tensor
    norm: float
    arithmetic: Arithmetic

    @property
    def _flat(self) -> tuple[Tensor, Tensor]:
        """Centre (batch, n, 1), and the radius enlarged by what rounding costs in `least`."""
        centre = self.centre.flatten(1)
        radius = self.radius.flatten(1) if self.radius.dim() > 1 else self.radius
        if not self.arithmetic.sound:
            return centre, radius
        share = self.arithmetic.gamma(centre.shape[1])
        if self.norm == math.inf:
            size = centre.abs() if radius.dim() > 1 else centre.abs().amax(1)
        else:
            size = centre.norm(p=self.norm, dim=1)
        # |A·x₀ - fl(A·x₀)| <= γ |A||x₀| <= γ ‖A‖_q ‖x₀‖_p, and the dual norm itself is rounded.
        return centre, radius * (1 + share) + size * share * 1.01 + self.arithmetic.least

    def least(self, coefficients: Tensor) -> Tensor:
        """min of A·x over the set: (batch or 1, rows, ...) -> (batch, rows)."""
        a = coefficients.flatten(2)
        centre, radius = self._flat
        if a.shape[0] == 1 and len(centre) > 1:
            at_centre = centre @ a[0].T
        else:
            at_centre = torch.matmul(a, centre.unsqueeze(-1)).squeeze(-1)
        if self.norm == math.inf and radius.dim() > 1:
            size = a.abs()
            spread = radius @ size[0].T if a.shape[0] == 1 else torch.matmul(size, radius.unsqueeze(-1)).squeeze(-1)
        else:
            dual = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[self.norm]
            spread = torch.linalg.vector_norm(a, ord=dual, dim=-1) * radius.unsqueeze(-1)
        value = at_centre - spread
        if not self.arithmetic.sound:
            return value
        return value - (at_centre.abs() + spread) * (8 * self.arithmetic.eps) - self.arithmetic.least

    def hull(self) -> tuple[Tensor, Tensor]:
        """The least box around the set."""
        radius = self.radius
        if radius.dim() == 1:
            radius = radius.view(-1, *[1] * (self.centre.dim() - 1)).expand_as(self.centre)
        lower, upper = self.centre - radius, self.centre + radius
        if not self.arithmetic.sound:
            return lower, upper
        slack = (self.centre.abs() + radius) * (2 * self.arithmetic.eps) + self.arithmetic.least
        return lower - slack, upper + slack


def region(x: Tensor | tuple[Tensor, Tensor], radius: Any, norm: Any, arithmetic: Arithmetic) -> Region:
    """A set of inputs as `bounds` takes it: a centre and a radius, or the two corners of a box.

    Raises:
        ValueError, TypeError: for NaN or infinite numbers, a negative radius, another norm, corners in the wrong order.
    """
    if isinstance(x, tuple):
        return _box(x, radius, norm, arithmetic)
    if radius is None:
        raise TypeError("a radius is needed around x; or give the corners of a box as x=(lower, upper)")
    centre = _plain("x", x).to(arithmetic.dtype)
    wanted = torch.as_tensor(radius, dtype=torch.float64, device=centre.device)
    if not bool(torch.isfinite(wanted).all()) or bool((wanted < 0).any()):
        raise ValueError(f"a radius must be finite and >= 0, got {radius!r}")
    if norm not in NORMS:
        raise ValueError(f"norm is 1, 2 or inf (math.inf), got {norm!r}")
    size = _rounded_up(wanted, arithmetic)
    if size.dim() <= 1 and size.numel() in (1, len(centre)):
        return Region(centre, size.reshape(-1).expand(len(centre)), float(norm), arithmetic)
    if size.shape == centre.shape and norm == math.inf:
        return Region(centre, size, math.inf, arithmetic)
    raise ValueError(
        f"radius must be one number, {len(centre)} of them (one for each sample), or for norm=inf of x's shape "
        f"{tuple(centre.shape)}; got shape {tuple(size.shape)}"
    )


def _box(corners: tuple[Tensor, Tensor], radius: Any, norm: Any, arithmetic: Arithmetic) -> Region:
    if radius is not None:
        raise TypeError("a box is given by its corners x=(lower, upper) alone: leave radius out")
    if norm != math.inf:
        raise ValueError(f"a box is a set of norm=inf, got norm={norm!r}")
    lower, upper = (_plain(name, t).double() for name, t in zip(("lower", "upper"), corners, strict=True))
    if lower.shape != upper.shape or bool((lower > upper).any()):
        raise ValueError("the corners of a box must be of one shape with lower <= upper everywhere")
    centre = (lower + (upper - lower) / 2).to(arithmetic.dtype)
    half = torch.maximum(upper - centre.double(), centre.double() - lower)
    return Region(centre, _rounded_up(half * (1 + 1e-15), arithmetic), math.inf, arithmetic)


def _plain(name: str, x: Any) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(
            f"{name} must be a tensor of floating-point numbers, got {getattr(x, 'dtype', type(x).__name__)}"
        )
    if x.dim() < 2:
        raise ValueError(f"{name} must have a batch dimension first, (batch, ...); got shape {tuple(x.shape)}")
    if not x.numel():
        raise ValueError(f"{name} is empty: shape {tuple(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name} holds NaN or ±inf; a set of inputs must be finite")
    return x.detach()


def _rounded_up(value: Tensor, arithmetic: Arithmetic) -> Tensor:
    rounded = value.to(arithmetic.dtype)
    low = rounded.double() < value
    return torch.where(low, torch.nextafter(rounded, torch.full_like(rounded, math.inf)), rounded)
