"""Which number system computes, and what is refused."""

import decimal
import fractions
import subprocess
import sys

import numpy as np
import pytest
import sympy
import torch
from flint import arb

from varphi.numbers import (
    ELEMENTARY,
    OPERATIONS,
    Expression,
    Jet,
    UnsupportedOperation,
    exp,
    hill,
    maximum,
    sigmoid,
    system_of,
    tanh,
    variable,
    where,
)
from varphi.numbers._system import System, register
from varphi.numbers.ball import Ball

VALUES = {
    "real numbers": [1, 0.5, True, fractions.Fraction(1, 3), np.float64(0.5), np.float32(0.5), np.int64(2)],
    "torch tensors": [torch.ones(2), torch.nn.Parameter(torch.ones(1)), torch.ones(2, dtype=torch.float16)],
    "expressions": [variable("x")],
    "jets": [Jet([1.0, 1.0])],
    "SymPy expressions": [sympy.Symbol("x"), sympy.Rational(1, 3), sympy.pi],
}


@pytest.mark.parametrize("name", VALUES)
def test_the_type_decides(name):
    for value in VALUES[name]:
        assert system_of(value).name == name
        assert system_of(value, 1.5).name == system_of(1.5, value).name == name


def test_balls_of_both_kinds():
    assert system_of(arb(1)).operations is not system_of(Ball(arb(1), arb(2))).operations
    assert isinstance(exp(arb(1)), arb)
    assert isinstance(exp(Ball(arb(1), arb(2))), Ball)


# What each returns is a number of the same kind; a jet of x is a jet, whatever is in it.
MIXED = [
    (torch.tensor(0.5), variable("x"), Expression),
    (variable("x"), Jet([0.5, 1.0]), Jet),
    (torch.tensor(0.5), Jet([torch.tensor(0.5), 1]), Jet),
    (0.5, Jet([arb(1), 1]), Jet),
    (2, variable("x"), Expression),
    (fractions.Fraction(1, 3), torch.ones(2), torch.Tensor),
    (0.5, arb(2), arb),
    (0.5, sympy.Symbol("x", real=True), sympy.Basic),
]


@pytest.mark.parametrize("a, b, kind", MIXED, ids=lambda v: type(v).__name__ if not isinstance(v, type) else "")
def test_where_two_systems_meet_the_higher_computes(a, b, kind):
    if kind is Expression and isinstance(a, torch.Tensor):
        with pytest.raises(UnsupportedOperation, match="not a real constant"):
            maximum(a, b)
        return
    assert isinstance(maximum(a, b), kind)
    assert isinstance(maximum(b, a), kind)


@pytest.mark.parametrize(
    "value", ["x", None, 1j, [1.0], (1,), object(), decimal.Decimal(1), np.ones(3), range(2), tanh],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_values_of_no_system_are_refused_by_name(value):
    with pytest.raises(UnsupportedOperation, match=f"'{type(value).__name__}' belongs to no number system of varphi"):
        exp(value)
    with pytest.raises(UnsupportedOperation, match="Known: real numbers, torch tensors, jets"):
        where(True, 1.0, value)
    with pytest.raises(TypeError):
        variable("x") + value


def test_an_operation_that_a_system_lacks_is_refused_by_name():
    class Odd:
        pass

    register(System("odd numbers", {"exp": lambda x: "done"}, rank=1, types=(Odd,)))
    assert exp(Odd()) == "done"
    with pytest.raises(UnsupportedOperation, match="odd numbers have no operation 'tanh'"):
        tanh(Odd())


def test_a_subclass_computes_as_its_base():
    class Mine(torch.Tensor):
        pass

    class Count(int):
        pass

    assert system_of(torch.ones(2).as_subclass(Mine)).name == "torch tensors"
    assert exp(Count(0)) == 1.0


@pytest.mark.parametrize("function, arguments", [(exp, ()), (exp, (1, 2)), (hill, (1, 2)), (where, (True, 1))])
def test_the_number_of_arguments(function, arguments):
    with pytest.raises(TypeError, match=rf"{function.name} takes {function.arity} argument\(s\), got {len(arguments)}"):
        function(*arguments)


def test_every_system_has_every_operation():
    for value in (1.0, torch.ones(1), variable("x"), Jet([1.0, 1.0]), arb(1), Ball(arb(1), arb(2)), sympy.Symbol("x")):
        system = system_of(value)
        assert set(OPERATIONS) <= set(system.operations), system.name
    assert set(ELEMENTARY) < set(OPERATIONS)


def test_numpy_s_scalars_are_real_numbers_on_either_side():
    x = variable("x")
    for two in (np.float64(2), np.float32(2), np.int64(2)):
        assert (two * x).evaluate(x=1.5) == (x * two).evaluate(x=1.5) == 3.0
        assert isinstance(two * Jet([0.5, 1.0]), Jet)
        assert where(two > x, x, 0).evaluate(x=1.0) == 1.0


def test_arrays_are_not_mixed_in_silently():
    with pytest.raises(UnsupportedOperation, match="ndarray"):
        sigmoid(np.ones(3))


def test_numbers_load_no_torch_no_flint_no_sympy():
    code = (
        "import sys, varphi.numbers as n; x = n.variable('x'); f = n.tanh(x*n.softplus(x));"
        "assert f.evaluate(x=1.5) > 0; n.derivatives(n.exp, 0.5, 3); repr(f); f.digest;"
        "bad = {'torch', 'flint', 'sympy', 'numba', 'llvmlite'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
