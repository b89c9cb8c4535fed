"""A system of ordinary differential equations, written once: y' = f(y, p, t).

The right-hand side is kept as expressions. From them come the machine code that solvers call, the Jacobian, and the
same system over tensors; an activation in it brings its stable form along.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from varphi.activation.parsing import read
from varphi.numbers import Expression, evaluate, variable
from varphi.numbers.expression import constant, without_slopes
from varphi.numbers.jet import partial
from varphi.numbers.kernel.batch import Batch, batch

from .prepared import in_logarithms, prepared

TIME = "t"


@dataclass(frozen=True)
class SolverCode:
    """A system's machine code for a solver. Behind a system's variables its rows hold what `prepare` computes.

    Attributes:
        prepare: what depends on parameters alone.
        rate: f.
        jacobian: ∂f/∂y row by row, then ∂f/∂t.
    """

    prepare: Batch
    rate: Batch
    jacobian: Batch


@dataclass(frozen=True)
class System:
    """y' = f(y, p, t).

    Attributes:
        states: the names of the unknowns, in order.
        parameters: names and usual values.
        rates: f, an expression in states, parameters and `t` for each state.
        units: of states, parameters and `t`, by name, for tables and figures.
    """

    states: tuple[str, ...]
    parameters: Mapping[str, float]
    rates: tuple[Expression, ...]
    units: Mapping[str, str]

    @staticmethod
    def of(
        rates: Mapping[str, str | Expression] | Callable[[Any], Mapping[str, Any]],
        parameters: Mapping[str, float] | None = None,
        *,
        states: Sequence[str] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> System:
        """A system from its equations.

        Args:
            rates: from each state's name to its rate of change: a formula in the states, the parameters and t
                ("a*x - x*y"), or an expression; or a function of a namespace of all these names, written over varphi's
                elementary functions, that gives such a mapping.
            parameters: names and usual values.
            states: the states' names, needed only for a function.
            units: of states, parameters and `t`.

        Raises:
            ValueError, TypeError: for names that clash or are missing.
            FormulaError: for a formula that cannot be read.
        """
        parameters = {name: float(value) for name, value in (parameters or {}).items()}
        if callable(rates):
            if states is None:
                raise TypeError("rates given as a function need the states named: states=('x', 'y')")
            rates = dict(rates(SimpleNamespace(**{n: variable(n) for n in (*states, *parameters, TIME)})))
        names = tuple(states) if states is not None else tuple(rates)
        _check_names(names, tuple(parameters), tuple(rates))
        empty = System(names, parameters, (), dict(units or {}))
        return replace(empty, rates=tuple(empty.expression(rates[n]) for n in names))

    @property
    def variables(self) -> tuple[str, ...]:
        """What machine code of this system takes: states, parameters, t."""
        return (*self.states, *self.parameters, TIME)

    def expression(self, value: str | Expression | float) -> Expression:
        """A formula in the states, the parameters and t.

        Raises:
            FormulaError, ValueError: for one that cannot be read, or a name that is none of these.
        """
        known = set(self.variables)
        told = f"the states {', '.join(self.states)}, the parameters {', '.join(self.parameters) or '(none)'} and t"
        found = _read(value, known, told) if isinstance(value, str) else constant(value)
        unknown = found.variables - known
        if unknown:
            raise ValueError(f"{min(unknown)!r} occurs in a formula; there are {told}")
        return found

    def named(self, values: Any) -> dict[str, Any]:
        """Values of the states by name: from a mapping, a sequence (states,) or an array (samples, states).

        Raises:
            ValueError: for a missing or unknown name, or another shape.
        """
        if isinstance(values, Mapping):
            odd = set(self.states) ^ set(values)
            if odd:
                raise ValueError(f"start must give {', '.join(self.states)}; {min(odd)!r} is missing or unknown")
            return {name: values[name] for name in self.states}
        array = np.asarray(values, float)
        n = len(self.states)
        if array.shape[-1:] != (n,) or array.ndim > 2:
            raise ValueError(f"start must be ({n},) or (samples, {n}), got {array.shape}")
        return dict(zip(self.states, np.moveaxis(array, -1, 0), strict=True))

    @functools.cached_property
    def jacobian(self) -> tuple[tuple[Expression, ...], ...]:
        """∂f_i/∂y_j."""
        return tuple(tuple(partial(rate, state) for state in self.states) for rate in self.rates)

    @functools.cached_property
    def time_slope(self) -> tuple[Expression, ...]:
        """∂f_i/∂t."""
        return tuple(partial(rate, TIME) for rate in self.rates)

    def function(self, expressions: Sequence[Expression]) -> Batch:
        """Machine code of expressions in this system's variables, for eight samples at a time."""
        return batch([without_slopes(e) for e in expressions], self.variables)

    @functools.cached_property
    def rate_code(self) -> Batch:
        """f."""
        return self.function(self.rates)

    @functools.cached_property
    def jacobian_code(self) -> Batch:
        """∂f/∂y row by row, then ∂f/∂t."""
        return self.function([*(e for row in self.jacobian for e in row), *self.time_slope])

    @functools.cached_property
    def solver_code(self) -> SolverCode:
        """f and its derivatives as `simulate` evaluates them."""
        names, n = tuple(self.parameters), len(self.states)
        rates = in_logarithms(self.rates, names)
        slopes = [partial(rate, state) for rate in rates for state in self.states]
        slopes += [partial(rate, TIME) for rate in rates]
        parts, found = prepared([without_slopes(e) for e in (*rates, *slopes)], names)
        variables = (*self.variables, *parts)
        return SolverCode(
            batch(list(parts.values()), self.variables), batch(found[:n], variables), batch(found[n:], variables)
        )

    def __call__(self, y: Sequence[Any], t: Any = 0.0, **parameters: Any) -> list[Any]:
        """f over any number system: tensors, floats, balls.

        Args:
            y: the states, one value each.
            t: the time.
            parameters: values other than the usual ones.
        """
        values = self.values(parameters) | dict(zip(self.states, y, strict=True)) | {TIME: t}
        # NumPy's scalars compare to truth values of its own.
        return evaluate(self.rates, {n: v.item() if isinstance(v, np.generic) else v for n, v in values.items()})

    def values(self, changed: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, some of them changed.

        Raises:
            ValueError: for an unknown name.
        """
        unknown = set(changed) - set(self.parameters)
        if unknown:
            raise ValueError(f"no parameter {min(unknown)!r}; there are {', '.join(self.parameters) or 'none'}")
        return dict(self.parameters) | dict(changed)


def _read(text: str, known: set[str], told: str) -> Expression:
    return constant(float(text)) if _is_number(text) else read(text, known.__contains__, told)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_names(states: tuple[str, ...], parameters: tuple[str, ...], given: tuple[str, ...]) -> None:
    if not states:
        raise ValueError("a system needs at least one state")
    both = set(states) & set(parameters)
    if both:
        raise ValueError(f"{min(both)!r} is both a state and a parameter")
    if TIME in (*states, *parameters):
        raise ValueError("the name t is the time")
    if set(states) != set(given) or len(set(states)) < len(states):
        raise ValueError(f"rates are given for {', '.join(given)}; the states are {', '.join(states)}")
