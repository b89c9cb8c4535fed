"""What torch computes for a function, and how far from the exact value that may be: measured against balls.

The error of a value is put down to the input and to the output, |y - f(x)| <= κ·ε·(|f(x)| + |x·f'(x)|) + a, the mixed
error of a stable method (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, sec. 1.5). κ and a
are twice the worst that is seen at some 4000 points; a is 0 unless the method loses digits by cancelling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from varphi.activation.layer import Activation
from varphi.facts.reference import Reference
from varphi.numbers import Expression

_LEAST_STEPS, _MOST_STEPS = 4.0, 64.0
_SAFETY = 2.0
# What is found is never more.
MOST_STEPS = _SAFETY * _MOST_STEPS


@dataclass(frozen=True)
class Error:
    """|computed - exact| <= steps·ε·(|f| + |x·f'|) + absolute, with ε the spacing of the format at 1.

    Attributes:
        steps: κ above.
        absolute: a above, in units of f.
    """

    steps: float
    absolute: float


class Judge:
    """Exact values of a formula and its derivatives at points over the line, to judge computed ones by."""

    def __init__(self, expression: Expression, near: Iterable[float], lower: float, upper: float) -> None:
        self.points = _points(near, lower, upper)
        self._high, self._low = Reference(expression).values(self.points, 3)

    def error(self, computed: Tensor, dtype: torch.dtype, order: int = 0, reach: float = math.inf) -> Error:
        """The error of values of f^(order) at those of `points` within ±reach."""
        y = computed.double().cpu().numpy()
        high, low, slope = self._high[order], self._low[order], self._high[order + 1]
        largest = torch.finfo(dtype).max
        with np.errstate(all="ignore"):
            ordinary = np.isfinite(high) & np.isfinite(slope) & (np.abs(high) < largest / 2**20)
            ordinary &= np.abs(self.points) <= reach
            wrong = np.abs((y - high) - low)
            unit = torch.finfo(dtype).eps * (np.abs(high) + np.abs(self.points * slope)) + torch.finfo(dtype).tiny
            wrong, unit = wrong[ordinary], unit[ordinary]
            ratio = np.where(np.isfinite(wrong), wrong / unit, np.inf)
            absolute = np.where(ratio <= _MOST_STEPS, 0.0, np.where(np.isfinite(wrong), wrong, np.inf))
        steps = np.max(ratio[ratio <= _MOST_STEPS], initial=_LEAST_STEPS / _SAFETY)
        return Error(_SAFETY * float(steps), _SAFETY * float(np.max(absolute, initial=0.0)))


def _points(near: Iterable[float], lower: float, upper: float) -> np.ndarray:
    """Numbers of float32 (so that every format has them) over the part of the line that is looked at."""
    generator = np.random.default_rng(0)
    small = np.logspace(-12, 5, 400)
    spread = [generator.uniform(-width, width, 700) for width in (1, 6, 30)]
    breaks = np.array([b for b in near if np.isfinite(b)])
    beside = [b + s * np.logspace(-5, 0, 12) for b in breaks[:64] for s in (-1, 1)]
    points = np.concatenate([small, -small, *spread, *beside]).astype(np.float32).astype(np.float64)
    points = np.unique(points[(points > lower) & (points < upper)])
    if len(breaks):  # at a kink itself either side is right
        gaps = np.abs(points[:, None] - breaks[None, :256]).min(axis=1)
        points = points[gaps > 1e-6 * np.maximum(1, np.abs(points))]
    return points


def tower_errors(activation: Activation, judge: Judge, device: torch.device) -> tuple[Error, Error]:
    """The errors in float64 of varphi's own f and f' on a device."""
    with torch.no_grad():
        rows = activation.derivatives(torch.from_numpy(judge.points).to(device), 2)
    return judge.error(rows[0], torch.float64, 0), judge.error(rows[1], torch.float64, 1)
