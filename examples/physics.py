"""A boundary value problem of the second order by a net: stated as it reads, solved to rounding in a second.

Run: python examples/physics.py      (a few seconds)
"""

import torch

from varphi.systems.physics import MLP, Dirichlet, Interval, NotSmoothEnough, Problem, fit

# u'' + u u' = f with u(0) = 1 and u(2) = exp(-2); f is made so that u = exp(-x).
problem = Problem(
    Interval(0, 2),
    "u_xx + u*u_x = exp(-x) - exp(-2*x)",
    [Dirichlet(value=1.0, where="x = 0"), Dirichlet(value="exp(-2)", where="x = 2")],
    truth="exp(-x)",
)
solution = fit(problem, iterations=60)
print(solution.report())
print("u(0), u(1), u(2):", solution([0.0, 1.0, 2.0]).flatten().tolist())

# An unknown number in the equation, found from eleven measurements of u.
x = torch.linspace(0, 2, 11, dtype=torch.float64)
measured = Problem(
    Interval(0, 2),
    "k*u_xx = u",
    [Dirichlet(value=1.0, where="x = 0"), Dirichlet(value="exp(-4)", where="x = 2")],
    coefficients={"k": 1.0},
    data=(x[:, None], torch.exp(-2 * x)),
)
print(f"\nk = {fit(measured, iterations=60).coefficients['k']:.6f} (0.25 is right)")

# What relu would have done is said before any training.
try:
    fit(problem, MLP((20, 20), "relu"))
except NotSmoothEnough as error:
    print(f"\n{error}")
