"""Scalars inside numba: every catalogue entry, called from a compiled loop, agrees with the float64 layer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numba import njit

import varphi as vp
from varphi.numbers import log, tanh, variable
from varphi.numbers.kernel.scalar import compile_scalar

POINTS = np.array([-700.0, -30.0, -3.2, -0.5, -1e-9, 0.0, 1e-9, 0.7, 2.5, 31.0, 700.0])


@pytest.mark.parametrize("name", ["gelu", "hill_activator", "leaky_relu", "sinc"])
@pytest.mark.parametrize("derivative", [0, 1])
def test_agrees_with_the_layer(name, derivative):
    f = vp.scalar(name, derivative=derivative)

    @njit
    def loop(x):
        out = np.empty_like(x)
        for i in range(x.size):
            out[i] = f(x[i])
        return out

    expected = vp.derivatives(name, torch.tensor(POINTS), derivative)[derivative].numpy()
    np.testing.assert_allclose(loop(POINTS), expected, rtol=1e-14, atol=0)


def test_several_variables_and_whole_numbers():
    x, k = variable("x"), variable("k")
    f = compile_scalar(k * tanh(x) + log(x), ("x", "k"))
    assert f(2.0, 3.0) == pytest.approx(3 * math.tanh(2) + math.log(2), rel=1e-15)
    assert f(2, 3) == f(2.0, 3.0)


def test_parameters_and_formulas():
    assert vp.scalar("softplus", beta=2.0)(0.3) == pytest.approx(math.log1p(math.exp(0.6)) / 2, rel=1e-15)
    assert vp.scalar("x*tanh(exp(x))")(0.3) == pytest.approx(0.3 * math.tanh(math.exp(0.3)), rel=1e-15)


def test_refusals_name_the_input():
    with pytest.raises(ValueError, match="depends on k"):
        compile_scalar(variable("x") * variable("k"), ("x",))
    with pytest.raises(ValueError, match="derivative must be a whole number"):
        vp.scalar("relu", derivative=-1)
