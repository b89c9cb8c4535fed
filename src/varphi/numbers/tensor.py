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
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ._system import System, register

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
    if isinstance(a, Real) and isinstance(b, Real):
        # torch would round two numbers to its default dtype; the caller brings the result back to the dtype of x.
        a = torch.full((), float(a), dtype=torch.float64, device=condition.device)
    return torch.where(condition, a, b)


def _sech(x: Tensor) -> Tensor:
    e = torch.exp(-torch.abs(x))
    return 2 * e / (1 + e * e)


def _log_sigmoid(x: Tensor) -> Tensor:
    return F.logsigmoid(x)


def _normal_pdf(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-_ROOT_HALF * x)


def _squareplus(x: Any, b: Any) -> Tensor:
    x, b = _like(x, b), _like(b, x)
    root = torch.hypot(x, torch.sqrt(b))
    # A finite stand-in keeps the branch not taken, and so its gradient, free of 0/0.
    lower = torch.where(x < 0, root - x, 1.0)
    return torch.where(x < 0, 0.5 * b / lower, 0.5 * (x + root))


def _hill(x: Any, k: Any, n: Any) -> Tensor:
    below = (x / k).clamp(max=1.0) ** n
    above = (k / torch.where(x > k, x, k)) ** n
    return torch.where(x <= k, below / (1 + below), 1 / (1 + above))


def _series_or(x: Tensor, n: int, direct: Callable[[Tensor], Tensor], coefficient: Callable[[int], float]) -> Tensor:
    """∫₀¹ tⁿ g(xt) dt: g's power series for |x| <= n + 2, `direct` elsewhere; each branch sees only its own points."""
    small = torch.abs(x) <= n + 2.0
    inner = torch.where(small, x, 0.0)
    outer = torch.where(small, n + 3.0, x)
    terms = 24 + 4 * n
    series = torch.zeros_like(inner)
    for j in range(terms, -1, -1):
        series = series * inner + coefficient(j) / (math.factorial(j) * (n + j + 1))
    return torch.where(small, series, direct(outer))


def _exprel(x: Tensor, n: int) -> Tensor:
    def direct(y: Tensor) -> Tensor:
        value, e = torch.expm1(y) / y, torch.exp(y)
        for k in range(1, n + 1):
            value = (e - k * value) / y
        return torch.where(y == math.inf, math.inf, torch.where(y == -math.inf, 0.0, value))

    return _series_or(x, n, direct, lambda j: 1.0)


def _sinc(x: Tensor, n: int) -> Tensor:
    def direct(y: Tensor) -> Tensor:
        s, c = torch.sin(y), torch.cos(y)
        sines = (s, c, -s, -c)
        value = s / y
        for k in range(1, n + 1):
            value = (sines[k % 4] - k * value) / y
        return torch.where(torch.isinf(y), 0.0, value)

    return _series_or(x, n, direct, lambda j: (1.0, 0.0, -1.0, 0.0)[(n + j) % 4])


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
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "sech": _sech,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "sigmoid": torch.sigmoid,
    "log_sigmoid": _log_sigmoid,
    "softplus": lambda x: -F.logsigmoid(-x),
    "erf": torch.erf,
    "erfc": torch.erfc,
    "erf_slope": lambda x: (2 / math.sqrt(math.pi)) * torch.exp(-x * x),
    "normal_pdf": _normal_pdf,
    "normal_cdf": _normal_cdf,
    "squareplus": _squareplus,
    "hill": _hill,
    "exprel": _exprel,
    "sinc": _sinc,
    "maximum": _both(torch.maximum),
    "minimum": _both(torch.minimum),
    "where": _where,
}


def _lift(value: Real) -> float | int:
    return float(value) if isinstance(value, Fraction) else value  # type: ignore[return-value]


def _tensor_types() -> tuple[type, ...]:
    from torch.fx import Proxy

    return (Tensor, Proxy)


TENSORS = register(System("torch tensors", _OPERATIONS, rank=1, types=_tensor_types(), lift=_lift))
