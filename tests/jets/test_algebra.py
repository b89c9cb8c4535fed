"""Channels form a commutative algebra, as small as the operator allows."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.jets import symbol as s
from varphi.jets.algebra import Algebra
from varphi.numbers import tanh
from varphi.numbers.jet import derivatives


@pytest.mark.parametrize(
    "d, power, channels",
    # d + 2 for the Laplacian; 1 + d + d(d+1)/2 + d + 1 for the bilaplacian.
    [(1, 1, 3), (2, 1, 4), (10, 1, 12), (1, 2, 5), (2, 2, 9), (5, 2, 27), (10, 2, 77), (2, 3, 16)],
)
def test_as_many_channels_as_the_symbol_has_derivatives(d: int, power: int, channels: int) -> None:
    assert len(Algebra.of([s.laplacian(d, power)], d)) == channels


def symbols(d: int) -> st.SearchStrategy[dict[s.Monomial, Fraction]]:
    monomials = st.tuples(*[st.integers(0, 3)] * d).filter(lambda m: 0 < sum(m) <= 4)
    factors = st.fractions(-3, 3, max_denominator=4).filter(bool)
    return st.dictionaries(monomials, factors, min_size=1, max_size=4)


@st.composite
def algebras(draw: st.DrawFn) -> tuple[Algebra, list[dict[s.Monomial, Fraction]]]:
    d = draw(st.integers(1, 3))
    wanted = draw(st.lists(symbols(d), min_size=1, max_size=3))
    return Algebra.of(wanted, d), wanted


@settings(max_examples=40, deadline=None)
@given(algebras(), st.randoms(use_true_random=False))
def test_multiplication_is_commutative_associative_and_unital(drawn, rng) -> None:
    algebra, _ = drawn
    u, v, w = (numbers(algebra, rng) for _ in range(3))
    one = [Number(1), *[Number(0)] * (len(algebra) - 1)]
    assert algebra.multiply(u, v) == algebra.multiply(v, u)
    assert algebra.multiply(algebra.multiply(u, v), w) == algebra.multiply(u, algebra.multiply(v, w))
    assert algebra.multiply(one, u) == u
    assert algebra.multiply(u, list(u)) == algebra.multiply(u, u)


class Number(Fraction):
    """A fraction with what `algebra` takes for an expression's mark: its weights stay exact."""

    operation = "constant"

    def __add__(self, other):
        return Number(Fraction.__add__(self, other))

    def __mul__(self, other):
        return Number(Fraction.__mul__(self, other))

    __rmul__ = __mul__


def numbers(algebra: Algebra, rng) -> list[Number]:
    return [Number(rng.randint(-9, 9), rng.randint(1, 5)) for _ in range(len(algebra))]


@settings(max_examples=40, deadline=None)
@given(algebras(), st.randoms(use_true_random=False))
def test_the_transposed_product_is_the_adjoint(drawn, rng) -> None:
    algebra, _ = drawn
    h, u, g = (numbers(algebra, rng) for _ in range(3))

    def inner(a, b):
        return sum((p * q for p, q in zip(a, b, strict=True)), Number(0))

    assert inner(algebra.multiply(h, u), g) == inner(u, algebra.transposed(h, g))


@settings(max_examples=40, deadline=None)
@given(algebras())
def test_every_wanted_operator_is_a_combination_of_channels(drawn) -> None:
    algebra, wanted = drawn
    for symbol in wanted:
        rebuilt: dict[s.Monomial, Fraction] = {}
        for channel, weight in algebra.coordinates(symbol).items():
            rebuilt = s.minus(rebuilt, -weight, dict(algebra.basis[channel]))
        assert rebuilt == symbol


def test_an_operator_outside_the_span_is_refused() -> None:
    algebra = Algebra.of([s.laplacian(2)], 2)
    with pytest.raises(LookupError, match="not in the span"):
        algebra.coordinates(s.monomial((0, 0), 2))


def test_one_direction_gives_taylor_series() -> None:
    algebra = Algebra.of([s.monomial([0] * 5, 1)], 1)
    # u = x² at x = 0.7, and tanh(u).
    u = [0.49, 1.4, 2.0, 0, 0, 0]
    tower = derivatives(tanh, 0.49, 5)
    found = algebra.compose(tower, algebra.powers(u))
    expected = derivatives(lambda x: tanh(x * x), 0.7, 5)
    assert found == pytest.approx(expected, rel=1e-13)


def test_products_of_the_laplacian() -> None:
    algebra = Algebra.of([s.laplacian(3)], 3)
    u, v = [2.0, 1.0, -1.0, 0.5, 3.0], [0.5, 2.0, 0.25, 1.0, -1.0]
    found = algebra.multiply(u, v)
    gradient = sum(a * b for a, b in zip(u[1:4], v[1:4], strict=True))
    # Δ(uv) = u Δv + 2 ∇u·∇v + v Δu
    assert math.isclose(found[4], 2.0 * -1.0 + 2 * gradient + 0.5 * 3.0)
