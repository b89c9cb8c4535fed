"""The studies' problems solved without a net: what a reader should use for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_bvp, solve_ivp

from .trial import VISCOSITY, corner, corner_source, corner_truth, front, front_truth

Solved = Callable[[np.ndarray], np.ndarray]
_LINE = np.linspace(0, 1, 2001)
_ROUNDS = 5
_FRESH = 2048
NO_ELEMENTS = "finite elements (scikit-fem is not installed here: pip install 'varphi[physics]')"


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


def line_references(**_: int) -> dict[str, dict[str, float]]:
    """Error and CPU time of each, on the line."""
    solvers: dict[str, Callable[[], Solved]] = {
        "Chebyshev collocation, 20 nodes": collocation,
        "scipy solve_bvp": by_scipy,
        "linear finite elements, 400 cells": elements,
    }
    return {name: _measured(solve, _LINE, truth(_LINE)) for name, solve in solvers.items()}


# The L ---------------------------------------------------------------------------------------------------------------


def elements_on_the_corner(refined: int = 4, around: int = 0, *, quadratic: bool = False) -> Solved:
    """Finite elements by scikit-fem.

    Args:
        refined: how often every triangle is cut into four, from 24 on.
        around: how often the triangles near the re-entrant corner are cut after that, each time in half the distance.
        quadratic: quadratic instead of linear elements.
    """
    skfem: Any = __import__("skfem")
    # (-1, 1)² without its quarter x, y > 0.
    mesh = skfem.MeshTri.init_lshaped().refined(1 + refined)
    for i in range(around):
        centres = mesh.p[:, mesh.t].mean(1)
        mesh = mesh.refined(np.flatnonzero(np.hypot(*centres) < 0.5 ** (i + 1)))
    basis = skfem.Basis(mesh, skfem.ElementTriP2() if quadratic else skfem.ElementTriP1(), intorder=4)

    def load(v: Any, w: Any) -> Any:
        x = torch.from_numpy(np.stack([w.x[0].ravel(), w.x[1].ravel()], 1))
        return corner_source(x).numpy().reshape(w.x[0].shape) * v

    stiffness = skfem.BilinearForm(lambda u, v, w: u.grad[0] * v.grad[0] + u.grad[1] * v.grad[1]).assemble(basis)
    system = skfem.condense(stiffness, skfem.LinearForm(load).assemble(basis), D=basis.get_dofs())
    u = skfem.solve(*system)
    return lambda x: basis.probes(x.T) @ u


def corner_references(**_: int) -> dict[str, dict[str, float]]:
    """Error and CPU time of finite elements, on the L."""
    try:
        import skfem  # noqa: F401
    except ImportError:
        return {NO_ELEMENTS: {}}
    x = corner().domain.sample(_FRESH, "sobol", 1)
    right = corner_truth(x)[:, 0].numpy()
    solvers = {
        "scikit-fem, linear, even mesh": lambda: elements_on_the_corner(3),
        "scikit-fem, quadratic, finer at the corner": lambda: elements_on_the_corner(3, 8, quadratic=True),
    }
    return {name: _measured(solve, x.numpy(), right) for name, solve in solvers.items()}


# The front -----------------------------------------------------------------------------------------------------------


def by_sines(modes: int = 192, tolerance: float = 1e-10) -> Solved:
    """Sine series in x (u is odd about 0 and 1 for all times), and scipy's LSODA in time."""
    places = np.arange(1, modes) / modes
    wave = np.pi * np.arange(1, modes)
    sines, cosines = np.sin(np.outer(places, wave)), np.cos(np.outer(places, wave))

    def slope(_: float, b: np.ndarray) -> np.ndarray:
        transported = (sines @ b) * (cosines @ (wave * b))
        return -VISCOSITY * wave**2 * b - 2 / modes * (sines.T @ transported)

    start = np.zeros(modes - 1)
    start[0] = -1.0
    found = solve_ivp(slope, (0.0, 1.0), start, "LSODA", dense_output=True, rtol=tolerance, atol=tolerance)
    return lambda x: (np.sin(np.outer(x[:, 0], wave)) * found.sol(x[:, 1]).T).sum(1)


def by_differences(cells: int = 400, tolerance: float = 1e-6) -> Solved:
    """Central differences of second order in x, and scipy's LSODA in time."""
    x = np.linspace(-1, 1, cells + 1)
    h = x[1] - x[0]

    def slope(_: float, inner: np.ndarray) -> np.ndarray:
        u = np.concatenate([[0.0], inner, [0.0]])
        # u u_x as (u²)_x/2.
        transport = (u[2:] ** 2 - u[:-2] ** 2) / (4 * h)
        return VISCOSITY * np.diff(u, 2) / h**2 - transport

    found = solve_ivp(
        slope, (0.0, 1.0), -np.sin(np.pi * x[1:-1]), "LSODA", dense_output=True, rtol=tolerance, atol=tolerance,
        lband=1, uband=1,
    )  # fmt: skip

    def at(places: np.ndarray) -> np.ndarray:
        inner = found.sol(places[:, 1])
        whole = np.vstack([np.zeros(len(places)), inner, np.zeros(len(places))])
        cell = np.clip(((places[:, 0] + 1) / h).astype(int), 0, cells - 1)
        share, each = (places[:, 0] - x[cell]) / h, np.arange(len(places))
        return (1 - share) * whole[cell, each] + share * whole[cell + 1, each]

    return at


def front_references(**_: int) -> dict[str, dict[str, float]]:
    """Error and CPU time of each, on the front."""
    x = front().domain.sample(_FRESH, "sobol", 1)
    right = front_truth(x)[:, 0].numpy()
    solvers: dict[str, Callable[[], Solved]] = {
        "sine series, scipy LSODA": by_sines,
        "finite differences, 400 cells, scipy LSODA": by_differences,
    }
    return {name: _measured(solve, x.numpy(), right) for name, solve in solvers.items()}


def _measured(solve: Callable[[], Solved], x: np.ndarray, right: np.ndarray) -> dict[str, float]:
    found, times = solve(), []
    for _ in range(_ROUNDS):
        start = time.process_time()
        solve()
        times.append(time.process_time() - start)
    error = np.linalg.norm(found(x) - right) / np.linalg.norm(right)
    return {"error": float(error), "seconds": float(np.median(times))}
