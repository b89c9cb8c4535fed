"""Burgers' equation in time, with a front that steepens; against the solution by Cole and Hopf.

Run: python examples/physics_burgers.py [iterations] [points]      (about a minute)
"""

import math
import sys

import numpy as np
import torch

from varphi.systems.physics import MLP, Box, Dirichlet, Initial, Problem, fit

NU = 0.02
iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 80
points = int(sys.argv[2]) if len(sys.argv) > 2 else 900


def cole_hopf(x: np.ndarray, t: float) -> np.ndarray:
    """u(x, t) for u(x, 0) = -sin πx, by Gauss-Hermite quadrature of the heat equation behind it."""
    z, w = np.polynomial.hermite.hermgauss(200)
    y = x[:, None] - 2 * math.sqrt(NU * t) * z
    heat = w * np.exp(-np.cos(np.pi * y) / (2 * np.pi * NU))
    return -(heat * np.sin(np.pi * y)).sum(1) / heat.sum(1)


problem = Problem(
    Box([-1, 0], [1, 1]),
    f"u_t + u*u_x = {NU}*u_xx",
    [Dirichlet(where="x = -1 or x = 1"), Initial(value="-sin(pi*x)")],
)
solution = fit(problem, MLP((24, 24)), points=points, iterations=iterations, refinements=3)
print(solution.report())
x = np.linspace(-1, 1, 401)
for t in (0.25, 0.5, 1.0):
    found = solution(torch.from_numpy(np.stack([x, np.full_like(x, t)], 1)))[:, 0].numpy()
    right = cole_hopf(x, t)
    print(f"t = {t}: relative L2 error {np.linalg.norm(found - right) / np.linalg.norm(right):.1e}")
