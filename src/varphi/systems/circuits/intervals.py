"""Hill functions over intervals: rigorous bounds of their slopes."""

from __future__ import annotations

import math
from typing import Any

from varphi.numbers import hill as hill_of
from varphi.numbers.ball import Ball


def hill_slope(x: Ball, K: Ball, n: Ball) -> Ball:
    """∂/∂x of x^n/(K^n + x^n): it rises to its maximum at K((n-1)/(n+1))^(1/n), where n > 1, and falls beyond."""
    if not n.lo > 1:
        # It falls, or rises and falls: least at an end.
        least = min(_slope_at(Ball(end), K, n).lower for end in (x.lo, x.hi))
        return Ball(least, _largest_from(x, K, n))
    top = K * ((n - 1) / (n + 1)) ** (1 / n)
    ends = [_slope_at(Ball(end), K, n) for end in (x.lo, x.hi)]
    if x.hi <= top.lo or x.lo >= top.hi:
        return Ball(min(e.lower for e in ends), max(e.upper for e in ends))
    # In between: the largest slope of all, L(n)/K with L = (n-1)^((n-1)/n) (n+1)^((n+1)/n)/(4n).
    most = (n - 1) ** ((n - 1) / n) * (n + 1) ** ((n + 1) / n) / (4 * n * K)
    return Ball(min(e.lower for e in ends), max(most.upper, *(e.upper for e in ends)))


def _largest_from(x: Ball, K: Ball, n: Ball) -> float:
    """A bound of the slope for n that may be 1 or less: where it falls throughout, at the left end."""
    if n.hi <= 1:
        return _slope_at(Ball(x.lo), K, n).upper
    if not x.lo > 0:
        return 1 / K.lower if n.lo >= 1 else math.inf
    # n on both sides of 1: n h (1 - h)/x with h (1 - h) <= 1/4.
    return (n / (4 * x)).upper


def _slope_at(x: Ball, K: Ball, n: Ball) -> Ball:
    if x.hi <= 0:
        if n.lo > 1:
            return Ball(0)
        return 1 / K if n.lo >= 1 and n.hi <= 1 else Ball(0, math.inf)
    h: Any = hill_of(x, K, n)
    # h(1 - h) over an interval of h: at most 1/4, and smallest at an end.
    ends = [Ball(e) * (1 - Ball(e)) for e in (h.lo, h.hi)]
    most = 0.25 if h.lower <= 0.5 <= h.upper else max(e.upper for e in ends)
    return n * Ball(max(0.0, min(e.lower for e in ends)), most) / x
