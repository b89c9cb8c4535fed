"""The study's problem solved without a net: what a reader should use for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_bvp

Solved = Callable[[np.ndarray], np.ndarray]
_LINE = np.linspace(0, 1, 2001)
_ROUNDS = 5


def source(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """f of -u'' = f."""
    return np.pi**2 * np.sin(np.pi * x)


def truth(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """u."""
    return np.sin(np.pi * x)


def collocation(nodes: int = 20) -> Solved:
    """Chebyshev collocation: the polynomial whose residual is 0 at Chebyshev points."""
    chebyshev = np.polynomial.chebyshev
    z = np.cos(np.pi * np.arange(1, nodes - 1) / (nodes - 1))
    second = np.stack([chebyshev.chebval(z, chebyshev.chebder(unit, 2)) for unit in np.eye(nodes)], 1)
    ends = chebyshev.chebvander(np.array([-1.0, 1.0]), nodes - 1)
    # x = (z + 1)/2: each derivative brings a factor of 2.
    matrix, right = np.vstack([-4 * second, ends]), np.append(source((z + 1) / 2), [0.0, 0.0])
    coefficients = np.linalg.solve(matrix, right)
    return lambda x: chebyshev.chebval(2 * x - 1, coefficients)


def by_scipy(tolerance: float = 1e-8) -> Solved:
    """scipy.integrate.solve_bvp: adaptive collocation of fourth order."""
    x = np.linspace(0, 1, 11)
    found = solve_bvp(
        lambda t, y: np.vstack([y[1], -source(t)]),
        lambda a, b: np.array([a[0], b[0]]),
        x,
        np.zeros((2, len(x))),
        tol=tolerance,
        max_nodes=10**5,
    )
    return lambda t: found.sol(t)[0]


def elements(cells: int = 400) -> Solved:
    """Piecewise linear finite elements: what the weak form with relu is, with the bends held fixed."""
    from scipy.linalg import solveh_banded

    h = 1 / cells
    nodes = np.linspace(0, 1, cells + 1)
    bands = np.vstack([np.full(cells - 1, -1 / h), np.full(cells - 1, 2 / h)])
    inner = solveh_banded(bands, h * source(nodes[1:-1]))
    values = np.concatenate([[0.0], inner, [0.0]])
    return lambda x: np.interp(x, nodes, values)


def references(**_: int) -> dict[str, dict[str, float]]:
    """Error and CPU time of each."""
    solvers: dict[str, Callable[[], Solved]] = {
        "Chebyshev collocation, 20 nodes": collocation,
        "scipy solve_bvp": by_scipy,
        "linear finite elements, 400 cells": elements,
    }
    return {name: _measured(solve) for name, solve in solvers.items()}


def _measured(solve: Callable[[], Solved]) -> dict[str, float]:
    found, times = solve(), []
    for _ in range(_ROUNDS):
        start = time.process_time()
        solve()
        times.append(time.process_time() - start)
    error = np.linalg.norm(found(_LINE) - truth(_LINE)) / np.linalg.norm(truth(_LINE))
    return {"error": float(error), "seconds": float(np.median(times))}
