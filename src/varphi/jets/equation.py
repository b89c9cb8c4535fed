"""Differential operators written as they are read: "u_xx + 3*u_xy - u_tt + u*u_x".

A formula is taken apart into derivatives that stand in it alone, as terms with constant factors, and the rest. Terms of
one order are collapsed into one operator, so that Δu costs one channel and not one for each direction; of the two
ways, collapsed and not, the one with fewer channels is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from varphi.activation.parsing import FormulaError, read
from varphi.numbers import Expression, variable
from varphi.numbers.expression import constant

from . import operators
from . import symbol as _symbol
from .algebra import Algebra
from .symbol import Monomial, Symbol

_POWERS = {"lap": 1, "Δ": 1, "bilap": 2, "ΔΔ": 2}
_COORDINATES = "xyzt"


class Needs:
    """What a callable operator is given: every quantity of the equation by its name, `d.u_xx`, `d.x`, `d.lap_u`."""

    def __init__(self, find: Callable[[str], Tensor]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._find(name)


@dataclass(frozen=True)
class Name:
    """A name in an equation: a derivative of a field, with its symbol; or a coordinate (field None)."""

    field: int | None
    symbol: Symbol
    coordinate: int = 0


class Operator:
    """A differential operator, applied to models by calling it.

    Attributes:
        fields: what the model's outputs are called.
        coordinates: what its inputs are called.
        channels: how many derivatives are carried through the model, the value included.
    """

    def __init__(
        self, equations: Sequence[str | Callable[[Needs], Tensor]], fields: Sequence[str], coordinates: Sequence[str]
    ) -> None:
        self.fields, self.coordinates = tuple(fields), tuple(coordinates)
        self._equations = tuple(equations)
        self._parts = [self._parsed(e) if isinstance(e, str) else e for e in equations]
        self._plan = min(self._plans(), key=lambda plan: plan.channels)
        self.channels = self._plan.channels

    def __repr__(self) -> str:
        shown = ", ".join(repr(e) if isinstance(e, str) else getattr(e, "__name__", "...") for e in self._equations)
        return f"Operator({shown}; {', '.join(self.fields)} of {', '.join(self.coordinates)}; {self.channels} channels)"

    @property
    def order(self) -> int:
        """The highest order of derivative."""
        return max((_symbol.degree(s) for s in self._plan.symbols), default=0)

    @property
    def orders(self) -> dict[str, int]:
        """For each field the highest order of its derivatives; fields that do not occur are 0."""
        found = dict.fromkeys(self.fields, 0)
        for (field, _), symbol in zip(self._plan.keys, self._plan.symbols, strict=True):
            name = self.fields[field]
            found[name] = max(found[name], _symbol.degree(symbol))
        return found

    def __call__(
        self, model: operators.Model, x: Float[Tensor, "... d"], *, fallback: operators.Fallback = None
    ) -> tuple[Float[Tensor, "... outputs"], Float[Tensor, "... equations"]]:
        """The model's value and the operator applied to it.

        Args:
            model: gives (..., fields); with a single field, any number of outputs, each taken for that field.
            x: one column for each coordinate.
            fallback: as in `operators.gradient`.
        """
        d = operators.dimensions(x)
        if d != len(self.coordinates):
            raise ValueError(f"the equation has the coordinates {', '.join(self.coordinates)}; x has {d} columns")
        symbols = self._plan.symbols
        value, found = operators.apply(model, x, symbols, fallback=fallback)
        if len(self.fields) > 1 and value.shape[-1] != len(self.fields):
            raise ValueError(
                f"the equation has the fields {', '.join(self.fields)}; the model gives {value.shape[-1]} outputs"
            )

        def of_field(tensor: Tensor, field: int) -> Tensor:
            return tensor if len(self.fields) == 1 else tensor[..., field : field + 1]

        terms = {key: of_field(found[i], field) for i, (field, key) in enumerate(self._plan.keys)}

        def find(name: str) -> Tensor:
            if name in terms:
                return terms[name]
            known = self._name(name)
            if known.field is None:
                return x[..., known.coordinate : known.coordinate + 1]
            return of_field(value, known.field)

        results = [
            part.evaluate(**{n: find(n) for n in part.variables}) if isinstance(part, Expression) else part(Needs(find))
            for part in self._plan.parts
        ]
        shape = (*value.shape[:-1], value.shape[-1] if len(self.fields) == 1 else 1)
        results = [torch.as_tensor(r, dtype=value.dtype, device=value.device).expand(shape) for r in results]
        return value, torch.cat(results, -1)

    def _parsed(self, text: str) -> Expression:
        written = re.sub(r"\b(bi)?laplacian\((\w+)\)", lambda m: f"{m[1] or ''}lap_{m[2]}", text)
        told = (
            f"the fields {', '.join(self.fields)}, their derivatives ({self.fields[0]}_{self.coordinates[0] * 2}, "
            f"lap_{self.fields[0]}, ...) and the coordinates {', '.join(self.coordinates)}"
        )
        return read(written, self._is_name, told)

    def _is_name(self, name: str) -> bool:
        try:
            self._name(name)
        except FormulaError:
            return False
        return True

    def _name(self, name: str) -> Name:
        """What a name means.

        Raises:
            FormulaError: nothing here.
        """
        d = len(self.coordinates)
        if name in self.coordinates:
            return Name(None, {}, self.coordinates.index(name))
        if name in self.fields:
            return Name(self.fields.index(name), _symbol.monomial((), d))
        prefix, _, rest = name.partition("_") if "_" in name else re.sub(r"^(Δ+)", r"\1_", name).partition("_")
        if prefix in _POWERS and rest in self.fields:
            return Name(self.fields.index(rest), _symbol.laplacian(d, _POWERS[prefix]))
        field, _, axes = name.rpartition("_")
        if field in self.fields and axes and set(axes) <= set(self.coordinates):
            return Name(self.fields.index(field), _symbol.monomial([self.coordinates.index(a) for a in axes], d))
        raise FormulaError(
            f"unknown name {name!r}: there are the fields {', '.join(self.fields)}, their derivatives such as "
            f"{self.fields[0]}_{self.coordinates[0]}, lap_{self.fields[0]}, and the coordinates "
            f"{', '.join(self.coordinates)}"
        )

    def _plans(self) -> Iterable[_Plan]:
        for collapse in (True, False):
            plan = _Plan(len(self.coordinates))
            for part in self._parts:
                plan.add(part, self, collapse)
            yield plan

    @property
    def names(self) -> tuple[str, ...]:
        """The fields and derivatives that the equations mention."""
        found: list[str] = []
        for part in self._parts:
            found += sorted(part.variables) if isinstance(part, Expression) else self.needed(part)
        return tuple(n for n in dict.fromkeys(found) if n not in self.coordinates)

    def evaluate(self, find: Callable[[str], Tensor]) -> list[Tensor]:
        """The equations at given values of the names in them, coordinates included."""
        return [
            part.evaluate(**{n: find(n) for n in part.variables}) if isinstance(part, Expression) else part(Needs(find))
            for part in self._parts
        ]

    def needed(self, part: Callable[[Needs], Tensor]) -> list[str]:
        """The names that a callable asks for, found by calling it once on ones."""
        names: list[str] = []

        def find(name: str) -> Tensor:
            self._name(name)
            names.append(name)
            return torch.ones(1, 1)

        part(Needs(find))
        return list(dict.fromkeys(names))


class _Plan:
    """Which operators are applied, and how the equations are made from them."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.symbols: list[Symbol] = []
        self.keys: list[tuple[int, str]] = []
        self.parts: list[Any] = []

    @property
    def channels(self) -> int:
        return len(Algebra.of(self.symbols, self.dimensions))

    def add(self, part: Any, operator: Operator, collapse: bool) -> None:
        """Plan one equation."""
        if not isinstance(part, Expression):
            for name in operator.needed(part):
                self._need(name, operator._name(name))
            self.parts.append(part)
            return
        terms, rest = linear_terms(part)
        kept = constant(0) if rest is None else rest
        groups: dict[tuple[int, int], dict[Monomial, Fraction]] = {}
        for name, factor in terms.items():
            known = operator._name(name)
            order = _symbol.degree(known.symbol)
            if not collapse or known.field is None or order < 2 or name in kept.variables:
                kept = kept + constant(factor) * variable(name)
                continue
            group = groups.setdefault((known.field, order), {})
            for monomial, weight in known.symbol.items():
                group[monomial] = group.get(monomial, Fraction(0)) + weight * factor
        for (field, order), group in groups.items():
            key = f"part {len(self.parts)} order {order} of {field}"
            self.symbols.append({m: c for m, c in group.items() if c})
            self.keys.append((field, key))
            kept = kept + variable(key)
        for name in sorted(kept.variables):
            if not name.startswith("part "):
                self._need(name, operator._name(name))
        self.parts.append(kept)

    def _need(self, name: str, known: Name) -> None:
        if known.field is None or _symbol.degree(known.symbol) == 0 or (known.field, name) in self.keys:
            return
        self.symbols.append(known.symbol)
        self.keys.append((known.field, name))


