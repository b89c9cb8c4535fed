"""One trial of each of the three studies: an equation, an activation, a solver."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.study import Outcome, Point, Setting

from . import peer
from .condition import Dirichlet, Initial
from .domain import Box, Interval, Polygon
from .field import MLP
from .fit import beginning, fit
from .gate import AlmostEverywhere, InNameOnly
from .problem import Block, Problem

HARD, SOFT, WEAK = "strong, hard ends", "strong, soft ends", "weak"
OURS = "varphi"
# DeepXDE takes part where it is installed, with one activation.
SOLVERS = (OURS, peer.NAME) if peer.is_installed() else (OURS,)
PEERS_ACTIVATION = "tanh"
# Fresh points that errors are measured at: as many as in a report, and others.
_FRESH, _FRESH_SEED = 2048, 1_000_019

# The line ------------------------------------------------------------------------------------------------------------

_SOURCE = "pi^2*sin(pi*x)"


def line(form: str) -> Problem:
    """-u'' = π² sin πx on [0, 1], u(0) = u(1) = 0."""
    if form == WEAK:
        energy = f"u_x^2/2 - {_SOURCE}*u"
        return Problem(Interval(0, 1), energy=energy, form="weak", conditions=Dirichlet(), truth="sin(pi*x)")
    ends = Dirichlet(hard=form == HARD)
    return Problem(Interval(0, 1), f"-u_xx = {_SOURCE}", ends, truth="sin(pi*x)")


def _line_equation(dde: Any, x: Tensor, u: Tensor) -> Tensor:
    return dde.grad.hessian(u, x) + torch.pi**2 * torch.sin(torch.pi * x)


def line_trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point], **iterations: int) -> Outcome:
    """One seed of one setting of `physics`; see `study.declaration.Trial`."""
    return _trial(line(setting["form"]), _line_equation, (20, 20), setting, seeds, iterations)


# The L ---------------------------------------------------------------------------------------------------------------

CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 0.0), (0.0, 0.0), (0.0, 1.0), (-1.0, 1.0))


def _polar(x: Float[Tensor, "n 2"]) -> tuple[Tensor, Tensor]:
    """Distance from the re-entrant corner, and the angle from the edge above it, in (0, 3π/2)."""
    a, b = x[:, :1], x[:, 1:]
    # From the middle of the L, so that the angle's jump lies outside.
    return torch.hypot(a, b).clamp_min(1e-150), 0.75 * math.pi + torch.atan2(a - b, -a - b)


def corner_truth(x: Float[Tensor, "n 2"]) -> Float[Tensor, "n 1"]:
    """u = r^(2/3) sin(2θ/3) (1 - x²)(1 - y²): 0 on the boundary, its slope unbounded at the re-entrant corner."""
    r, theta = _polar(x)
    return r ** (2 / 3) * torch.sin(theta / 1.5) * (1 - x[:, :1] ** 2) * (1 - x[:, 1:] ** 2)


def corner_source(x: Float[Tensor, "n 2"]) -> Float[Tensor, "n 1"]:
    """-Δu: the first factor is harmonic, so that products of first derivatives and one Laplacian remain."""
    r, theta = _polar(x)
    a, b = x[:, :1], x[:, 1:]
    p, q = 1 - a**2, 1 - b**2
    slope = 2 / 3 * r ** (-1 / 3)
    across, along = -slope * torch.cos(theta / 3), -slope * torch.sin(theta / 3)
    return 4 * (across * a * q + along * b * p) + 2 * r ** (2 / 3) * torch.sin(theta / 1.5) * (p + q)


def corner() -> Problem:
    """-Δu = f on an L, u = 0 on its boundary, which is a residual."""
    given = {"f": corner_source}
    return Problem(Polygon(CORNERS), "-lap_u = f", Dirichlet(), given=given, truth=corner_truth)


def _corner_equation(dde: Any, x: Tensor, u: Tensor) -> Tensor:
    return dde.grad.hessian(u, x, i=0, j=0) + dde.grad.hessian(u, x, i=1, j=1) + corner_source(x)


def corner_trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point], **iterations: int) -> Outcome:
    """One seed of one setting of `physics_lshape`; see `study.declaration.Trial`."""
    return _trial(corner(), _corner_equation, (16, 16), setting, seeds, iterations, points=400, boundary=100)


# The front -----------------------------------------------------------------------------------------------------------

VISCOSITY = 0.02


def front_truth(x: Float[Tensor, "n 2"]) -> Float[Tensor, "n 1"]:
    """u(x, t) by Cole and Hopf, whose heat equation is solved by Gauss-Hermite quadrature."""
    nodes, weights = (torch.from_numpy(v).to(x) for v in np.polynomial.hermite.hermgauss(200))
    y = x[:, :1] - 2 * torch.sqrt(VISCOSITY * x[:, 1:]) * nodes
    heat = weights * torch.exp(-torch.cos(math.pi * y) / (2 * math.pi * VISCOSITY))
    return -(heat * torch.sin(math.pi * y)).sum(1, keepdim=True) / heat.sum(1, keepdim=True)


def front() -> Problem:
    """u_t + u u_x = ν u_xx on [-1, 1] × [0, 1], u = -sin πx at the start, 0 at the ends; all hard."""
    equation = f"u_t + u*u_x = {VISCOSITY}*u_xx"
    conditions = [Dirichlet(where="x = -1 or x = 1"), Initial(value="-sin(pi*x)")]
    return Problem(Box([-1, 0], [1, 1]), equation, conditions, truth=front_truth)


def _front_equation(dde: Any, x: Tensor, u: Tensor) -> Tensor:
    slope = dde.grad.jacobian(u, x, i=0, j=0)
    return dde.grad.jacobian(u, x, i=0, j=1) + u * slope - VISCOSITY * dde.grad.hessian(u, x, i=0, j=0)


def front_trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point], **iterations: int) -> Outcome:
    """One seed of one setting of `physics_burgers`; see `study.declaration.Trial`."""
    return _trial(front(), _front_equation, (16, 16), setting, seeds, iterations, points=1024, sampler="sobol")


# All -----------------------------------------------------------------------------------------------------------------


def applies(setting: Setting) -> bool:
    """DeepXDE runs the strong form with one activation."""
    return setting["solver"] == OURS or (setting["activation"] == PEERS_ACTIVATION and setting.get("form") != WEAK)


def _trial(
    problem: Problem,
    equation: peer.Equation,
    widths: tuple[int, ...],
    setting: Setting,
    seeds: Sequence[int],
    iterations: Mapping[str, int],
    **points: Any,
) -> Outcome:
    (seed,) = seeds
    plan = MLP(widths, setting["activation"])
    run = _ours if setting["solver"] == OURS else _peers
    with _quietly():
        return run(problem, equation, plan, seed, iterations, points)


@contextmanager
def _quietly() -> Iterator[None]:
    """One thread, and nothing said by the gate: what it says is what is measured here."""
    before = torch.get_num_threads()
    # Matrices this small gain little from a second thread, and lose much where another process has the core.
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AlmostEverywhere)
            warnings.simplefilter("ignore", InNameOnly)
            yield
    finally:
        torch.set_num_threads(before)


def _error(problem: Problem) -> Callable[[nn.Module], float]:
    """The relative L2 error of a field at fresh points."""
    assert problem.truth is not None, "the studies know their truth"
    x = problem.domain.sample(_FRESH, "sobol", _FRESH_SEED)
    truth = problem.truth[0](x)

    @torch.no_grad()
    def error(field: nn.Module) -> float:
        return float((field(x) - truth).norm() / truth.norm())

    return error


def _ours(
    problem: Problem, _: peer.Equation, plan: MLP, seed: int, iterations: Mapping[str, int], points: Mapping[str, Any]
) -> Outcome:
    seconds, errors, error = [], [], _error(problem)
    total = iterations["iterations"]
    # Each power of ten is looked at about as often.
    looks = {*np.geomspace(1, total, 24).round().astype(int).tolist()}

    def watch(iteration: int, cpu: float, field: nn.Module) -> None:
        if iteration in looks:
            seconds.append(cpu)
            errors.append(error(field))

    solution = fit(
        problem, plan, iterations=total, seed=seed, allow_almost_everywhere=True, watch=watch, progress=False, **points
    )
    strong = problem.form == "strong"
    measures = {
        "error": error(solution.field),
        "residual": _residual(problem, solution.residuals.blocks[0], solution.field) if strong else math.nan,
        "fall": (solution.history[-1] / solution.history[0]) ** 0.5 if strong else math.nan,
        "iterations": float(len(solution.history)),
        "seconds": solution.cpu_seconds,
    }
    return _outcome(measures, seconds, errors)


def _peers(
    problem: Problem, equation: peer.Equation, plan: MLP, seed: int, iterations: Mapping[str, int],
    points: Mapping[str, Any],
) -> Outcome:  # fmt: skip
    unknowns, blocks = beginning(problem, plan, seed=seed, **points)
    course = peer.solve(unknowns, blocks, equation, _error(problem), adam=iterations["adam"], lbfgs=iterations["lbfgs"])
    measures = {
        "error": course.errors[-1],
        "residual": _residual(problem, blocks[0], course.field),
        "fall": course.fall**0.5,
        "iterations": float(course.iterations),
        "seconds": course.seconds[-1],
    }
    return _outcome(measures, course.seconds, course.errors)


@torch.no_grad()
def _residual(problem: Problem, equation: Block, field: nn.Module) -> float:
    """The root mean square of the equation's residual at fresh points."""
    x = problem.domain.sample(_FRESH, "sobol", _FRESH_SEED)
    return float(equation.residual(field, x, {}).square().mean().sqrt())


def _outcome(measures: dict[str, float], seconds: list[float], errors: list[float]) -> Outcome:
    curves = {"seconds": np.array([*seconds, measures["seconds"]]), "error": np.array([*errors, measures["error"]])}
    return Outcome(measures, curves)
