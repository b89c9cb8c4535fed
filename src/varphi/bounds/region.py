"""The sets of inputs that bounds hold for: balls in L∞, L2 and L1, and boxes; and what half-spaces leave of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import backward
from .arithmetic import Arithmetic

NORMS: tuple[float, ...] = (1.0, 2.0, math.inf)
# Steps of the search for a multiplier where there is no closed form.
_SECTIONS = 24


class Cuts(NamedTuple):
    """Half-spaces normals·x <= limits, several for each sample; a normal of zeros with a limit >= 0 is none.

    Attributes:
        normals: (batch, cuts, n), over the flattened input.
        limits: (batch, cuts).
    """

    normals: Tensor
    limits: Tensor


@dataclass(frozen=True, eq=False)
class Region:
    """{x : ‖x - centre‖ <= radius} for each sample; for L∞ the radius may differ by coordinate (a box).

    Attributes:
        centre: (batch, ...).
        radius: (batch,), or of the centre's shape for boxes.
        norm: 1, 2 or inf.
        arithmetic: what the two are held in.
        cuts: half-spaces that the set is cut down to.
    """

    centre: Tensor
    radius: Tensor
    norm: float
    arithmetic: Arithmetic
    cuts: Cuts | None = None

    def some(self, index: Tensor) -> Region:
        """Those of some samples."""
        cuts = self.cuts if self.cuts is None else Cuts(self.cuts.normals[index], self.cuts.limits[index])
        return replace(self, centre=self.centre[index], radius=self.radius[index], cuts=cuts)

    @cached_property
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
            size = torch.linalg.vector_norm(centre, ord=self.norm, dim=1)
        # |A·x₀ - fl(A·x₀)| <= γ |A||x₀| <= γ ‖A‖_q ‖x₀‖_p, and the dual norm itself is rounded.
        return centre, radius * (1 + share) + size * share * 1.01 + self.arithmetic.least

    def least(self, coefficients: Tensor) -> Tensor:
        """min of A·x over the set, or below it: (batch or 1, rows, ...) -> (batch, rows)."""
        a = coefficients.flatten(2)
        if self.cuts is None:
            return self._least_uncut(a)
        best = self._least_uncut(a)
        paid = torch.zeros_like(best)
        for k in range(self.cuts.limits.shape[1]):
            leaning, cost = self._leaning(a, Cuts(self.cuts.normals[:, k], self.cuts.limits[:, k]))
            value = self._least_uncut(leaning) - cost - paid
            if self.arithmetic.sound:
                value = value - (value.abs() + cost.abs() + paid.abs()) * (8 * self.arithmetic.eps)
            better = value > best
            best = torch.where(better, value, best)
            a = torch.where(better.unsqueeze(-1), leaning, a)
            paid = torch.where(better, self.arithmetic.up(paid + cost), paid)
        return best

    def _leaning(self, a: Tensor, cut: Cuts) -> tuple[Tensor, Tensor]:
        """A + λ·normal and the constant λ·limit that it costs, for the λ >= 0 that lifts the least value most.

        On the cut A·x >= (A + λ·normal)·x - λ·limit, whatever λ >= 0 is: a wrong one is loose, not false.
        """
        normal, limit = cut.normals.unsqueeze(1), cut.limits.unsqueeze(1)
        a = a.expand(len(normal), -1, -1)
        with torch.no_grad():
            slack = limit - (normal * self.centre.flatten(1).unsqueeze(1)).sum(-1)
            weight = self._multiplier(a, normal, slack).nan_to_num(0.0, 0.0, 0.0).clamp_min(0)
        push = weight.unsqueeze(-1) * normal
        leaning, cost = a + push, weight * limit
        if self.arithmetic.sound:
            lower, upper = self._hull
            size = torch.maximum(lower.abs(), upper.abs()).flatten(1).unsqueeze(1)
            lost = (leaning.abs() + push.abs()) * (2 * self.arithmetic.eps) + self.arithmetic.least
            cost = self.arithmetic.up(cost) + (lost * size).sum(-1) * (1 + self.arithmetic.gamma(size.shape[-1]))
        return leaning, cost

    def _multiplier(self, a: Tensor, normal: Tensor, slack: Tensor) -> Tensor:
        """About the λ that maximises -sup over the set's shape of -(A + λ·normal)·d, less λ·slack: (batch, rows)."""
        if self.norm == 2:
            length = torch.linalg.vector_norm(normal, dim=-1).clamp_min(self.arithmetic.least)
            along = (a * normal).sum(-1) / length
            across = (torch.linalg.vector_norm(a, dim=-1) ** 2 - along**2).clamp_min(0).sqrt()
            depth, radius = slack / length, self.radius.unsqueeze(-1)
            tilt = -depth * across / (radius**2 - depth**2).clamp_min(self.arithmetic.least).sqrt()
            return torch.where(depth.abs() < radius, (tilt - along) / length, torch.zeros_like(tilt))
        if self.norm == 1:
            return self._sectioned(a, normal, slack)
        # The slope by λ of Σ r|a + λ·n| + λ·slack is slack + Σ ±r|n|, and changes its sign at a weighted median.
        size = (self.radius.flatten(1) if self.radius.dim() > 1 else self.radius.unsqueeze(-1)).unsqueeze(1)
        weight = (size * normal.abs()).expand_as(a)
        turns = torch.where(normal == 0, torch.full_like(a, math.inf), -a / normal)
        order = turns.argsort(-1)
        risen = slack - weight.sum(-1, keepdim=True).squeeze(-1)
        slopes = risen.unsqueeze(-1) + 2 * weight.gather(-1, order).cumsum(-1)
        first = (slopes < 0).sum(-1, keepdim=True).clamp_max(a.shape[-1] - 1)
        return turns.gather(-1, order).gather(-1, first).squeeze(-1)

    def _sectioned(self, a: Tensor, normal: Tensor, slack: Tensor) -> Tensor:
        """By golden sections, for L1."""
        largest = normal.abs().amax(-1).clamp_min(self.arithmetic.least)
        low, high = torch.zeros(a.shape[:2], dtype=a.dtype, device=a.device), 16 * a.abs().amax(-1) / largest

        def cost(weight: Tensor) -> Tensor:
            spread = (a + weight.unsqueeze(-1) * normal).abs().amax(-1)
            return self.radius.unsqueeze(-1) * spread + weight * slack

        for _ in range(_SECTIONS):
            third = (high - low) / 3
            left, right = low + third, high - third
            falls = cost(left) > cost(right)
            low, high = torch.where(falls, left, low), torch.where(falls, high, right)
        return (low + high) / 2

    def _least_uncut(self, a: Tensor) -> Tensor:
        least = backward.least if self._is_plain and backward.readable(a) else _least
        return least(a, *self._uncut)

    @property
    def compiled(self) -> tuple[Tensor, Tensor, float, float, Tensor] | None:
        """What `backward.least` takes besides coefficients, if that is all there is and machine code can read it."""
        return self._uncut if self.cuts is None and self._is_plain else None

    @cached_property
    def _uncut(self) -> tuple[Tensor, Tensor, float, float, Tensor]:
        centre, radius = self._flat
        dual = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[self.norm]
        share = 8 * self.arithmetic.eps if self.arithmetic.sound else 0.0
        return centre, radius, dual, share, self._underflow

    @cached_property
    def _is_plain(self) -> bool:
        return backward.readable(self.centre, self.radius)

    @cached_property
    def _underflow(self) -> Tensor:
        """What tiny numbers may lose, (batch,): in a 2-norm their squares."""
        if not self.arithmetic.sound:
            return self.centre.new_zeros(len(self.centre))
        least = self.arithmetic.least
        if self.norm != 2:
            return self.centre.new_full((len(self.centre),), least)
        return least + self.radius * math.sqrt(self.centre[0].numel() * least)

    def hull(self) -> tuple[Tensor, Tensor]:
        """A box around the set: the least one, if it is not cut."""
        return self._hull

    @cached_property
    def _hull(self) -> tuple[Tensor, Tensor]:
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
    size = rounded_up(wanted, arithmetic)
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
    return Region(*boxed(lower, upper, arithmetic), math.inf, arithmetic)


