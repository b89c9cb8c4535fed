"""Poisson's equation on a domain with a re-entrant corner: an L, with soft conditions, and points added where needed.

Run: python examples/physics_lshape.py [iterations] [points]      (about half a minute)
"""

import sys

from varphi.systems.physics import Dirichlet, Polygon, Problem, fit

iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 60
points = int(sys.argv[2]) if len(sys.argv) > 2 else 500
L = Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)])
problem = Problem(L, "-lap_u = 2*pi^2*sin(pi*x)*sin(pi*y)", Dirichlet(), truth="sin(pi*x)*sin(pi*y)")
solution = fit(problem, points=points, boundary=100, iterations=iterations, refinements=2)
print(solution.report())
