"""Algebras of derivatives: how the channels that an operator needs pass through products and functions.

A model is run on *channels* instead of values: u itself, and derivatives of u by the model's input, each a constant
combination of partial derivatives. The channels that an operator needs are the span of its symbol's partial derivatives
(`symbol.closure`), and no smaller set will do: for the Laplacian in d dimensions u, its d slopes and Δu; for the
bilaplacian u, ∇u, the Hessian, ∇Δu and ΔΔu. Under multiplication of functions they form a commutative algebra (a Weil
algebra; its structure constants are read off p(ξ + η)), and a function acts on it by its Taylor series, which ends,
because everything but u itself is nilpotent.

The numbers may be tensors, expressions (from which kernels are compiled) or floats; 0 stands for a channel that is
zero everywhere.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from . import symbol as _symbol
from .symbol import Monomial, Symbol


@dataclass(frozen=True)
class Product:
    """A term of channel `of` of a product: weight · (u[left] v[right] + u[right] v[left]), once where left is right.

    Terms with u[0] or v[0] are not listed: every channel c has u[0] v[c] + u[c] v[0].
    """

    of: int
    left: int
    right: int
    weight: Fraction


@dataclass(frozen=True)
class Algebra:
    """The channels that some operators need, and their multiplication.

    Attributes:
        dimensions: the number of directions that are differentiated along.
        basis: the symbol of each channel; the first is 1, the value itself.
    """

    dimensions: int
    basis: tuple[tuple[tuple[Monomial, Fraction], ...], ...]

    @staticmethod
    def of(symbols: Iterable[Symbol], dimensions: int) -> Algebra:
        """The smallest algebra in which these operators can be applied."""
        parts = [part for s in symbols for part in _symbol.homogeneous_parts(s)]
        return _interned(dimensions, tuple(tuple(sorted(b.items())) for b in _symbol.closure(parts, dimensions)))

    def __len__(self) -> int:
        return len(self.basis)

    def __reduce__(self) -> tuple[Any, ...]:
        return _interned, (self.dimensions, self.basis)

    def __deepcopy__(self, memo: Any) -> Algebra:
        return self

    @functools.cached_property
    def degrees(self) -> tuple[int, ...]:
        """The order of derivative of each channel."""
        return tuple(_symbol.degree(dict(b)) for b in self.basis)

    @property
    def order(self) -> int:
        """The highest order of derivative."""
        return self.degrees[-1]

    @functools.cached_property
    def directions(self) -> tuple[tuple[float, ...], ...]:
        """For each channel of order one, the direction along which it differentiates."""
        units = [_symbol.monomial([axis], self.dimensions) for axis in range(self.dimensions)]
        places = [next(iter(u)) for u in units]
        firsts = [dict(b) for b, degree in zip(self.basis, self.degrees, strict=True) if degree == 1]
        return tuple(tuple(float(b.get(p, 0)) for p in places) for b in firsts)

    def coordinates(self, symbol: Symbol) -> dict[int, Fraction]:
        """The operator with this symbol as a combination of channels.

        Raises:
            LookupError: it cannot be had from them.
        """
        rest, found = dict(symbol), {}
        for channel, items in enumerate(self.basis):
            pivot, _ = max(items)
            weight = rest.get(pivot, Fraction(0))
            if weight:
                found[channel] = weight
                rest = _symbol.minus(rest, weight, dict(items))
        if rest:
            raise LookupError(f"the symbol {dict(symbol)} is not in the span of {len(self)} channels")
        return found

    @functools.cached_property
    def products(self) -> tuple[Product, ...]:
        """The structure constants: b_c(ξ + η) = Σ weight b_left(ξ) b_right(η)."""
        pivots = [max(items)[0] for items in self.basis]
        found = []
        for of, items in enumerate(self.basis):
            for left, right in itertools.combinations_with_replacement(range(1, len(self)), 2):
                if self.degrees[left] + self.degrees[right] != self.degrees[of]:
                    continue
                weight = _coefficient(dict(items), pivots[left], pivots[right])
                if weight:
                    found.append(Product(of, left, right, weight))
        return tuple(found)

    def multiply(self, u: Sequence[Any], v: Sequence[Any]) -> list[Any]:
        """The channels of a product of two functions."""
        found = [_product(u[0], v[0])]
        for c in range(1, len(self)):
            found.append(_sum([_product(u[0], v[c]), _product(u[c], v[0])]))
        for p in self.products:
            if p.left == p.right:
                term = _product(u[p.left], v[p.left])
            elif u is v:
                term = _scaled(2, _product(u[p.left], u[p.right]))
            else:
                term = _sum([_product(u[p.left], v[p.right]), _product(u[p.right], v[p.left])])
            found[p.of] = _sum([found[p.of], _scaled(p.weight, term)])
        return found

    def powers(self, u: Sequence[Any]) -> list[list[Any]]:
        """n, n²/2!, ..., n^order/order!, where n is u without its value."""
        n = [0, *u[1:]]
        found = [n]
        for k in range(2, self.order + 1):
            # n·n as a square, so that each mixed product is formed once.
            product = self.multiply(n, n if k == 2 else found[-1])
            found.append([_scaled(Fraction(1, k), c) for c in product])
        return found

    def compose(self, tower: Sequence[Any], powers: Sequence[Sequence[Any]]) -> list[Any]:
        """The channels of f(u): Σ f^(k)(u0) n^k/k!.

        Args:
            tower: f(u0), f'(u0), ... up to the order.
            powers: those of u.
        """
        return [
            tower[0] if not degree else _sum([_product(tower[k], powers[k - 1][c]) for k in range(1, degree + 1)])
            for c, degree in enumerate(self.degrees)
        ]

    def transposed(self, h: Sequence[Any], g: Sequence[Any]) -> list[Any]:
        """The adjoint of multiplication by h, applied to g: what a product with h passes back to its other factor."""
        found = [_sum([_product(h[c], g[c]) for c in range(len(self))])]
        found += [_product(h[0], g[c]) for c in range(1, len(self))]
        for p in self.products:
            cotangent = _scaled(p.weight, g[p.of])
            found[p.left] = _sum([found[p.left], _product(h[p.right], cotangent)])
            if p.left != p.right:
                found[p.right] = _sum([found[p.right], _product(h[p.left], cotangent)])
        return found


@functools.cache
def _interned(dimensions: int, basis: Any) -> Algebra:
    """One object for each algebra, so that its structure constants are found once."""
    return Algebra(dimensions, basis)


def _coefficient(p: Symbol, left: Monomial, right: Monomial) -> Fraction:
    """The coefficient of ξ^left η^right in p(ξ + η)."""
    whole = tuple(a + b for a, b in zip(left, right, strict=True))
    return p.get(whole, Fraction(0)) * math.prod(math.comb(w, a) for w, a in zip(whole, left, strict=True))


def is_zero(value: Any) -> bool:
    """Whether a channel is zero everywhere, by construction."""
    return type(value) is int and value == 0


def _product(a: Any, b: Any) -> Any:
    return 0 if is_zero(a) or is_zero(b) else a * b


def _scaled(weight: Fraction | int, value: Any) -> Any:
    if is_zero(value) or weight == 1:
        return value
    # Expressions keep fractions exact; tensors take floats.
    return (weight if hasattr(value, "operation") else float(weight)) * value


def _sum(terms: Sequence[Any]) -> Any:
    total: Any = 0
    for term in terms:
        if not is_zero(term):
            total = term if is_zero(total) else total + term
    return total
