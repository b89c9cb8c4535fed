"""What a head needs of its activation besides the definition: the inverse, and the slope on a logarithmic scale.

Both are written so that no digit is lost anywhere in the float range: `softplus⁻¹(1e-40)` is -92.1, not -inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Link:
    """An activation that can close a head.

    Attributes:
        lower, upper: its range; the ends are reached only if `closed`.
        inverse: the z with f(z) = y, from (y, **parameters); for ReLU the z >= 0. Of a bounded activation, from the
            distances of y to the lower and the upper end, in any common unit: near an end, the distance has the digits.
        log_slope: ln f'(z), from (z, **parameters).
        bijective: whether every value of the range has one z.
        healthy: a z where the slope is far from zero, to which a dead output is brought back.
    """

    lower: float
    upper: float
    inverse: Callable[..., Tensor]
    log_slope: Callable[..., Tensor]
    closed: bool = False
    bijective: bool = True
    healthy: float = 0.0

    @property
    def bounded(self) -> bool:
        return math.isfinite(self.lower) and math.isfinite(self.upper)


def softplus_inverse(y: Tensor, beta: float | Tensor = 1.0) -> Tensor:
    """ln(e^(βy) - 1)/β, as y + ln(1 - e^(-βy))/β: neither end of the range overflows or cancels."""
    return y + torch.log(-torch.expm1(-beta * y)) / beta


def _logit(below: Tensor, above: Tensor) -> Tensor:
    return torch.log(below) - torch.log(above)


def _squareplus_log_slope(z: Tensor, b: float | Tensor = 4.0) -> Tensor:
    # f' = f/√(z² + b), and the same root scaled so that z² cannot overflow.
    root = torch.hypot(z, torch.as_tensor(b, dtype=z.dtype, device=z.device).sqrt())
    upper = 0.5 * (1 + z.abs() / root)
    lower = 0.5 * (b / root) / root / (1 + z.abs() / root)
    return torch.log(torch.where(z >= 0, upper, lower))


def _tanh_log_slope(z: Tensor) -> Tensor:
    return 2 * (math.log(2) - z.abs() - F.softplus(-2 * z.abs()))


def _step_log_slope(z: Tensor) -> Tensor:
    return torch.where(z > 0, 0.0, -math.inf).to(z.dtype)


def _same(z: Tensor, **_: Any) -> Tensor:
    return z


LINKS: dict[str, Link] = {
    "softplus": Link(0, math.inf, softplus_inverse, lambda z, beta=1.0: F.logsigmoid(beta * z)),
    "squareplus": Link(0, math.inf, lambda y, b=4.0: y - b / 4 / y, _squareplus_log_slope),
    "exp": Link(0, math.inf, torch.log, _same),
    "relu": Link(0, math.inf, _same, _step_log_slope, closed=True, bijective=False, healthy=1.0),
    "sigmoid": Link(0, 1, _logit, lambda z: F.logsigmoid(z) + F.logsigmoid(-z)),
    "tanh": Link(-1, 1, lambda below, above: 0.5 * _logit(below, above), _tanh_log_slope),
    "identity": Link(-math.inf, math.inf, _same, torch.zeros_like),
}
