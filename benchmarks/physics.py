"""How accurate a net's solution is after how much CPU time, beside solvers without a net and, if installed, DeepXDE.

    python benchmarks/physics.py [--seeds N] [--quick]

One process, one thread, CPU time (`time.process_time`; imports and one warm-up fit are not counted), float64, hard
boundary conditions. The error is the relative L2 error on a fine grid that was not trained on. Tables:

1. -u'' = π² sin πx on [0, 1], net 1-20-20-1, 64 points: seed by seed, CPU time to an error of 1e-7 and of 1e-9.
2. -Δu = 2π² sin πx sin πy on the square, net 2-32-32-1, 256 points: the same, to 1e-7 and 1e-8.
3. What a step of the first problem costs, part by part.
4. The same problems by Chebyshev collocation and `scipy.integrate.solve_bvp`.
5. DeepXDE on the first problem, with the same first weights and points: Adam at three rates, L-BFGS from the lowest
   loss. Where it is not installed, that is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from varphi.systems.physics import MLP, Box, Dirichlet, Interval, Problem, Solution, fit, peer
from varphi.systems.physics.fit import beginning
from varphi.systems.physics.least_squares import Dense
from varphi.systems.physics.references import line_references

LINE = Problem(Interval(0, 1), "-u_xx = pi^2*sin(pi*x)", Dirichlet(), truth="sin(pi*x)")
SQUARE = Problem(Box([0, 0], [1, 1]), "-lap_u = 2*pi^2*sin(pi*x)*sin(pi*y)", Dirichlet(), truth="sin(pi*x)*sin(pi*y)")


def grid(d: int) -> Tensor:
    side = torch.linspace(0, 1, 1001 if d == 1 else 101, dtype=torch.float64)
    return torch.cartesian_prod(*[side] * d).reshape(-1, d)


def errors_on(d: int) -> Callable[[nn.Module], float]:
    """The relative L2 error of a field on the grid, where the truth is a product of sines."""
    x = grid(d)
    truth = torch.sin(torch.pi * x).prod(1, keepdim=True)

    @torch.no_grad()
    def error(field: nn.Module) -> float:
        return float((field(x) - truth).norm() / truth.norm())

    return error


def watched(problem: Problem, **options: object) -> tuple[Solution, list[tuple[float, float]]]:
    """A fit, and (CPU time, error) after every iteration; measuring the error is not counted."""
    error = errors_on(problem.domain.dimensions)
    seen: list[tuple[float, float]] = []
    solution = fit(
        problem, progress=False, watch=lambda _, seconds, field: seen.append((seconds, error(field))), **options
    )
    return solution, seen


def reached(seen: list[tuple[float, float]], error: float) -> float:
    """CPU time from which the error stays at or below."""
    above = [i for i, (_, e) in enumerate(seen) if e > error]
    first = above[-1] + 1 if above else 0
    return seen[first][0] if first < len(seen) else float("inf")


def table(
    title: str, problem: Problem, levels: tuple[float, float], limit: float, seeds: int, **options: object
) -> None:
    print(f"\n{title}\nseed   CPU s to {levels[0]:g}   to {levels[1]:g}   error at the end   iterations   CPU s")
    times: dict[float, list[float]] = {level: [] for level in levels}
    for seed in range(seeds):
        solution, seen = watched(problem, seed=seed, **options)
        for level in levels:
            times[level].append(reached(seen, level))
        first, second = (times[level][-1] for level in levels)
        print(
            f"{seed:4d} {first:15.2f} {second:10.2f} {seen[-1][1]:18.1e} {len(solution.history):12d} {seen[-1][0]:7.2f}"
        )
    for level in levels:
        within = f"{sum(t <= limit for t in times[level])} of {seeds} within {limit:g} s"
        print(f"error {level:g}: median {statistics.median(times[level]):.2f} CPU s, {within}")


def parts(rounds: int = 60) -> None:
    """What a step is made of."""
    solution = fit(LINE, iterations=3, progress=False)
    work, theta = solution.residuals, solution.unknowns.get()
    r, j = work.linearised()
    factorised = Dense(r, j)
    pieces: dict[str, Callable[[], object]] = {
        "residual and Jacobian (jets.jacobian)": work.linearised,
        "residual alone, twice for each step tried": lambda: work.at(theta),
        "QR and singular values": lambda: Dense(r, j),
        "a solution from them": lambda: factorised.solve(r, 1e-6),
    }
    print(f"\nA step: {j.shape[0]} residuals, {j.shape[1]} unknowns")
    for name, piece in pieces.items():
        times = []
        for _ in range(rounds):
            start = time.process_time()
            piece()
            times.append(time.process_time() - start)
        print(f"{name:45s} {1e3 * statistics.median(times):6.2f} ms CPU")


def deepxde(seed: int, adam: int, lbfgs: int) -> None:
    """The first problem by DeepXDE."""
    print("\nDeepXDE, the first problem, hard conditions, same first weights, points and net, best of three rates")
    if not peer.is_installed():
        print(peer.ABSENT)
        return
    unknowns, blocks = beginning(LINE, MLP((20, 20)), seed=seed)

    def equation(dde: Any, x: Tensor, u: Tensor) -> Tensor:
        return dde.grad.hessian(u, x) + torch.pi**2 * torch.sin(torch.pi * x)

    course = peer.solve(unknowns, blocks, equation, errors_on(1), adam=adam, lbfgs=lbfgs)
    shown = {"3/5 of Adam": 2, "Adam": 4, "L-BFGS": -1}
    for name, place in shown.items():
        print(f"after {name:12s} {course.seconds[place]:7.2f} CPU s, relative L2 error {course.errors[place]:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two seeds and few iterations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = 2 if arguments.quick else arguments.seeds
    fit(LINE, iterations=3, progress=False)
    line = {"iterations": 40 if arguments.quick else 200}
    plane = {"iterations": 10 if arguments.quick else 120}
    table("-u'' = f on [0, 1], 1-20-20-1, 64 points, goal 1e-7 within 1 s", LINE, (1e-7, 1e-9), 1.0, seeds, **line)
    table(
        "-Δu = f on the square, 2-32-32-1, 256 points", SQUARE, (1e-7, 1e-8), 10.0, 2 if arguments.quick else 3, **plane
    )
    parts()
    print("\nWithout a net, the first problem")
    for name, values in line_references().items():
        print(f"{name:40s} {1e3 * values['seconds']:8.2f} ms CPU, relative L2 error {values['error']:.1e}")
    deepxde(0, 100 if arguments.quick else 1000, 50 if arguments.quick else 2000)


if __name__ == "__main__":
    main()
