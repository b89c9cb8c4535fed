"""An activation as a torch layer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from . import backend
from .constraint import Constraint
from .definition import Definition, Parameter
from .formula import Formula
from .pointwise import derivatives, ordinary, pointwise
from .registry import is_registered


class Activation(nn.Module):
    """A definition with values for its parameters: a plain `nn.Module`.

    Args:
        definition: what it computes.
        values: parameter values; those not given take the definition's defaults.
        learn: names of parameters that become trainable. One that must be positive is stored as its logarithm
            (`log_beta` in the state dict), one in an interval as its logit, so that no step can leave its range.

    Raises:
        ValueError, TypeError: for an unknown parameter, or a value outside its constraint.
    """

    definition: Definition
    values: dict[str, float | int]
    learn: tuple[str, ...]
    formula: Formula

    def __init__(self, definition: Definition, values: dict[str, Any] | None = None, learn: Iterable[str] = ()) -> None:
        super().__init__()
        self.definition = definition
        self.values = definition.values(values or {})
        self.learn = (learn,) if isinstance(learn, str) else tuple(learn)
        parameters = {p.name: p for p in definition.parameters}
        for name in self.learn:
            if name not in parameters:
                expected = ", ".join(parameters) or "no parameters"
                raise TypeError(f"{definition.name} has no parameter {name!r} to learn; it has {expected}")
            parameter = parameters[name]
            if parameter.constraint.whole:
                raise ValueError(f"{definition.name}: {name} is a whole number and cannot be learned")
            raw = _unconstrained(definition.name, parameter, self.values[name])
            self.register_parameter(_stored_name(parameter), nn.Parameter(torch.tensor(raw)))
        self.formula = definition.formula(self.values, self.learn)
        self.formula.prepare()
        # Only for the definition of that name, with nothing in it varied.
        own = is_registered(definition) and not self.formula.parameters
        self._native = backend.NATIVE.get(definition.name) if own else None

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        if torch.compiler.is_compiling():
            return pointwise(self.formula, x, *self.arguments())
        if self._native is not None and backend.suits(self._native, x):
            return self._native.function(x)
        if not self.formula.parameters and backend.is_ordinary(x):
            return ordinary(self.formula, x)
        return pointwise(self.formula, x, *self.arguments())

    def derivatives(self, x: Float[Tensor, "..."], order: int) -> Float[Tensor, "order+1 ..."]:
        """f, f', ..., f^(order) at every element of x."""
        return derivatives(self.formula, x, tuple(self.arguments()), order)

    def arguments(self) -> list[Any]:
        """The current value of each parameter of the formula: a number, or a tensor where it is learned."""
        return [self.current(name) if name in self.learn else self.values[name] for name in self.formula.parameters]

    def current(self, name: str) -> Tensor:
        """The value of a learned parameter, inside its constraint."""
        parameter = next(p for p in self.definition.parameters if p.name == name)
        return _constrained(parameter.constraint, getattr(self, _stored_name(parameter)))

    def numbers(self) -> dict[str, float | int]:
        """Every parameter's value as a plain number, learned ones as they are now."""
        learned = {name: float(self.current(name).detach()) for name in self.learn}
        return self.values | learned

    @property
    def name(self) -> str:
        return self.definition.name

    def _get_name(self) -> str:
        return self.definition.name

    def extra_repr(self) -> str:
        parts = [f"{name}={value:g}" for name, value in self.numbers().items()]
        if self.learn:
            parts.append(f"learn=({', '.join(map(repr, self.learn))},)")
        return ", ".join(parts)


def _is_interval(constraint: Constraint) -> bool:
    return math.isfinite(constraint.lower) and math.isfinite(constraint.upper)


def _stored_name(parameter: Parameter) -> str:
    """Its name in the state dict; one that a module already uses (`half`) gets an underscore."""
    if _is_interval(parameter.constraint):
        return f"logit_{parameter.name}"
    if math.isfinite(parameter.constraint.lower):
        return f"log_{parameter.name}"
    taken = hasattr(Activation, parameter.name) or parameter.name in Activation.__annotations__
    return f"{parameter.name}_" if taken else parameter.name


def _unconstrained(owner: str, parameter: Parameter, value: float) -> float:
    constraint = parameter.constraint
    if math.isfinite(constraint.lower) and not constraint.lower < value < constraint.upper:
        raise ValueError(f"{owner}: {parameter.name} must start inside its range to be learned, got {value!r}")
    if _is_interval(constraint):
        return math.log((value - constraint.lower) / (constraint.upper - value))
    return math.log(value - constraint.lower) if math.isfinite(constraint.lower) else value


def _constrained(constraint: Constraint, raw: Tensor) -> Tensor:
    if _is_interval(constraint):
        return constraint.lower + (constraint.upper - constraint.lower) * torch.sigmoid(raw)
    if not math.isfinite(constraint.lower):
        return raw
    # Where the exponential, or the sum, would round to an end of the range, it stays just inside.
    # (What torch.fx traces has no dtype yet: it gets float32's limits.)
    number = torch.finfo(raw.dtype if isinstance(raw, Tensor) else torch.float32)
    least, most = max(number.tiny, 2 * number.eps * constraint.lower), number.max / 2
    return constraint.lower + torch.exp(raw.clamp(math.log(least), math.log(most)))