def boxed(lower: Tensor, upper: Tensor, arithmetic: Arithmetic) -> tuple[Tensor, Tensor]:
    """Centre and radius of a box in an arithmetic's format that holds [lower, upper], of float64."""
    centre = (lower + (upper - lower) / 2).to(arithmetic.dtype)
    half = torch.maximum(upper - centre.double(), centre.double() - lower)
    return centre, rounded_up(half * (1 + 1e-15), arithmetic)


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


def rounded_up(value: Tensor, arithmetic: Arithmetic) -> Tensor:
    """A float64 in an arithmetic's format, not below it."""
    rounded = value.to(arithmetic.dtype)
    low = rounded.double() < value
    return torch.where(low, torch.nextafter(rounded, torch.full_like(rounded, math.inf)), rounded)


def _least(a: Tensor, centre: Tensor, radius: Tensor, dual: float, share: float, lost: Tensor) -> Tensor:
    """`backward.least` by torch's operations: on any device, with gradients."""

    def along(rows: Tensor, x: Tensor) -> Tensor:
        return x @ rows[0].T if len(rows) == 1 else torch.matmul(rows, x.unsqueeze(-1)).squeeze(-1)

    middle = along(a, centre)
    if radius.dim() == 1:
        spread = torch.linalg.vector_norm(a, ord=dual, dim=-1) * radius.unsqueeze(-1)
    else:
        spread = along(a.abs(), radius)
    return middle - spread - (middle.abs() + spread) * share - lost.unsqueeze(1)
