"""Functions that are 0 on a part of a boundary and positive inside: the φ of u = g + φN.

They map points (..., d) to (..., 1), are made of torch operations, so that derivatives can be carried through them, and
are data: a field that contains one can be copied and pickled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

Factor: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class Face:
    """slope x_axis + offset: 0 on a plane."""

    axis: int
    slope: float
    offset: float

    def __call__(self, x: Any) -> Any:
        return x[..., self.axis : self.axis + 1] * self.slope + self.offset


@dataclass(frozen=True)
class Arch:
    """1 - z², z = slope x_axis + offset: 0 on two parallel planes, 1 midway."""

    axis: int
    slope: float
    offset: float

    def __call__(self, x: Any) -> Any:
        z = x[..., self.axis : self.axis + 1] * self.slope + self.offset
        return 1.0 - z * z


@dataclass(frozen=True)
class Quadric:
    """1 - |x - centre|²/radius²: 0 on a sphere, 1 at its centre."""

    centre: tuple[float, ...]
    radius: float

    def __call__(self, x: Any) -> Any:
        # Kept in columns: Σ over slices, since x may carry derivatives.
        squares = [((x[..., i : i + 1] - c) / self.radius) ** 2 for i, c in enumerate(self.centre)]
        return 1.0 - sum(squares[1:], squares[0])


@dataclass(frozen=True)
class Segment:
    """0 on the straight segment from a to b alone, near it the distance (Sukumar & Srivastava, arXiv 2104.08426)."""

    a: tuple[float, float]
    b: tuple[float, float]

    def __call__(self, x: Any) -> Any:
        length = math.dist(self.a, self.b)
        tangent = [(q - p) / length for p, q in zip(self.a, self.b, strict=True)]
        dx, dy = (x[..., :1] - self.a[0]) / length, (x[..., 1:2] - self.a[1]) / length
        across = dx * tangent[1] - dy * tangent[0]
        along = dx * tangent[0] + dy * tangent[1] - 0.5
        # Positive beside the segment: the line goes on, this function does not let it be 0 there.
        trim = 0.25 - across * across - along * along
        rest = (torch.sqrt(trim * trim + across**4) - trim) / 2
        return length * torch.sqrt(across * across + rest * rest)


@dataclass(frozen=True)
class Product:
    """0 where any of the factors is."""

    factors: tuple[Factor, ...]

    def __call__(self, x: Any) -> Any:
        return math.prod([f(x) for f in self.factors[1:]], start=self.factors[0](x))


@dataclass(frozen=True)
class Joined:
    """1 / Σ 1/φ_i (R-equivalence): 0 where any of them is, and near each like that one."""

    factors: tuple[Factor, ...]

    def __call__(self, x: Any) -> Any:
        values = [f(x) for f in self.factors]
        # Π φ_i over Σ_i Π of the others; the smallest number keeps corners, where both are 0, from being 0/0.
        below = sum((math.prod(values[:i] + values[i + 1 :]) for i in range(1, len(values))), math.prod(values[1:]))
        return math.prod(values) / (below + 1e-300)


@dataclass(frozen=True)
class Scaled:
    """A multiple."""

    factor: Factor
    by: float

    def __call__(self, x: Any) -> Any:
        return self.factor(x) * self.by


def product(factors: list[Factor]) -> Factor:
    """One factor as it is, several as a `Product`."""
    return factors[0] if len(factors) == 1 else Product(tuple(factors))
