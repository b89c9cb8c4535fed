"""One Newton step for a periodic orbit by collocation, in machine code.

The orbit is a polynomial of degree m on each interval of a mesh, scaled to [0, 1], that satisfies y' = T f(y, p) at the
m Gauss points of each interval (de Boor & Swartz 1973; used for continuation by Doedel's AUTO). Unknown are its values
at m + 1 equidistant places of each interval, the period T and one parameter p; conditions besides collocation are
periodicity, a phase condition and the pseudo-arclength.

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
    by_parameter,  # (intervals * m, n) ∂f/∂p
    phase,  # (intervals * m + 1, n) the phase condition's weights
    phase_rest,  # its residual
    arc,  # (intervals * m + 1, n) the arclength condition's weights
    arc_period,
    arc_parameter,
    arc_rest,
    step,  # out (2, intervals * m + 1, n): the Newton step; the tangent (arclength condition 1, all else 0)
    step_rest,  # out (2, 2): of period and parameter
    pair,  # out (2, n, n): C y_0 + D y_N = 0 links the ends of the linearised orbit
):
    """Returns whether the linear system could be solved."""
    intervals, (m, n) = mesh.shape[0], (values.shape[0], y.shape[1])
    size = m * n
    local = np.empty((intervals, size, n + 4))  # on y_i, T, p, and the two right-hand sides
    a, b = np.empty((size, size)), np.empty((size, n + 4))
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
                b[row, n] = rate[point, r]
                b[row, n + 1] = period * by_parameter[point, r]
                b[row, n + 2] = -rest
                b[row, n + 3] = 0.0
        if not _solve(a, b):
            return False
        local[i] = b
    # Border rows, condensed to the mesh points: on y_0 ... y_N, T, p, two right-hand sides.
    border = np.zeros((2, intervals + 1, n))
    border_rest = np.zeros((2, 4))
    border_rest[1, 0], border_rest[1, 1] = arc_period, arc_parameter
    border_rest[0, 2], border_rest[1, 2], border_rest[1, 3] = -phase_rest, -arc_rest, 1.0
    for which in range(2):
        weights = phase if which == 0 else arc
        for i in range(intervals):
            for s in range(n):
                border[which, i, s] += weights[i * m, s]
            for k in range(1, m):
                for r in range(n):
                    w = weights[i * m + k, r]
                    row = (k - 1) * n + r
                    for s in range(n):
                        border[which, i, s] += w * local[i, row, s]
                    border_rest[which, 0] += w * local[i, row, n]
                    border_rest[which, 1] += w * local[i, row, n + 1]
                    border_rest[which, 2] -= w * local[i, row, n + 2]
                    border_rest[which, 3] -= w * local[i, row, n + 3]
        for s in range(n):
            border[which, intervals, s] += weights[intervals * m, s]
    # y_{i+1} = (last rows of local): C y_0 + D y_{i+1} + e (T, p) = r, carried from interval to interval.
    last = size - n
    width = 3 * n + 4
    saved = np.empty((intervals, n, width))
    relation = np.zeros((n, 2 * n + 4))  # on y_0, y_i, T, p, right-hand sides
    for r in range(n):
        for s in range(n):
            relation[r, s] = local[0, last + r, s]
        relation[r, n + r] = -1.0
        for q in range(2):
            relation[r, 2 * n + q] = local[0, last + r, n + q]
            relation[r, 2 * n + 2 + q] = -local[0, last + r, n + 2 + q]
    table = np.empty((2 * n, width))  # on y_i, y_0, y_{i+1}, T, p, right-hand sides
    for i in range(1, intervals):
        table[:] = 0.0
        for r in range(n):
            for s in range(n):
                table[r, s] = relation[r, n + s]
                table[r, n + s] = relation[r, s]
                table[n + r, s] = local[i, last + r, s]
            table[n + r, 2 * n + r] = -1.0
            for q in range(2):
                table[r, 3 * n + q] = relation[r, 2 * n + q]
                table[r, 3 * n + 2 + q] = relation[r, 2 * n + 2 + q]
                table[n + r, 3 * n + q] = local[i, last + r, n + q]
                table[n + r, 3 * n + 2 + q] = -local[i, last + r, n + 2 + q]
        _triangularise(table, n)
        for r in range(n):
            for s in range(width):
                saved[i, r, s] = table[r, s]
            for s in range(n):
                relation[r, s] = table[n + r, n + s]
                relation[r, n + s] = table[n + r, 2 * n + s]
            for q in range(4):
                relation[r, 2 * n + q] = table[n + r, 3 * n + q]
        for which in range(2):
            _eliminate(saved[i], border[which, i], n, border[which, 0], border[which, i + 1], border_rest[which])
    # What is left: y_0, y_N, T, p.
    order = 2 * n + 2
    final, right = np.zeros((order, order)), np.zeros((order, 2))
    for r in range(n):
        for s in range(n):
            final[r, s], final[r, n + s] = relation[r, s], relation[r, n + s]
            pair[0, r, s], pair[1, r, s] = relation[r, s], relation[r, n + s]
        for q in range(2):
            final[r, 2 * n + q] = relation[r, 2 * n + q]
            right[r, q] = relation[r, 2 * n + 2 + q]
        final[n + r, r], final[n + r, n + r] = 1.0, -1.0
        right[n + r, 0] = -(y[0, r] - y[intervals * m, r])
    for which in range(2):
        for s in range(n):
            final[2 * n + which, s] = border[which, 0, s]
            final[2 * n + which, n + s] = border[which, intervals, s]
        for q in range(2):
            final[2 * n + which, 2 * n + q] = border_rest[which, q]
            right[2 * n + which, q] = border_rest[which, 2 + q]
    if not _solve(final, right):
        return False
    for q in range(2):
        for s in range(n):
            step[q, 0, s] = right[s, q]
            step[q, intervals * m, s] = right[n + s, q]
        step_rest[q, 0], step_rest[q, 1] = right[2 * n, q], right[2 * n + 1, q]
        for i in range(intervals - 1, 0, -1):
            for r in range(n - 1, -1, -1):
                total = saved[i, r, 3 * n + 2 + q] - saved[i, r, 3 * n] * step_rest[q, 0]
                total -= saved[i, r, 3 * n + 1] * step_rest[q, 1]
                for s in range(n):
                    total -= saved[i, r, n + s] * step[q, 0, s] + saved[i, r, 2 * n + s] * step[q, (i + 1) * m, s]
                for s in range(r + 1, n):
                    total -= saved[i, r, s] * step[q, i * m, s]
                step[q, i * m, r] = total / saved[i, r, r]
        for i in range(intervals):
            for k in range(1, m):
                for r in range(n):
                    row = (k - 1) * n + r
                    total = local[i, row, n] * step_rest[q, 0] + local[i, row, n + 1] * step_rest[q, 1]
                    total += local[i, row, n + 2 + q]
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
        for q in range(4):
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
