"""Every elementary function of the kernels against 200-bit ball arithmetic, over the whole range of exponents."""

from __future__ import annotations

import math

import flint
import numpy as np
import pytest
import torch

from varphi import numbers
from varphi.activation.backend import run
from varphi.activation.formula import Formula
from varphi.numbers import variable

flint.ctx.prec = 200
arb = flint.arb


def _gauss(x):
    return (-x * x).exp()


REFERENCE = {
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.expm1(),
    "log": lambda x: x.log(),
    "log1p": lambda x: x.log1p(),
    "sqrt": lambda x: x.sqrt(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "sinh": lambda x: x.sinh(),
    "cosh": lambda x: x.cosh(),
    "tanh": lambda x: x.tanh(),
    "tanhshrink": lambda x: x - x.tanh() if abs(x) > 1 else x**3 / 3 * (x**2 / 4).hypgeom_0f1(arb(2.5)) / x.cosh(),
    "sech": lambda x: x.sech(),
    "asinh": lambda x: x.asinh(),
    "atan": lambda x: x.atan(),
    "sigmoid": lambda x: x.exp() / (1 + x.exp()) if x < 0 else 1 / (1 + (-x).exp()),
    "softplus": lambda x: x.exp().log1p() if x < 0 else x + (-x).exp().log1p(),
    "log_sigmoid": lambda x: x - x.exp().log1p() if x < 0 else -(-x).exp().log1p(),
    "erf": lambda x: x.erf(),
    "erfc": lambda x: x.erfc(),
    "erf_slope": lambda x: 2 * _gauss(x) / arb.pi().sqrt(),
    "normal_pdf": lambda x: (-x * x / 2).exp() / (2 * arb.pi()).sqrt(),
    "normal_cdf": lambda x: (-x / arb(2).sqrt()).erfc() / 2,
    "exprel": lambda x: x.expm1() / x if x != 0 else arb(1),
    "sinc": lambda x: x.sin() / x if x != 0 else arb(1),
    "squareplus": lambda x: (x + (x * x + 4).sqrt()) / 2 if x >= 0 else 2 / ((x * x + 4).sqrt() - x),
    "hill": lambda x: 1 / (1 + (arb(2.5) * (arb(1.5) / x).log()).exp()) if x > 0 else arb(0) if x == 0 else arb("nan"),
    "power": lambda x: (arb(1.7) * x.log()).exp() if x > 0 else arb(0) if x == 0 else arb("nan"),
}
EXTRA = {"squareplus": (4.0,), "hill": (1.5, 2.5)}
# Units in the last place of float64; sums of functions of similar size lose a little more.
TOLERANCE = {"hill": 900, "power": 900, "erfc": 6, "normal_cdf": 6, "tanhshrink": 4}


def _expression(name):
    x = variable("x")
    if name == "power":
        return x**1.7
    return getattr(numbers, name)(x, *EXTRA.get(name, ()))


def _points(dtype) -> torch.Tensor:
    rng = np.random.default_rng(0)
    digits = 1022 if dtype is torch.float64 else 126
    spread = rng.choice([-1.0, 1.0], 1500) * 2.0 ** rng.uniform(-digits, digits, 1500)
    near = rng.normal(0, 1, 1500) * rng.choice([0.1, 1, 10, 100], 1500)
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 709.5, -745.0, 88.7, -103.9, 26.5, -38.0, 1e-310 if digits > 126 else 1e-40]
    return torch.tensor(np.concatenate([spread, near, special])).to(dtype)


def _error_in_ulps(got: float, exact, dtype) -> float:
    info = torch.finfo(dtype)
    if not exact.is_finite():
        return 0.0 if not math.isfinite(got) else math.inf
    if math.isnan(got):
        return math.inf
    limit = arb(info.max)
    if abs(exact) > limit:
        return 0.0 if math.isinf(got) or abs(got) == info.max else math.inf
    magnitude = abs(float(exact.mid()))
    ulp = max(
        info.eps * 2.0 ** math.floor(math.log2(magnitude)) if magnitude > 0 else 0.0, info.smallest_normal * info.eps
    )
    if math.isinf(got):
        return 0.0 if abs(exact) > limit * (1 - 8 * info.eps) else math.inf
    return float(abs(arb(got) - exact).mid()) / ulp


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_accuracy(name, dtype):
    x = _points(dtype)
    got = run(Formula(_expression(name)), x, ())
    errors = [_error_in_ulps(g, REFERENCE[name](arb(v)), dtype) for v, g in zip(x.tolist(), got.tolist(), strict=True)]
    worst = int(np.argmax(errors))
    allowed = TOLERANCE.get(name, 3)
    assert errors[worst] <= allowed, (
        f"{name}: {errors[worst]:.3g} ulp at x = {x[worst].item()!r}: got {got[worst].item()!r}"
    )
