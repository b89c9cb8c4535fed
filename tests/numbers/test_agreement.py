"""One definition, many number systems: at the same x they all give the same number."""

import math

import flint
import pytest
import sympy
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import varphi as vp
from varphi.activation import backend, registry
from varphi.activation.formula import Formula
from varphi.numbers import (
    ELEMENTARY,
    OPERATIONS,
    Jet,
    exprel,
    hill,
    sinc,
    squareplus,
    system_of,
    variable,
    where,
    with_slope,
)
from varphi.numbers.ball import Ball, precision
from varphi.numbers.expression import constant
from varphi.numbers.symbol import symbol

arb = flint.arb


def _operator(name, *others):
    return lambda x: system_of(x).apply(name, x, *others)


# Every operation as a function of one number, at x > 0 where it needs that.
UNARY = {name: f for name, f in ELEMENTARY.items() if f.arity == 1}
FUNCTIONS = {
    **UNARY,
    "neg": _operator("neg"),
    "abs": _operator("abs"),
    "add": lambda x: x + 0.3,
    "sub": lambda x: 0.3 - x,
    "mul": lambda x: x * x * 0.7,
    "div": lambda x: 0.7 / (x * x + 1),
    "pow": lambda x: (x * x + 0.5) ** 1.7 + x**3 - 2 ** (0.1 * x),
    "maximum": lambda x: ELEMENTARY["maximum"](x, 0.5),
    "minimum": lambda x: ELEMENTARY["minimum"](x * x, x),
    "lt": lambda x: where(x < 0.4, x, 1.5),
    "le": lambda x: where(x <= 0.4, x, 1.5),
    "gt": lambda x: where(x > 0.4, x, 1.5),
    "ge": lambda x: where(x >= 0.4, x, 1.5),
    "eq": lambda x: where(x == 0.25, x, 1.5),
    "ne": lambda x: where(x != 0.25, x, 1.5),
    "where": lambda x: where(x > 0, 0.1, x),
    "squareplus": lambda x: squareplus(x, 2.5),
    "hill": lambda x: hill(abs(x) + 0.01, 0.7, 2.5),
    "exprel": exprel,
    "with_slope": lambda x: with_slope(x, x * x, 2 * x),
    "sinc": sinc,
}
POSITIVE = {"log", "sqrt", "log1p"}
# Off the places where comparisons turn: there a rounded x may fall on either side.
POINTS = st.floats(-12, 12).map(lambda v: round(v, 6) + 3e-8)


def values(function, x: float, *, by_sympy: bool = True) -> dict[str, float]:
    """f(x) by every number system."""
    formula = Formula(constant(function(variable("x"))))
    tensor = torch.tensor([x], dtype=torch.float64)
    found = {
        "expression": formula.expression.evaluate(x=x),
        "tensor": backend.by_operations(formula, tensor, ()).item(),
        "tensor, defining lines": _item(function(tensor)),
        "kernel": backend.run(formula, tensor, ()).item(),
        "jet of floats": _first(function(Jet([x]))),
        "jet of tensors": _item(_first(function(Jet([tensor])))),
        "tower": backend.run_tower(formula, tensor, (), 1)[0].item(),
    }
    if by_sympy:
        # A float of many digits: of a power of exact fractions SymPy tries to factor the numbers, for minutes.
        at = sympy.Float(x, 60)
        found["SymPy"] = float(sympy.N(symbol(formula.expression, x=at), 17, maxn=400))
    return found


def _first(value):
    return value.c[0] if isinstance(value, Jet) else value


def _item(value):
    return value.item() if isinstance(value, torch.Tensor) else float(value)


def enclosures(function, x: float):
    with precision(200):
        yield "point", function(arb(x))
        yield "ball", function(Ball(arb(x), arb(x))) if not math.isnan(x) else None


def check(function, x: float, tolerance: float, **options) -> None:
    direct = float(function(x))
    nearby = max(abs(float(function(x * (1 + s * 1e-13))) - direct) for s in (-1, 1))
    allowed = tolerance * abs(direct) + nearby + 1e-15 * max(1.0, abs(x))
    for system, value in values(function, x, **options).items():
        assert abs(value - direct) <= allowed, (system, x, value, direct)
    for system, enclosure in enclosures(function, x):
        hull = enclosure.hull() if isinstance(enclosure, Ball) else arb(enclosure)
        assert hull.rad() <= 1e-25 * (1 + abs(hull.mid())), (system, x, hull)
        assert abs(arb(direct) - hull) <= arb(allowed), (system, x, str(hull), direct)


def test_every_operation_is_here():
    assert set(FUNCTIONS) == set(OPERATIONS)


@settings(max_examples=12)
@given(x=POINTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_operation(name, x):
    # sympy's own limit at a removable singularity takes seconds: it has tests of its own.
    check(FUNCTIONS[name], abs(x) if name in POSITIVE else x, 1e-14, by_sympy=name not in ("exprel", "sinc"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_operation_at_zero(name):
    if name in ("log", "minimum", "sqrt"):
        return
    check(FUNCTIONS[name], 0.0, 1e-14)


@settings(max_examples=3)
@given(x=POINTS)
@example(-1.37)
@example(0.83)
@pytest.mark.parametrize("name", vp.names())
def test_every_entry_of_the_catalogue(name, x):
    check(registry.definition(name).function, x, 1e-12, by_sympy=False)


@pytest.mark.parametrize("name", vp.names())
def test_every_entry_by_sympy(name):
    definition = registry.definition(name)
    for x in (-1.37, 0.83):
        at = sympy.Rational(*x.as_integer_ratio())
        formula = definition.expression()
        if any(n.operation in ("exprel", "sinc") for n in formula.nodes()):
            continue
        got = float(sympy.N(symbol(formula, x=at), 17, maxn=400))
        assert got == pytest.approx(float(definition.function(x)), rel=1e-12, abs=1e-15)
