"""Straight-line programs compute what evaluation of the graph does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from varphi.numbers import exprel, hill, sinc, softplus, squareplus, tanh, variable, where
from varphi.numbers.real import OPERATIONS
from varphi.numbers.straight import StraightLine
from varphi.numbers.tensor import TENSORS, choose

x, beta = variable("x"), variable("beta")
ROOTS = [
    x * tanh(softplus(beta * x)),
    where(x > 0.5, x**2, beta * x) + exprel(x) * sinc(x),
    squareplus(x, beta) - hill(abs(x) + 0.1, beta, 2),
    x,
    tanh(beta * 0 + 0.25) * 3,
    where(x > 0, 1, 0.1),
]


def program():
    return StraightLine(ROOTS, OPERATIONS, lambda value: value, ("x", "beta"))


@given(st.floats(-5, 5), st.floats(0.1, 5))
def test_the_same_values_as_the_graph(at, b):
    assert program()(at, b) == [root.evaluate(x=at, beta=b) for root in ROOTS]


def test_a_program_runs_any_number_of_times_without_memory_of_the_last():
    run = program()
    first = run(0.5, 2.0)
    run(3.0, 1.0)
    assert run(0.5, 2.0) == first


def test_what_depends_on_no_variable_is_computed_once():
    calls = []
    counting = OPERATIONS | {"tanh": lambda v: calls.append(v) or 0.5}
    run = StraightLine([x + tanh(variable("x") * 0 + 0.25)], counting, lambda value: value)
    assert len(calls) == 1
    assert run(1.0) == run(1.0) == [1.5]
    assert len(calls) == 1


def test_a_missing_variable_is_named():
    with pytest.raises(KeyError, match="no value given for the variable 'beta'"):
        StraightLine(ROOTS, OPERATIONS, lambda value: value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_choices_between_numbers_have_the_dtype_of_x(dtype):
    roots = [where(x > 0, 1, 0) / 3, where(x > 0, 0.1, 1)]
    run = StraightLine(roots, TENSORS.operations, TENSORS.lift, choose=choose)
    at = torch.tensor([-1.0, 1.0], dtype=dtype)
    third, tenth = run(at)
    assert third.dtype is tenth.dtype is dtype
    assert torch.equal(third, torch.tensor([0, 1 / 3], dtype=dtype))
    assert torch.equal(tenth, torch.tensor([1, 0.1], dtype=dtype))
