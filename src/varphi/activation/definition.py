"""A definition: a few lines of Python over varphi's elementary functions, from which all else is derived.

@activation(latex=r"x\\,\\tanh(\\ln(1+e^x))", source="Misra, BMVC 2020")
def mish(x):
    \"\"\"Self-gated, smooth, non-monotone.\"\"\"
    return x * tanh(softplus(x))
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from varphi.numbers import Expression, variable
from varphi.numbers.expression import constant

from .constraint import REAL, Constraint
from .formula import Formula


@dataclass(frozen=True)
class Parameter:
    """A named number in a definition, with its default and what it may be."""

    name: str
    default: float | int
    constraint: Constraint


class Evaluation:
    """An expression in x as a defining function, over any number system; unlike a lambda it can be pickled."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def __call__(self, x: Any) -> Any:
        return self.expression.evaluate(x=x)


@dataclass(frozen=True, eq=False)
class Definition:
    """What one activation function is.

    Attributes:
        name: as in `vp.get(name)`.
        function: the defining lines, `function(x, **parameters)`, over any number system.
        latex: the formula as printed.
        source: authors, year, venue or arXiv number.
        aliases: other names it goes by.
        torch: torch.nn's class for the same function, if there is one ("SiLU").
        family: the catalogue's file it stands in; "" for a user's own.
        doc: one line about it.
    """

    name: str
    function: Callable[..., Any]
    latex: str = ""
    source: str = ""
    aliases: tuple[str, ...] = ()
    torch: str | None = None
    family: str = ""
    doc: str = ""

    def __reduce__(self) -> Any:
        # A definition of the catalogue is pickled by name, so that its function need not be.
        from .registry import definition, is_registered

        if is_registered(self):
            return definition, (self.name,)
        return Definition, tuple(getattr(self, field.name) for field in fields(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Definition:
        return self

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters of the defining function, in order, `x` left out."""
        routine = self.function if inspect.isroutine(self.function) else type(self.function).__call__
        hints = typing.get_type_hints(routine, include_extras=True)
        found = []
        for name, parameter in list(inspect.signature(self.function).parameters.items())[1:]:
            constraint = next(
                (m for m in getattr(hints.get(name), "__metadata__", ()) if isinstance(m, Constraint)), REAL
            )
            if parameter.default is inspect.Parameter.empty:
                raise TypeError(f"{self.name}: parameter {name!r} needs a default value")
            found.append(Parameter(name, parameter.default, constraint))
        return tuple(found)

    def values(self, given: Mapping[str, Any]) -> dict[str, float | int]:
        """Every parameter's value: the given ones, checked, and the defaults."""
        known = {p.name: p for p in self.parameters}
        for name in given:
            if name not in known:
                expected = ", ".join(f"{p.name}={p.default:g}" for p in self.parameters) or "no parameters"
                raise TypeError(f"{self.name} has no parameter {name!r}; it takes {expected}")
        return {n: p.constraint.check(self.name, n, given.get(n, p.default)) for n, p in known.items()}

    def expression(self, values: Mapping[str, Any] | None = None) -> Expression:
        """The formula in the variable `x`, with parameters at `values` (numbers or expressions; else the defaults)."""
        if not self.parameters and not values:
            return self._only_expression
        filled = {p.name: p.default for p in self.parameters} | dict(values or {})
        return constant(self.function(variable("x"), **filled))

    @cached_property
    def _only_expression(self) -> Expression:
        return constant(self.function(variable("x")))

    def formula(self, values: Mapping[str, Any], learn: Collection[str] = ()) -> Formula:
        """The formula in `x` and the parameters that may vary: learned ones, and values other than the default.

        Defaults and whole numbers are part of the formula's shape, so that 1·x is written x.
        """
        free = tuple(
            p.name
            for p in self.parameters
            if not p.constraint.whole and (p.name in learn or values[p.name] != p.default)
        )
        fixed = {p.name: values[p.name] for p in self.parameters if p.name not in free}
        key = (free, tuple(fixed.items()))
        if key not in self._formulas:
            self._formulas[key] = Formula(self.expression(fixed | {name: variable(name) for name in free}), free)
        return self._formulas[key]

    @cached_property
    def _formulas(self) -> dict[Any, Formula]:
        return {}
