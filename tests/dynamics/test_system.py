"""Equations written once: machine code, Jacobian, tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from varphi.activation.parsing import FormulaError
from varphi.dynamics.system import System
from varphi.numbers import exp, tanh
from varphi.numbers.expression import variable
from varphi.numbers.kernel.batch import WIDTH, batch


def predator_prey() -> System:
    return System.of({"x": "a*x - b*x*y + sin(t)", "y": "b*x*y - c*y^2"}, {"a": 1.0, "b": 0.5, "c": 0.7})


def evaluated(code: object, rows: np.ndarray) -> np.ndarray:
    out = np.zeros((code.outputs, WIDTH))
    code(rows.ctypes.data, out.ctypes.data)
    return out


@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_machine_code_is_the_equations(values: list[float]) -> None:
    system = predator_prey()
    rows = np.outer(values, np.linspace(0.5, 1.5, WIDTH)).copy()
    x, y, a, b, c, t = rows
    np.testing.assert_allclose(
        evaluated(system.rate_code, rows), [a * x - b * x * y + np.sin(t), b * x * y - c * y**2], rtol=1e-13, atol=1e-13
    )
    expected = [a - b * y, -b * x, b * y, b * x - 2 * c * y, np.cos(t), 0 * t]
    np.testing.assert_allclose(evaluated(system.jacobian_code, rows), expected, rtol=1e-13, atol=1e-13)


def test_over_tensors_it_can_be_differentiated() -> None:
    system = predator_prey()
    x, y = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([0.5, 1.0])
    rates = system([x, y], 0.3, a=torch.tensor(2.0))
    torch.testing.assert_close(rates[0], 2.0 * x - 0.5 * x * y + torch.sin(torch.tensor(0.3)))
    (slope,) = torch.autograd.grad(rates[1].sum(), x)
    torch.testing.assert_close(slope, 0.5 * y)


def test_numpy_numbers_are_numbers() -> None:
    gate = System.of({"x": "where(x > 0, x, -p*x)"}, {"p": 2.0})
    assert gate(np.array([-3.0])) == gate([-3.0]) == [6.0]


def test_a_function_is_the_same_as_formulas() -> None:
    gate = System.of(
        lambda q: {"v": q.i - q.g * tanh(q.v) * q.w, "w": (1 / (1 + exp(-q.v)) - q.w) / 3},
        {"i": 1.0, "g": 2.0},
        states=("v", "w"),
    )
    text = System.of({"v": "i - g*tanh(v)*w", "w": "(1/(1+exp(-v)) - w)/3"}, {"i": 1.0, "g": 2.0})
    assert gate([0.4, 0.2]) == pytest.approx(text([0.4, 0.2]))


@pytest.mark.parametrize(
    "rates, parameters, error, message",
    [
        ({}, {}, ValueError, "at least one state"),
        ({"x": "x*q"}, {}, FormulaError, "unknown symbol 'q'"),
        ({"x": "-x"}, {"x": 1.0}, ValueError, "both a state and a parameter"),
        ({"x": "-x"}, {"t": 1.0}, ValueError, "the name t is the time"),
        ({"x": variable("z")}, {}, ValueError, "'z' occurs in a formula"),
    ],
)
def test_unusable_equations(rates: dict, parameters: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        System.of(rates, parameters)


def test_a_function_needs_names() -> None:
    with pytest.raises(TypeError, match="need the states named"):
        System.of(lambda q: {"x": -q.x})
    with pytest.raises(ValueError, match="rates are given for x"):
        System.of(lambda q: {"x": -q.x}, states=("x", "y"))


def test_unknown_parameters() -> None:
    with pytest.raises(ValueError, match="no parameter 'd'; there are a, b, c"):
        predator_prey()([1.0, 1.0], d=3.0)


def test_code_needs_every_variable() -> None:
    with pytest.raises(ValueError, match="y occurs, but is not among x"):
        batch([variable("x") * variable("y")], ["x"])


def test_a_rate_may_be_a_number() -> None:
    assert System.of({"x": "1.5"})([0.0]) == [1.5]
