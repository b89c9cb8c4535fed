"""Conditions on the boundary, at the start, and between opposite faces.

Each says where it holds and what it asks of the field there. A condition is *hard* where the model fulfils it by its
form, u = g + φN, and *soft* where it is a residual among the others; `problem` decides which.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from varphi.activation.parsing import read
from varphi.numbers import Expression

from .domain import TOLERANCE

# A number, a formula in the coordinates, or a function of points (n, d) that gives (n,) or (n, 1).
Value: TypeAlias = "float | str | Callable[[Tensor], Tensor]"
# "x = 0", "x = 0 or y = 1", or a function of points (n, d) that gives a mask (n,); None: the whole boundary.
Place: TypeAlias = "str | Callable[[Tensor], Tensor] | None"


@dataclass(frozen=True, kw_only=True)
class _OnBoundary:
    """What conditions on the boundary have in common.

    Attributes:
        where: which part of the boundary.
        field: which of the problem's fields.
        weight: of its residual beside the equation's, where it is soft; None: chosen from the size of the domain.
    """

    where: Place = None
    field: str | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Dirichlet(_OnBoundary):
    """u = value.

    Attributes:
        hard: True: by the form u = g + φN, φ from the domain; False: by a residual; None: hard where φ is smooth.
    """

    value: Value = 0.0
    hard: bool | None = None


@dataclass(frozen=True)
class Neumann(_OnBoundary):
    """∂u/∂n = value, n outward."""

    value: Value = 0.0


@dataclass(frozen=True)
class Robin(_OnBoundary):
    """a u + b ∂u/∂n = value."""

    a: Value = 1.0
    b: Value = 1.0
    value: Value = 0.0


@dataclass(frozen=True)
class Initial:
    """u = value at the start of time, and ∂u/∂t = rate if given; the coordinate `time` runs along one side of a box.

    Attributes:
        hard: as for `Dirichlet`; the rate is always a residual.
    """

    value: Value = 0.0
    rate: Value | None = None
    time: str = "t"
    field: str | None = None
    hard: bool | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Periodic:
    """The fields and all their derivatives agree on the two faces of a box along one coordinate; always hard."""

    coordinate: str


@dataclass(frozen=True)
class Free:
    """Nothing is asked on this part of the boundary: an outflow, say."""

    where: Place = None


Condition: TypeAlias = "Dirichlet | Neumann | Robin | Initial | Periodic | Free"


# Reading -------------------------------------------------------------------------------------------------------------


class Function(ABC):
    """A value over points, made of torch operations: derivatives can be carried through it."""

    @abstractmethod
    def __call__(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... 1"]:
        """At points."""


@dataclass(frozen=True)
class Constant(Function):
    """The same number everywhere."""

    value: float

    def __call__(self, x: Any) -> Any:
        """See `Function`."""
        return 0.0 * x[..., :1] + self.value


@dataclass(frozen=True)
class Formula(Function):
    """A formula in the coordinates."""

    expression: Expression
    coordinates: tuple[str, ...]

    def __call__(self, x: Any) -> Any:
        """See `Function`."""
        columns = {c: x[..., i : i + 1] for i, c in enumerate(self.coordinates) if c in self.expression.variables}
        return self.expression.evaluate(**columns)


@dataclass(frozen=True)
class Given(Function):
    """A function of the user's."""

    value: Callable[[Any], Any]

    def __call__(self, x: Any) -> Any:
        """See `Function`; what is no column is refused."""
        return _column(self.value(x), x, self.value)


@dataclass(frozen=True)
class Line(Function):
    """In one dimension, the straight line through two values."""

    start: float
    at_start: float
    end: float
    at_end: float

    def __call__(self, x: Any) -> Any:
        """See `Function`."""
        slope = (self.at_end - self.at_start) / (self.end - self.start)
        return self.at_start + (x[..., :1] - self.start) * slope


def function(value: Value, coordinates: Sequence[str]) -> Function:
    """A value as a function of points, (..., d) to (..., 1).

    Raises:
        FormulaError: for a formula that cannot be read.
        TypeError, ValueError: for what is no value.
    """
    if isinstance(value, str):
        if not set(re.findall(r"[^\W\d]\w*", value)) & {*coordinates}:
            return function(_number(value), coordinates)
        expression = read(value, lambda n: n in coordinates, f"the coordinates {', '.join(coordinates)}")
        # "0*x" is a number by now.
        return Formula(expression, tuple(coordinates)) if expression.variables else Constant(float(expression.value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"a value must be finite, got {value!r}")
        return Constant(float(value))
    if callable(value):
        return Given(value)
    raise TypeError(f"a value is a number, a formula or a function of points, got {type(value).__name__}")


def _number(text: str) -> float:
    """A formula without variables: "2*pi"."""
    # A formula is read as one of something: of x, which is 0.
    return float(read(f"{text} + x", "x".__eq__, "no variables").evaluate(x=0.0))


def _column(found: Any, x: Any, value: Any) -> Any:
    name = getattr(value, "__name__", repr(value))
    if not isinstance(found, Tensor):
        raise TypeError(f"{name} must give a tensor, got {type(found).__name__}")
    if not found.is_floating_point():
        raise TypeError(f"{name} must give floating-point numbers, got {found.dtype}; convert with .double()")
    if found.shape == x.shape[:-1]:
        found = found.unsqueeze(-1)
    if found.shape != (*x.shape[:-1], 1):
        raise ValueError(f"{name} of points {tuple(x.shape)} must give {(*x.shape[:-1], 1)}, got {tuple(found.shape)}")
    return found


def mask(where: Place, coordinates: Sequence[str], scale: float) -> Callable[[Tensor], Bool[Tensor, " n"]]:
    """Which points of a boundary lie in a place.

    Raises:
        ValueError: for a place that cannot be read.
    """
    if where is None:
        return lambda x: torch.ones(len(x), dtype=torch.bool)
    if callable(where):
        return lambda x: _checked_mask(where(x), x)
    if not isinstance(where, str):
        raise TypeError(f"a place is a text such as 'x = 0' or a function of points, got {type(where).__name__}")
    planes = [_plane(part, coordinates, where) for part in re.split(r"\bor\b", where)]

    def on_planes(x: Tensor) -> Tensor:
        hits = [(x[:, axis] - level).abs() <= TOLERANCE * scale for axis, level in planes]
        return torch.stack(hits).any(0)

    return on_planes


def _plane(text: str, coordinates: Sequence[str], where: str) -> tuple[int, float]:
    name, _, level = (part.strip() for part in text.partition("="))
    try:
        axis = coordinates.index(name)
        found = _number(level.lstrip("= "))
    except ValueError as error:
        raise ValueError(
            f"the place {where!r} cannot be read: write '{coordinates[0]} = 0', several joined by 'or', or give a "
            "function of the points that returns a mask"
        ) from error
    return axis, found


def _checked_mask(found: Any, x: Tensor) -> Tensor:
    if not isinstance(found, Tensor) or found.dtype is not torch.bool or found.shape != (len(x),):
        shown = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"a place must give a mask of bool ({len(x)},) for {len(x)} points, got {shown}")
    return found
