"""Torch tensors as a number system: every operation as torch operations, differentiable, any device and dtype.

This is the general path (CUDA, torch.func, torch.compile, export). On a CPU the compiled kernels of `numbers.compiled`
replace it where they can; both agree to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._system import System, register
from .real import tanhshrink_fraction

_ROOT_HALF = math.sqrt(0.5)


def _like(value: Any, other: Any) -> Tensor:
    """`value` as a tensor of the dtype and device of `other`."""
    if isinstance(value, Tensor) or not isinstance(value, Real):
        return value
    return torch.full((), float(value), dtype=other.dtype, device=other.device)


def _both(function: Callable[..., Tensor]) -> Callable[[Any, Any], Tensor]:
    def apply(a: Any, b: Any) -> Tensor:
        return function(_like(a, b), _like(b, a))

    return apply


def _where(condition: Any, a: Any, b: Any) -> Any:
    if isinstance(condition, (bool, int)):
        return a if condition else b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        # torch would take two numbers for the default dtype, float32, and compute in it whatever follows.
        a = torch.full((), float(a), dtype=torch.float64, device=condition.device)
    return torch.where(condition, a, b)


def choose(condition: Any, a: Any, b: Any, x: Tensor) -> Any:
    """where(condition, a, b) for two numbers, in the dtype of x."""
    if isinstance(condition, (bool, int)):
        return a if condition else b
    return torch.where(condition, x.new_full((), a), b)


def _sech(x: Tensor) -> Tensor:
    e = torch.exp(-torch.abs(x))
    return 2 * e / (1 + e * e)


def _half_exp(x: Tensor) -> Tensor:
    """e^x/2 without overflow before the result overflows."""
    root = torch.exp(0.5 * x)
    return 0.5 * root * root


def _sinh(x: Tensor) -> Tensor:
    large = torch.abs(x) > 40
    return torch.where(large, torch.sign(x) * _half_exp(torch.abs(x)), torch.sinh(torch.where(large, 0.0, x)))


def _cosh(x: Tensor) -> Tensor:
    large = torch.abs(x) > 40
    return torch.where(large, _half_exp(torch.abs(x)), torch.cosh(torch.where(large, 0.0, x)))


def _tanhshrink(x: Tensor) -> Tensor:
    small = torch.abs(x) < 2
    near, far = torch.where(small, x, 0.0), torch.where(small, 2.0, x)
    z = near * near
    top, bottom = (_series(z, p) for p in tanhshrink_fraction(11))
    return torch.where(small, near * z * (top / bottom), far - torch.tanh(far))


def _sigmoid(x: Tensor) -> Tensor:
    # 1/(1 + e^-x) is 0 once e^-x overflows, 15 units of x before e^x underflows.
    return torch.where(x < -40, torch.exp(torch.clamp(x, max=0.0)), torch.sigmoid(x))


def _log_sigmoid(x: Tensor) -> Tensor:
    return F.logsigmoid(x)


def _exp_square(rate: float, x: Tensor) -> Tensor:
    """e^(rate·x²), rate -1 or -1/2. Rounding x² would cost x²/2 ulp; so x² = h² + (x-h)(x+h), with h² exact."""
    x = torch.clamp(x, -64.0, 64.0)
    h = torch.round(16 * x) / 16
    return torch.exp(rate * h * h) * torch.exp(rate * (x - h) * (x + h))


def _erf_slope(x: Tensor) -> Tensor:
    return (2 / math.sqrt(math.pi)) * _exp_square(-1.0, x)


def _normal_pdf(x: Tensor) -> Tensor:
    return (1 / math.sqrt(2 * math.pi)) * _exp_square(-0.5, x)


def _normal_cdf(x: Tensor) -> Tensor:
    lower = torch.clamp(x, -64.0, -1.0)
    tail = 0.5 * torch.special.erfcx(-_ROOT_HALF * lower) * _exp_square(-0.5, lower)
    return torch.where(x < -1, tail, 0.5 * torch.erfc(-_ROOT_HALF * torch.clamp(x, min=-1.0)))


def _squareplus(x: Any, b: Any) -> Tensor:
    x, b = _like(x, b), _like(b, x)
    root = torch.hypot(x, torch.sqrt(b))
    # A finite stand-in keeps the branch not taken, and so its gradient, free of 0/0.
    lower = torch.where(x < 0, 0.5 * root - 0.5 * x, 1.0)
    return torch.where(x < 0, 0.25 * b / lower, 0.5 * x + 0.5 * root)


def _hill(x: Any, k: Any, n: Any) -> Tensor:
    # The smaller over the larger: one power of a number in [0, 1], and no branch beside it that could spoil a gradient.
    below = x <= k
    power = (_where(below, x, k) / _where(below, k, x)) ** n
    return _where(below, power, 1.0) / (1 + power)


def _series(x: Tensor, coefficients: list[float]) -> Tensor:
    total = torch.zeros_like(x)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def _exprel(x: Tensor, n: int) -> Tensor:
    """Within n + 2 of 0 the power series; for x < 0 Kummer's form e^x Σ |x|^j n!/(n+1+j)!, where no terms cancel."""
    small = torch.abs(x) <= n + 2.0
    near, far = torch.where(small, x, 0.0), torch.where(small, n + 3.0, x)
    terms = range(25 + 4 * n)
    rising = _series(torch.clamp(near, min=0.0), [1 / (math.factorial(j) * (n + j + 1)) for j in terms])
    kummer = _series(torch.clamp(-near, min=0.0), [math.factorial(n) / math.factorial(n + 1 + j) for j in terms])
    near_value = torch.where(x < 0, torch.exp(near) * kummer, rising)
    return torch.where(small, near_value, torch.where(x < 0, _exprel_below(far, n), _exprel_above(far, n)))


