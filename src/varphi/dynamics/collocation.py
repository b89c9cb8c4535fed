"""One Newton step for a periodic orbit by collocation, in machine code.

The orbit is a polynomial of degree m on each interval of a mesh, scaled to [0, 1], that satisfies y' = T f(y, p) at the
m Gauss points of each interval (de Boor & Swartz 1973; used for continuation by Doedel's AUTO). Unknown are its values
at m + 1 equidistant places of each interval and some scalars, such as the period T and a parameter p. Conditions
besides collocation are that each state returns to ± itself, and as many linear ones as there are scalars, such as a
phase condition and the pseudo-arclength.

Within an interval all values follow from the one at its beginning. What is left, a chain of n × n blocks, is eliminated
by Householder reflections from the first interval to the last (structured orthogonal factorisation; Wright, SIAM J.
Sci. Stat. Comput. 13 (1992) 742): products of the blocks, which would lose fast modes, are never formed. The last pair
of blocks gives the Floquet multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit

from varphi.numbers.kernel.batch import WIDTH

from .steps import call


@dataclass(frozen=True)
class Rule:
    """Gauss points and the values and slopes there of the Lagrange polynomials, on [0, 1].

    Attributes:
        points, weights: of Gauss, (m,).
        values, slopes: of polynomial k at point c, (m, m + 1).
    """

    points: np.ndarray
    weights: np.ndarray
    values: np.ndarray
    slopes: np.ndarray


@cache
def rule(m: int) -> Rule:
    """The rule with m points."""
    points, weights = np.polynomial.legendre.leggauss(m)
    points, weights = (points + 1) / 2, weights / 2
    nodes = np.linspace(0, 1, m + 1)
    values, slopes = np.empty((m, m + 1)), np.empty((m, m + 1))
    for k in range(m + 1):
        others = np.delete(nodes, k)
        polynomial = np.poly1d(others, r=True) / np.prod(nodes[k] - others)
        values[:, k], slopes[:, k] = polynomial(points), polynomial.deriv()(points)
    return Rule(points, weights, values, slopes)


@njit(cache=True)
def evaluate(code, rows, places, states, constants, out):
    """Machine code at many states: states (points, n), constants (rest of the rows,), out (points, outputs)."""
    points, n = states.shape
    rest = constants.shape[0]
    for first in range(0, points, WIDTH):
        for lane in range(WIDTH):
            p = min(first + lane, points - 1)
            for i in range(n):
                rows[i, lane] = states[p, i]
            for i in range(rest):
                rows[n + i, lane] = constants[i]
        call(code, rows, places)
        for lane in range(min(WIDTH, points - first)):
            for i in range(out.shape[1]):
                out[first + lane, i] = places[i, lane]


@njit(cache=True)
def newton(
    mesh,  # (intervals,) lengths, summing to 1
    y,  # (intervals * m + 1, n)
    period,
    values,  # of the rule
    slopes,
    rate,  # (intervals * m, n) f at the Gauss points
    jacobian,  # (intervals * m, n * n)
    by_scalar,  # (intervals * m, n * scalars) ∂(T f)/∂scalar, state by state
    returns,  # (n,) 1 or -1: y(1) = returns * y(0)
    weights,  # (scalars, intervals * m + 1, n) of the linear conditions
    of_scalars,  # (scalars, scalars)
    conditions_rest,  # (scalars,) their residuals
    step,  # out (2, intervals * m + 1, n): the Newton step; the tangent (last condition 1, all else 0)
    step_rest,  # out (2, scalars)
    pair,  # out (2, n, n): C y_0 + D y_N = 0 links the ends of the linearised orbit
):
    """Returns whether the linear system could be solved."""
    intervals, (m, n), scalars = mesh.shape[0], (values.shape[0], y.shape[1]), of_scalars.shape[0]
    size, rest_of = m * n, scalars + 2
    local = np.empty((intervals, size, n + rest_of))  # on y_i, the scalars, and the two right-hand sides
    a, b = np.empty((size, size)), np.empty((size, n + rest_of))
    for i in range(intervals):
        for c in range(m):
            point = i * m + c
            for r in range(n):
                row = c * n + r
                rest = -period * rate[point, r]
                for k in range(m + 1):
                    rest += slopes[c, k] * y[i * m + k, r] / mesh[i]
                for k in range(m + 1):
                    for s in range(n):
                        entry = -period * values[c, k] * jacobian[point, r * n + s]
                        if r == s:
                            entry += slopes[c, k] / mesh[i]
                        if k == 0:
                            b[row, s] = -entry
                        else:
                            a[row, (k - 1) * n + s] = entry
                for q in range(scalars):
                    b[row, n + q] = by_scalar[point, r * scalars + q]
                b[row, n + scalars] = -rest
                b[row, n + scalars + 1] = 0.0
        if not _solve(a, b):
            return False
        local[i] = b
    # Border rows, condensed to the mesh points: on y_0 ... y_N, the scalars, two right-hand sides.
    border = np.zeros((scalars, intervals + 1, n))
    border_rest = np.zeros((scalars, rest_of))
    for which in range(scalars):
        for q in range(scalars):
            border_rest[which, q] = of_scalars[which, q]
        border_rest[which, scalars] = -conditions_rest[which]
        for i in range(intervals):
            for s in range(n):
                border[which, i, s] += weights[which, i * m, s]
            for k in range(1, m):
                for r in range(n):
                    w = weights[which, i * m + k, r]
                    if w == 0.0:
                        continue
                    row = (k - 1) * n + r
                    for s in range(n):
                        border[which, i, s] += w * local[i, row, s]
                    for q in range(scalars):
                        border_rest[which, q] += w * local[i, row, n + q]
                    for q in range(scalars, rest_of):
                        border_rest[which, q] -= w * local[i, row, n + q]
        for s in range(n):
            border[which, intervals, s] += weights[which, intervals * m, s]
    border_rest[scalars - 1, scalars + 1] += 1.0
    # y_{i+1} = (last rows of local): C y_0 + D y_{i+1} + e (scalars) = r, carried from interval to interval.
    last = size - n
    width = 3 * n + rest_of
    saved = np.empty((intervals, n, width))
    relation = np.zeros((n, 2 * n + rest_of))  # on y_0, y_i, scalars, right-hand sides
    for r in range(n):
        for s in range(n):
            relation[r, s] = local[0, last + r, s]
        relation[r, n + r] = -1.0
        for q in range(rest_of):
            sign = 1.0 if q < scalars else -1.0
            relation[r, 2 * n + q] = sign * local[0, last + r, n + q]
    table = np.empty((2 * n, width))  # on y_i, y_0, y_{i+1}, scalars, right-hand sides
    for i in range(1, intervals):
        table[:] = 0.0
        for r in range(n):
            for s in range(n):
                table[r, s] = relation[r, n + s]
                table[r, n + s] = relation[r, s]
                table[n + r, s] = local[i, last + r, s]
            table[n + r, 2 * n + r] = -1.0
            for q in range(rest_of):
                sign = 1.0 if q < scalars else -1.0
                table[r, 3 * n + q] = relation[r, 2 * n + q]
                table[n + r, 3 * n + q] = sign * local[i, last + r, n + q]
        _triangularise(table, n)
        for r in range(n):
            for s in range(width):
                saved[i, r, s] = table[r, s]
            for s in range(n):
                relation[r, s] = table[n + r, n + s]
                relation[r, n + s] = table[n + r, 2 * n + s]
            for q in range(rest_of):
                relation[r, 2 * n + q] = table[n + r, 3 * n + q]
        for which in range(scalars):
            _eliminate(saved[i], border[which, i], n, border[which, 0], border[which, i + 1], border_rest[which])
    # What is left: y_0, y_N, the scalars.
    order = 2 * n + scalars
    final, right = np.zeros((order, order)), np.zeros((order, 2))
    for r in range(n):
        for s in range(n):
            final[r, s], final[r, n + s] = relation[r, s], relation[r, n + s]
            pair[0, r, s], pair[1, r, s] = relation[r, s], relation[r, n + s]
        for q in range(scalars):
            final[r, 2 * n + q] = relation[r, 2 * n + q]
        for q in range(2):
            right[r, q] = relation[r, 2 * n + scalars + q]
        final[n + r, r], final[n + r, n + r] = returns[r], -1.0
        right[n + r, 0] = -(returns[r] * y[0, r] - y[intervals * m, r])
    for which in range(scalars):
        for s in range(n):
            final[2 * n + which, s] = border[which, 0, s]
            final[2 * n + which, n + s] = border[which, intervals, s]
        for q in range(scalars):
            final[2 * n + which, 2 * n + q] = border_rest[which, q]
        for q in range(2):
            right[2 * n + which, q] = border_rest[which, scalars + q]
    if not _solve(final, right):
        return False
    for q in range(2):
        for s in range(n):
            step[q, 0, s] = right[s, q]
            step[q, intervals * m, s] = right[n + s, q]
        for c in range(scalars):
            step_rest[q, c] = right[2 * n + c, q]
        for i in range(intervals - 1, 0, -1):
            for r in range(n - 1, -1, -1):
                total = saved[i, r, 3 * n + scalars + q]
                for c in range(scalars):
                    total -= saved[i, r, 3 * n + c] * step_rest[q, c]
                for s in range(n):
                    total -= saved[i, r, n + s] * step[q, 0, s] + saved[i, r, 2 * n + s] * step[q, (i + 1) * m, s]
                for s in range(r + 1, n):
                    total -= saved[i, r, s] * step[q, i * m, s]
                step[q, i * m, r] = total / saved[i, r, r]
        for i in range(intervals):
            for k in range(1, m):
                for r in range(n):
                    row = (k - 1) * n + r
                    total = local[i, row, n + scalars + q]
                    for c in range(scalars):
                        total += local[i, row, n + c] * step_rest[q, c]
                    for s in range(n):
                        total += local[i, row, s] * step[q, i * m, s]
                    step[q, i * m + k, r] = total
    return True


@njit(cache=True)
def _eliminate(saved, here, n, first, following, rest):
    """Take the unknown y_i out of a border row, with the triangular rows that determine it."""
    for r in range(n):
        factor = here[r] / saved[r, r]
        if factor == 0.0:
            continue
        for s in range(r, n):
            here[s] -= factor * saved[r, s]
        for s in range(n):
            first[s] -= factor * saved[r, n + s]
            following[s] -= factor * saved[r, 2 * n + s]
        for q in range(rest.shape[0]):
            rest[q] -= factor * saved[r, 3 * n + q]


@njit(cache=True)
def _triangularise(table, n):
    """Householder reflections that make the first n columns upper triangular."""
    rows, columns = table.shape
    v = np.empty(rows)
    for c in range(n):
        norm = 0.0
        for r in range(c, rows):
            norm += table[r, c] ** 2
        norm = np.sqrt(norm)
        if norm == 0.0:
            continue
        if table[c, c] > 0.0:
            norm = -norm
        square = 0.0
        for r in range(c, rows):
            v[r] = table[r, c] - (norm if r == c else 0.0)
            square += v[r] ** 2
        for s in range(c, columns):
            total = 0.0
            for r in range(c, rows):
                total += v[r] * table[r, s]
            total *= 2.0 / square
            for r in range(c, rows):
                table[r, s] -= total * v[r]


@njit(cache=True)
def _solve(a, b):
    """b := a⁻¹ b by elimination with partial pivoting; False where a is singular."""
    n, columns = b.shape
    for c in range(n):
        best = c
        for r in range(c + 1, n):
            if abs(a[r, c]) > abs(a[best, c]):
                best = r
        if not abs(a[best, c]) > 0.0:
            return False
        if best != c:
            for s in range(c, n):
                a[c, s], a[best, s] = a[best, s], a[c, s]
            for s in range(columns):
                b[c, s], b[best, s] = b[best, s], b[c, s]
        for r in range(c + 1, n):
            factor = a[r, c] / a[c, c]
            if factor != 0.0:
                for s in range(c + 1, n):
                    a[r, s] -= factor * a[c, s]
                for s in range(columns):
                    b[r, s] -= factor * b[c, s]
    for c in range(n - 1, -1, -1):
        for s in range(columns):
            total = b[c, s]
            for q in range(c + 1, n):
                total -= a[c, q] * b[q, s]
            b[c, s] = total / a[c, c]
    return True