def linear_terms(expression: Expression) -> tuple[dict[str, Fraction], Expression | None]:
    """An expression as Σ factor · variable over rational factors, and the rest of the sum."""
    terms: dict[str, Fraction] = {}
    rest: list[Expression] = []

    def add(node: Expression, factor: Fraction) -> None:
        if node.operation == "variable":
            terms[node.arguments[0]] = terms.get(node.arguments[0], Fraction(0)) + factor
        elif node.operation in ("add", "sub"):
            add(node.arguments[0], factor)
            add(node.arguments[1], factor if node.operation == "add" else -factor)
        elif node.operation == "neg":
            add(node.arguments[0], -factor)
        elif node.operation == "mul" and node.arguments[0].is_constant:
            add(node.arguments[1], factor * Fraction(node.arguments[0].value))
        elif node.operation == "div" and node.arguments[1].is_constant:
            add(node.arguments[0], factor / Fraction(node.arguments[1].value))
        else:
            rest.append(constant(factor) * node)

    add(expression, Fraction(1))
    total = None
    for node in rest:
        total = node if total is None else total + node
    return terms, total


def operator(
    *equations: str | Callable[[Needs], Tensor],
    fields: Sequence[str] = ("u",),
    coordinates: Sequence[str] | None = None,
) -> Operator:
    """A differential operator from its formula, with the fewest channels it needs.

    Args:
        equations: each a formula in the fields, their derivatives (`u_xx`, `u_xy`, `lap_u` or `laplacian(u)`,
            `bilap_u`) and the coordinates, "u_t + u*u_x - 0.01*u_xx"; or a function of one argument that has all of
            these as attributes, `lambda d: d.u_t + torch.sin(d.x) * d.u_x`. Several are a system.
        fields: the names of the model's outputs.
        coordinates: the names of its inputs, one letter each, in the order of x's columns. By default those of
            x, y, z, t that occur in the formulas, in this order.

    Raises:
        FormulaError: for a formula that cannot be read, pointing at the place.
        ValueError, TypeError: for unusable names.
    """
    if not equations:
        raise ValueError("an operator takes at least one equation")
    for e in equations:
        if not isinstance(e, str) and not callable(e):
            raise TypeError(f"an equation is a formula or a function, got {type(e).__name__}")
    fields = _names("fields", fields)
    if coordinates is None:
        if not all(isinstance(e, str) for e in equations):
            raise ValueError("an equation given as a function needs its coordinates named: coordinates=('x', 't')")
        coordinates = _occurring([e for e in equations if isinstance(e, str)], fields)
    coordinates = _names("coordinates", coordinates)
    if any(len(c) != 1 for c in coordinates):
        raise ValueError(f"coordinates are single letters, so that u_xx can be read; got {', '.join(coordinates)}")
    if set(fields) & set(coordinates):
        raise ValueError(f"{min(set(fields) & set(coordinates))!r} is both a field and a coordinate")
    return Operator(equations, fields, coordinates)


def _names(what: str, names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(names)
    if not names or not all(isinstance(n, str) and n.isidentifier() for n in names) or len({*names}) < len(names):
        raise ValueError(f"{what} must be different names, got {names!r}")
    return names


def _occurring(equations: Sequence[str], fields: Sequence[str]) -> tuple[str, ...]:
    """Those of x, y, z, t that the formulas mention."""
    words = {w for e in equations for w in re.findall(r"[^\W\d]\w*", e)}
    letters = {w for w in words if w in _COORDINATES} | {
        letter for w in words for field in fields if w.startswith(f"{field}_") for letter in w[len(field) + 1 :]
    }
    found = tuple(c for c in _COORDINATES if c in letters)
    if not found or any(w.startswith(("lap", "bilap", "Δ")) for w in words):
        raise ValueError("which coordinates the model has cannot be told from the formula: give coordinates='xy'")
    return found