def _exprel_below(x: Tensor, n: int) -> Tensor:
    x = torch.clamp(x, max=-1.0)
    value, e = torch.expm1(x) / x, torch.exp(x)
    for k in range(1, n + 1):
        value = (e - k * value) / x
    return value


def _exprel_above(x: Tensor, n: int) -> Tensor:
    """e^x w, with the recurrence for w alone, so that nothing overflows before the result does."""
    x = torch.clamp(x, min=1.0)
    w = -torch.expm1(-x) / x
    for k in range(1, n + 1):
        w = (1 - k * w) / x
    root = torch.exp(0.5 * x)
    return torch.where(x == math.inf, math.inf, w * root * root)


def _sinc(x: Tensor, n: int) -> Tensor:
    small = torch.abs(x) <= n + 2.0
    near, far = torch.where(small, x, 0.0), torch.where(small, n + 3.0, x)
    signs = (1.0, 0.0, -1.0, 0.0)
    series = _series(near, [signs[(n + j) % 4] / (math.factorial(j) * (n + j + 1)) for j in range(25 + 4 * n)])
    s, c = torch.sin(far), torch.cos(far)
    sines = (s, c, -s, -c)
    value = s / far
    for k in range(1, n + 1):
        value = (sines[k % 4] - k * value) / far
    return torch.where(small, series, torch.where(torch.isinf(far), 0.0, value))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": lambda a, b: a - b,
    "mul": torch.mul,
    "div": lambda a, b: a / b,
    "neg": torch.neg,
    "pow": torch.pow,
    "abs": torch.abs,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "sign": torch.sign,
    "sin": torch.sin,
    "cos": torch.cos,
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": torch.tanh,
    "tanhshrink": _tanhshrink,
    "sech": _sech,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "sigmoid": _sigmoid,
    "log_sigmoid": _log_sigmoid,
    "softplus": lambda x: -F.logsigmoid(-x),
    "erf": torch.erf,
    "erfc": torch.erfc,
    "erf_slope": _erf_slope,
    "normal_pdf": _normal_pdf,
    "normal_cdf": _normal_cdf,
    "squareplus": _squareplus,
    "hill": _hill,
    "exprel": _exprel,
    "sinc": _sinc,
    "maximum": _both(torch.maximum),
    "minimum": _both(torch.minimum),
    "where": _where,
    "with_slope": lambda u, value, slope: value,
}


def _lift(value: Real) -> float | int:
    return float(value) if isinstance(value, Fraction) else value  # type: ignore[return-value]


def _tensor_types() -> tuple[type, ...]:
    from torch.fx import Proxy

    return (Tensor, Proxy)


TENSORS = register(System("torch tensors", _OPERATIONS, rank=1, types=_tensor_types(), lift=_lift))
