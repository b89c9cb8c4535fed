"""Slopes that definitions state: each is the derivative of the value beside it, by ball arithmetic."""

import random
from fractions import Fraction

import flint
import pytest

import varphi as vp
from varphi.activation import registry
from varphi.activation.parsing import FormulaError, parse
from varphi.numbers import Expression, UnsupportedOperation, derivatives, sin, system_of, variable, with_slope
from varphi.numbers.ball import BALL_OPERATIONS, Ball, ball, precision
from varphi.numbers.expression import constant, without_slopes
from varphi.numbers.straight import StraightLine

arb = flint.arb


def _formula(name: str) -> Expression:
    """The definition with every parameter that is a real number as a variable."""
    definition = registry.definition(name)
    free = {p.name: variable(p.name) for p in definition.parameters if not p.constraint.whole}
    return definition.expression(free)


def _stated(expression: Expression) -> list[Expression]:
    return [node for node in expression.nodes() if node.operation == "with_slope"]


USERS = [name for name in vp.names() if _stated(_formula(name))]


def _derivatives(expression: Expression, by: str, order: int) -> list[Expression]:
    """The derivatives by one variable, exactly: constants are nodes, which Python does not round."""

    def along(v):
        known: dict[int, object] = {}
        for node in expression.nodes():
            if node.is_constant:
                known[id(node)] = constant(Fraction(node.value))
            elif node.operation == "variable":
                known[id(node)] = v if node.arguments[0] == by else node
            else:
                arguments = [known[id(a)] for a in node.arguments]
                known[id(node)] = system_of(*arguments).apply(node.operation, *arguments)
        return known[id(expression)]

    return [without_slopes(constant(d)) for d in derivatives(along, variable(by), order)]


def _balls(expressions: list[Expression], values: dict[str, Ball]) -> list[Ball]:
    names = list(values)
    return StraightLine(expressions, BALL_OPERATIONS, ball, names)(*values.values())


def _points(name: str, count: int) -> list[dict[str, float]]:
    """Values of x, of every size, and of the parameters, off their defaults."""
    chance = random.Random(name)
    defaults = {p.name: float(p.default) for p in registry.definition(name).parameters}
    return [
        {n: v * chance.uniform(0.6, 1.4) for n, v in defaults.items()}
        | {"x": chance.choice([-1, 1]) * chance.choice([1.0, 12.0, 10.0 ** chance.uniform(-9, 4)]) * chance.random()}
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", USERS)
def test_each_stated_slope_is_the_derivative_of_its_value(name):
    """By every variable, parameters too: a slope must not miss one."""
    formula = _formula(name)
    plain = without_slopes(formula)
    assert not _stated(plain)
    for by in formula.variables:
        towers = [*_derivatives(formula, by, 3), *_derivatives(plain, by, 3)]
        for values in _points(name, 40):
            with precision(400):
                found = [b.hull() for b in _balls(towers, {n: Ball(v) for n, v in values.items()})]
            for stated, derived in zip(found[:4], found[4:], strict=True):
                assert (stated - derived).contains(0), (by, values)
                assert (stated - derived).rad() < 1e-30 * (1 + abs(stated)), (by, values)


@pytest.mark.parametrize("name", USERS)
def test_each_stated_slope_holds_on_intervals(name):
    """Cut into small cells, the stated slope and the derived one overlap everywhere."""
    formula = registry.definition(name).expression()
    slopes = [_derivatives(f, "x", 1)[1] for f in (formula, without_slopes(formula))]
    for values in _points(name, 40):
        x = Ball(arb(values["x"]), arb(values["x"]) + 1e-3 * (1 + abs(values["x"])))
        with precision(200):
            stated, derived = _balls(slopes, {"x": x})
            assert not stated.lo > derived.hi and not derived.lo > stated.hi, values["x"]


def test_what_uses_them_is_what_needs_them():
    assert {"softsign", "multiquadric", "snake", "atlu", "hh_alpha_m"} <= set(USERS)


def test_a_slope_belongs_to_a_function_of_its_argument_alone():
    x, a = variable("x"), variable("a")
    with pytest.raises(UnsupportedOperation, match=r"function of u = x alone, but a occurs"):
        with_slope(x, a * sin(x), a * sin(x))
    assert without_slopes(constant(with_slope(a * x, sin(a * x), x))) is sin(a * x)
    assert repr(with_slope(x, sin(x), x) + 1) == "sin(x) + 1"


def test_formulas_of_users_cannot_state_slopes():
    with pytest.raises(FormulaError, match="with_slope"):
        parse("with_slope(x, x*x, 3*x)")
