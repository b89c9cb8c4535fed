"""Lines judged by ball arithmetic: y = f(x) - k·x at points of the interval, exactly."""

from fractions import Fraction

import numpy as np
import torch

from varphi.bounds.relaxation import Lines
from varphi.facts.reference import Reference
from varphi.numbers import Expression

INSIDE = 7


def points(f, lower, upper, lines: Lines, generator: torch.Generator) -> torch.Tensor:
    """Ends, random points, and where either line comes nearest to the curve: (points, intervals)."""
    inside = lower + (upper - lower) * torch.rand(INSIDE, *lower.shape, generator=generator, dtype=torch.float64)
    grid = lower + (upper - lower) * torch.linspace(0, 1, 65, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        y = f(grid)
    gaps = y - lines.lower_slope * grid - lines.lower_intercept, lines.upper_slope * grid + lines.upper_intercept - y
    nearest = [grid.gather(0, g.argmin(0, keepdim=True))[0] for g in gaps]
    return torch.stack([lower, upper, *inside, *nearest]).clamp(lower, upper)


def violations(expression: Expression, x: torch.Tensor, lines: Lines) -> list[tuple[float, float]]:
    """(x, by how much) at each point where a line is on the wrong side of the exact value."""
    flat = x.double().numpy().ravel()
    high, low = (v[0] for v in Reference(expression).values(flat, 0))
    sl, bl, su, bu = (t.double().expand(x.shape).numpy().ravel() for t in lines)
    with np.errstate(all="ignore"):
        scale = 1e-12 * (np.abs(high) + np.abs(sl * flat) + np.abs(bl) + np.abs(su * flat) + np.abs(bu)) + 1e-290
        close = np.minimum(high - sl * flat - bl, su * flat + bu - high) < scale
    found = []
    for i in np.flatnonzero(close & np.isfinite(high)):
        exact, at = Fraction(high[i]) + Fraction(low[i]), Fraction(flat[i])
        # What the pair of floats still leaves open of the ball's value.
        doubt = abs(Fraction(high[i])) * Fraction(2) ** -100
        below = Fraction(sl[i]) * at + Fraction(bl[i]) - exact
        above = exact - Fraction(su[i]) * at - Fraction(bu[i])
        if max(below, above) > doubt:
            found.append((flat[i], float(max(below, above))))
    return found
