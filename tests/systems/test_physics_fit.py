"""Fits: solutions against closed forms, methods against textbook linear algebra, long fits that are cut short."""

import copy
import importlib
import itertools
import math
import signal
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from varphi.activation.parsing import FormulaError
from varphi.systems.physics import (
    MLP,
    Box,
    Dirichlet,
    Disk,
    Initial,
    Interval,
    Neumann,
    NotSmoothEnough,
    Periodic,
    Polygon,
    Problem,
    Robin,
    fit,
    load,
)
from varphi.systems.physics.fit import gauss_points
from varphi.systems.physics.least_squares import Damped, Dense, MatrixFree, Residuals, Unknowns

BVP = Problem(Interval(0, 1), "-u_xx = pi^2*sin(pi*x)", Dirichlet(), truth="sin(pi*x)")
SOFT = Problem(Interval(0, 1), "-u_xx = pi^2*sin(pi*x)", Dirichlet(hard=False), truth="sin(pi*x)")
WEAK = Problem(
    Interval(0, 1), form="weak", energy="u_x^2/2 - pi^2*sin(pi*x)*u", conditions=Dirichlet(), truth="sin(pi*x)"
)
SMALL = {"net": MLP((8, 8)), "points": 24, "progress": False, "scales": (1.5,)}


def solved(problem, **options):
    return fit(problem, progress=False, **options)


# Solutions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_the_chapters_problem_is_solved_to_seven_digits(seed):
    solution = solved(BVP, seed=seed, iterations=50)
    x = np.linspace(0, 1, 1001)
    error = solution(x)[:, 0].numpy() - np.sin(np.pi * x)
    assert np.linalg.norm(error) / np.linalg.norm(np.sin(np.pi * x)) < 1e-6
    assert solution(x)[[0, -1]].abs().max() == 0


X = torch.linspace(0, 1, 9, dtype=torch.float64)
SOLVED = {
    "two values": (
        Problem(
            Interval(0, 1), "u_xx = 6*x", [Dirichlet(value=1.0, where="x=0"), Dirichlet(value=2.0, where="x=1")],
            truth="x^3 + 1",
        ),
        {"iterations": 20}, 1e-4,
    ),
    "slope": (
        Problem(
            Interval(0, 1), "-u_xx = pi^2*sin(pi*x)",
            [Dirichlet(where="x=0"), Neumann(value="-pi", where="x=1")], truth="sin(pi*x)",
        ),
        {"iterations": 20}, 1e-3,
    ),
    "both": (
        Problem(
            Interval(0, 1), "-u_xx = pi^2*sin(pi*x)",
            [Dirichlet(where="x=0"), Robin(a=2.0, value="-pi", where="x=1")], truth="sin(pi*x)",
        ),
        {"iterations": 20}, 1e-3,
    ),
    "nonlinear": (
        # u = 1/(1 + x): u'' = 2 u³
        Problem(Interval(0, 1), "u_xx = 2*u^3", Dirichlet(value="1 - x/2"), truth="1/(1 + x)"),
        {"iterations": 20}, 1e-4,
    ),
    "from the start": (
        Problem(Interval(0, 3), "u_t = -u", Initial(value=1.0), truth="exp(-t)"), {"iterations": 20}, 1e-4,
    ),
    "system": (
        Problem(
            Interval(0, 2), ["u_t = v", "v_t = -u"], [Initial(value=1.0, field="u"), Initial(value=0.0, field="v")],
            fields=("u", "v"), truth=["cos(t)", "-sin(t)"],
        ),
        {"iterations": 20}, 1e-3,
    ),
    "heat": (
        Problem(
            Box([0, 0], [1, 0.2]), "u_t = u_xx", [Dirichlet(where="x=0 or x=1"), Initial(value="sin(pi*x)")],
            truth="sin(pi*x)*exp(-pi^2*t)",
        ),
        {"iterations": 12, "points": 100, "net": MLP((16, 16))}, 5e-3,
    ),
    "periodic": (
        Problem(
            Box([0, 0], [1, 0.5]), "u_t + u_x = 0", [Periodic("x"), Initial(value="sin(2*pi*x)")],
            truth="sin(2*pi*(x - t))",
        ),
        {"iterations": 25, "points": 144, "net": MLP((16, 16))}, 2e-2,
    ),
    "disk": (
        Problem(Disk(), "-lap_u = 4", Dirichlet(), truth="1 - x^2 - y^2"),
        {"iterations": 8, "points": 60, "net": MLP((12, 12))}, 1e-2,
    ),
    "ring": (
        Problem(Disk(radius=2.0) - Disk(), "lap_u = 0", Dirichlet(value="log(x^2 + y^2)"), truth="log(x^2 + y^2)"),
        {"iterations": 8, "points": 60, "net": MLP((12, 12))}, 1e-2,
    ),
    "L, soft": (
        Problem(
            Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]), "lap_u = 4", Dirichlet(value="x^2 + y^2"),
            truth="x^2 + y^2",
        ),
        {"iterations": 8, "points": 80, "net": MLP((12, 12))}, 5e-3,
    ),
    "three dimensions": (
        Problem(Box([0, 0, 0], [1, 1, 1]), "lap_u = 6", Dirichlet(value="x^2 + y^2 + z^2"), truth="x^2 + y^2 + z^2"),
        {"iterations": 3, "points": 60, "net": MLP((8, 8)), "scales": (1.0,)}, 1e-2,
    ),
    "weak": (WEAK, {"iterations": 20, "points": 64, "net": MLP((10, 10))}, 1e-3),
    "weak, relu": (WEAK, {"iterations": 30, "points": 100, "net": MLP((16,), "relu")}, 0.1),
    "weak, plane": (
        Problem(
            Box([0, 0], [1, 1]), form="weak", energy=lambda d: (d.u_x**2 + d.u_y**2) / 2 - d.f * d.u,
            conditions=Dirichlet(), given={"f": "2*pi^2*sin(pi*x)*sin(pi*y)"}, truth="sin(pi*x)*sin(pi*y)",
            coordinates="xy",
        ),
        {"iterations": 8, "points": 100, "net": MLP((10,))}, 3e-2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOLVED)
def test_solutions_in_closed_form_are_found(name):
    problem, options, enough = SOLVED[name]
    solution = solved(problem, **options)
    assert (solution.error() < enough).all(), solution.report()


def test_a_coefficient_is_found_with_the_solution():
    problem = Problem(
        Interval(0, 1),
        "-k*u_xx = pi^2*sin(pi*x)",
        Dirichlet(),
        coefficients={"k": 1.0},
        data=(X[:, None], torch.sin(math.pi * X) / 2),
    )
    solution = solved(problem, iterations=40)
    assert solution.coefficients["k"] == pytest.approx(2.0, rel=1e-5)
    assert "k = 2" in str(solution.report())


@pytest.mark.parametrize(
    "method, iterations, enough", [("gauss-newton", 25, 1e-4), ("lbfgs", 10, 1e-2), ("adam", 150, 0.5)]
)
def test_other_methods(method, iterations, enough):
    solution = solved(BVP, method=method, iterations=iterations, points=24)
    assert solution.error() < enough and solution.method == method
    assert solution.history[-1] < solution.history[0]
    assert solution(X).dtype is (torch.float32 if method == "adam" else torch.float64)


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_other_methods_for_the_weak_form(method):
    solution = solved(WEAK, method=method, iterations=8 if method == "lbfgs" else 200, points=48, learning_rate=0.01)
    assert solution.error() < (1e-2 if method == "lbfgs" else 0.2)
    with pytest.raises(ValueError, match="use 'natural'"):
        solved(WEAK, method="lm")
    with pytest.raises(ValueError, match="for the weak form"):
        solved(BVP, method="natural")


def test_relu_learns_nothing_from_the_strong_form_and_the_loss_looks_alive():
    options = {"net": MLP((16, 16), "relu"), "points": 32, "iterations": 25, "allow_almost_everywhere": True}
    with pytest.warns(UserWarning, match="piecewise linear"):
        soft = solved(SOFT, **options)
    # Only the ends are learned: the equation's residual is π² sin πx, whatever the parameters.
    x = torch.linspace(0.1, 0.9, 7, dtype=torch.float64)
    torch.testing.assert_close(soft.residual(x)[:, 0], -(math.pi**2) * torch.sin(math.pi * x))
    assert soft.error() > 0.5
    with pytest.warns(UserWarning, match="looks alive"):
        hard = solved(BVP, **options)
    assert hard.history[-1] < 0.2 * hard.history[0] and hard.error() > 0.05


def test_a_users_own_net_is_trained_in_place():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 1)).double()
    before = net[0].weight.clone()
    solution = solved(BVP, net=net, iterations=15)
    assert solution.field.net is net and not torch.equal(net[0].weight, before)
    assert solution.error() < 1e-2
    # It stays a module: its state can be kept and given to another.
    again = BVP.field(MLP((10, 10)).build(1, 1))
    again.load_state_dict(solution.field.state_dict())
    torch.testing.assert_close(again(X[:, None]), solution(X))


# The linear algebra --------------------------------------------------------------------------------------------------


def residuals(rows, boundary=True):
    problem = SOFT if boundary else BVP
    torch.manual_seed(0)
    unknowns = Unknowns(problem.field(MLP((5, 4)).build(1, 1)), {})
    x, w = gauss_points(problem.domain, rows)
    return Residuals(unknowns, problem.blocks(x, w, 2, "sobol", 0))


@pytest.mark.parametrize("rows", [6, 200])
@pytest.mark.parametrize("damping", [1e-6, 1.0])
def test_damped_least_squares_are_solved_both_ways(rows, damping):
    work = residuals(rows)
    r, j = work.linearised()
    torch.testing.assert_close(r, work.vector().detach())
    b = torch.randn(len(r), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    stacked = torch.cat([j, math.sqrt(damping) * torch.eye(j.shape[1], dtype=torch.float64)])
    expected = np.linalg.lstsq(stacked.numpy(), -np.append(b.numpy(), np.zeros(j.shape[1])))[0]
    dense, free = Dense(r, j), MatrixFree(work, iterations=2000)
    np.testing.assert_allclose(dense.solve(b, damping).numpy(), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(free.solve(b, damping).numpy(), expected, rtol=1e-4, atol=1e-5)
    v = torch.randn(j.shape[1], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(dense.apply(v), j @ v)
    torch.testing.assert_close(free.apply(v), j @ v)
    torch.testing.assert_close(free.r, r)
    assert dense.condition == pytest.approx(float(torch.linalg.cond(j)), rel=1e-3) or dense.condition > 1e13


def test_without_forming_the_jacobian_the_steps_are_the_same():
    work = residuals(8)
    theta = work.unknowns.get()
    reached = []
    for dense in (True, False):
        work.unknowns.set(theta)
        method = Damped(work, dense=dense)
        method.damping = 1e-3
        for _ in range(3):
            method.advance()
        reached.append(method.loss)
    assert reached[0] == pytest.approx(reached[1], rel=1e-3)


@pytest.mark.parametrize("damped", [True, False])
def test_every_step_makes_the_loss_smaller(damped):
    work = residuals(30)
    method = Damped(work, damped=damped)
    losses = [float(work.vector().detach().square().sum())]
    for _ in range(12):
        method.advance()
        assert not method.stuck
        losses.append(method.loss)
        assert method.loss == pytest.approx(float(work.vector().detach().square().sum()))
    assert all(b < a for a, b in itertools.pairwise(losses))


def test_a_linear_model_is_solved_at_once():
    # Without hidden layers u is linear in its parameters: Gauss-Newton is least squares.
    problem = Problem(Interval(-1, 1), "u_x = 3", Dirichlet(value=1.0, where="x = 0 - 1", hard=False))
    solution = solved(problem, net=nn.Linear(1, 1).double(), method="gauss-newton", iterations=5)
    torch.testing.assert_close(solution(torch.tensor([0.0, 1.0]).double()), torch.tensor([[4.0], [7.0]]).double())


@pytest.mark.parametrize("d, n", [(1, 7), (2, 36), (3, 27)])
def test_gauss_points_integrate_polynomials(d, n):
    box = Box([-1.0] * d, [2.0] * d)
    x, w = gauss_points(box, n)
    assert len(x) == n and float(w.sum()) == pytest.approx(1)
    power = 2 * round(n ** (1 / d)) - 2
    expected = ((2 ** (power + 1) + 1) / (power + 1) / 3) ** d
    assert float((w[:, 0] * (x**power).prod(1)).sum()) == pytest.approx(expected)
    x, w = gauss_points(Interval(0, 1), 40, composite=True)
    # A kink at a cell's end costs nothing.
    assert float((w * (x - 0.3).abs()).sum()) == pytest.approx((0.3**2 + 0.7**2) / 2, abs=1e-12)


# Long fits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lm", "lbfgs", "adam", "natural"])
def test_a_fit_that_was_cut_short_comes_to_the_same_numbers(method, tmp_path):
    problem = WEAK if method == "natural" else SOFT
    options = {**SMALL, "method": method, "seed": 3}
    whole = fit(problem, iterations=12, **options)
    path = tmp_path / "fit.pt"
    if method == "adam":  # its rate depends on how many iterations there will be: stopped by time instead
        fit(problem, iterations=12, seconds=1e-9, checkpoint=path, **options)
    else:
        fit(problem, iterations=5, checkpoint=path, **options)
    assert path.exists()
    resumed = fit(problem, iterations=12, checkpoint=path, **options)
    assert torch.equal(whole.unknowns.get(), resumed.unknowns.get())
    assert whole.history == resumed.history
    assert resumed.cpu_seconds > 0


def test_a_checkpoint_with_refinements_keeps_the_points(tmp_path):
    options = {**SMALL, "refinements": 2}
    whole = fit(BVP, iterations=9, **options)
    assert len(whole.residuals.blocks[0].points) > 24
    path = tmp_path / "fit.pt"
    # Where points are added depends on the iterations: stopped by time instead.
    for _ in range(3):
        fit(BVP, iterations=9, seconds=1e-9, checkpoint=path, **options)
    resumed = fit(BVP, iterations=9, checkpoint=path, **options)
    torch.testing.assert_close(resumed.residuals.blocks[0].points, whole.residuals.blocks[0].points)
    assert torch.equal(whole.unknowns.get(), resumed.unknowns.get())


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    path = tmp_path / "fit.pt"
    fit(BVP, iterations=2, checkpoint=path, **SMALL)
    with pytest.raises(ValueError, match="another fit"):
        fit(BVP, iterations=2, checkpoint=path, **{**SMALL, "points": 25})
    with pytest.raises(ValueError, match="another fit"):
        fit(SOFT, iterations=2, checkpoint=path, **SMALL)
    with pytest.raises(FileNotFoundError, match="no directory"):
        fit(BVP, iterations=2, checkpoint=tmp_path / "deep" / "fit.pt", **SMALL)
    path.write_text("no")
    with pytest.raises(ValueError, match="not a checkpoint"):
        fit(BVP, iterations=2, checkpoint=path, **SMALL)


def test_a_killed_process_resumes(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, signal, sys
            import importlib
            from varphi.systems.physics import MLP, Dirichlet, Interval, Problem, fit
            module = importlib.import_module("varphi.systems.physics.fit")
            module._CHECKPOINT_EVERY = 0.0
            advance = module._Run._advance
            def killed(run, *rest):
                if len(run.history) == 4 and len(sys.argv) > 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                advance(run, *rest)
            module._Run._advance = killed
            # Functions lie elsewhere in memory each time.
            ends = Dirichlet(value=lambda x: 0 * x, where=lambda x: x[:, 0] >= 0)
            problem = Problem(Interval(0, 1), "-u_xx = pi^2*sin(pi*x)", ends)
            options = {{"net": MLP((6, 6)), "points": 16, "iterations": 8, "scales": (1.5,)}}
            resumed = fit(problem, checkpoint={str(tmp_path / "c.pt")!r}, **options)
            print(resumed.history == fit(problem, **options).history, len(resumed.history))
            """
        )
    )
    killed = subprocess.run([sys.executable, str(script), "die"], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(torch.load(tmp_path / "c.pt", weights_only=True)["history"]) == 4
    resumed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert resumed.stdout.split() == ["True", "8"], resumed.stderr


def test_ctrl_c_keeps_the_best(monkeypatch):
    runs = importlib.import_module("varphi.systems.physics.fit")._Run
    advance, count = runs._advance, []

    def interrupted(run, *rest):
        if len(count) == 6:
            raise KeyboardInterrupt
        count.append(1)
        advance(run, *rest)

    monkeypatch.setattr(runs, "_advance", interrupted)
    solution = fit(BVP, iterations=50, **SMALL)
    assert solution.reason.startswith("interrupted") and len(solution.history) == 6
    assert float(solution.residuals.vector().detach().square().sum()) == pytest.approx(min(solution.history))


def test_ctrl_c_within_the_first_step_leaves_no_trial_values(monkeypatch):
    at = Damped._at

    def interrupted(method, theta):
        at(method, theta)
        raise KeyboardInterrupt

    monkeypatch.setattr(Damped, "_at", interrupted)
    solution = fit(BVP, iterations=50, **SMALL)
    start = MLP((8, 8)).build(1, 1, seed=0, scale=1.5)
    assert torch.equal(solution.unknowns.get(), nn.utils.parameters_to_vector(start.parameters()))


def test_why_a_fit_stops():
    assert "all 3 iterations" in fit(BVP, iterations=3, **SMALL).reason
    assert "seconds are over" in fit(BVP, seconds=1e-9, **SMALL).reason
    assert "has fallen to 0.1" in fit(BVP, tolerance=0.1, **SMALL).reason
    few = fit(Problem(Interval(), "u_xx = abs(x - 0.5)^0.5", Dirichlet()), **{**SMALL, "net": MLP((2,))})
    assert "stalled" in few.reason or "no step" in few.reason


def test_refinement_goes_where_the_residual_is():
    steep = Problem(Interval(-1, 1), "u_xx = 100*exp(-(x - 0.5)^2/0.002)", Dirichlet())
    solution = solved(steep, points=24, refinements=4, iterations=20, net=MLP((8, 8)))
    added = solution.residuals.blocks[0].points[24:]
    assert len(added) >= 8 and ((added - 0.5).abs() < 0.2).double().mean() > 0.5


def test_scales_are_chosen_by_rule():
    # With one there is nothing to choose; with several the result is that of one of them.
    options = {"points": 24, "iterations": 1, "net": MLP((6, 6)), "progress": False}
    single = {s: fit(BVP, scales=(s,), **options).history for s in (1.0, 4.0)}
    assert fit(BVP, scales=(1.0, 4.0), **options).history in single.values()


# Report and figures --------------------------------------------------------------------------------------------------


def test_a_report_says_what_is_needed():
    solution = solved(BVP, iterations=10, points=24)
    report = solution.report()
    x = BVP.domain.sample(2048, "sobol", 1_000_003)
    assert report.fresh_residual == pytest.approx(float(solution.residual(x).square().mean().sqrt()))
    assert report.largest_residual == pytest.approx(float(solution.residual(x).abs().max()))
    assert report.error == pytest.approx(tuple(solution.error().tolist()))
    assert report.condition > 1 and report.damping > 0 and report.rows == 24 and report.unknowns == 481
    told = str(report)
    for part in ("stopped: all 10", "relative L2 error", "condition", "fresh points", "s CPU"):
        assert part in told
    with pytest.raises(ValueError, match="truth is not known"):
        solved(Problem(Interval(), "u_xx = 1", Dirichlet()), iterations=1).error()


def test_too_few_points_are_noticed():
    report = solved(BVP, net=MLP((20, 20)), scales=(8.0,), points=5, iterations=40).report()
    assert report.fresh_residual > 3 * report.trained_residual and "use more of them" in str(report)


def test_points_of_the_wrong_kind_are_refused():
    solution = solved(BVP, iterations=1, points=8)
    assert solution([0.25, 0.5]).shape == (2, 1)
    with pytest.raises(ValueError, match=r"points must be \(n, 1\)"):
        solution(torch.rand(3, 2))
    with pytest.raises(TypeError, match="floating-point"):
        solution(torch.arange(3))


# Afterwards ----------------------------------------------------------------------------------------------------------


def test_derivatives_of_a_solution_are_those_of_the_truth():
    z = Box([0, 0], [1, 1]).sample(9)
    problem = Problem(
        Box([0, 0], [1, 1]), ["k*u_xx + u_yy = f", "v = u_x"], Dirichlet(field="u", value="exp(x)*sin(y)"),
        fields=("u", "v"), coefficients={"k": 1.5}, given={"f": 0.0},
        data=(z, (z[:, :1].exp() * z[:, 1:].sin()).expand(-1, 2)),
    )  # fmt: skip
    solution = solved(problem, iterations=25, points=64, net=MLP((12, 12)), scales=(1.5,))
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = solution.evaluate(["u_x", "u_yy", "u_xy", "x*u + k - k"], x)
    ex, sin, cos = x[:, 0].exp(), x[:, 1].sin(), x[:, 1].cos()
    right = torch.stack([ex * sin, -ex * sin, ex * cos, x[:, 0] * ex * sin], 1)
    torch.testing.assert_close(found, right, rtol=0, atol=2e-3)
    torch.testing.assert_close(solution.evaluate(lambda d: d.u_x**2, x), found[:, :1] ** 2)
    torch.testing.assert_close(solution.evaluate("v", x), solution(x)[:, 1:])
    with pytest.raises(FormulaError, match="unknown symbol 'w'"):
        solution.evaluate("w", x)
    with pytest.raises(ValueError, match=r"points must be \(n, 2\)"):
        solution.evaluate("u_x", x[:, 0])


def test_derivatives_that_a_net_of_relu_does_not_have_are_refused():
    solution = solved(WEAK, iterations=3, points=64, net=MLP((8,), "relu"))
    assert solution.evaluate("u_x", [0.25]).isfinite().all()
    with pytest.raises(NotSmoothEnough, match=r"relu is C\^0: .*order 2.*Derivatives up to order 1"):
        solution.evaluate("u_xx", [0.25])


@pytest.mark.parametrize("name", ["both", "system", "weak, relu"])
def test_a_solution_is_saved_and_read_again(name, tmp_path):
    problem, _, _ = SOLVED[name]
    solution = solved(problem, iterations=3, points=32, net=MLP((6,), "relu" if name == "weak, relu" else "tanh"))
    path = solution.save(tmp_path / "solution.pt")
    again = load(path, problem)
    x = problem.domain.sample(20)
    assert torch.equal(again(x), solution(x)) and str(again.report()) == str(solution.report())
    assert again.history == solution.history


def test_solutions_of_ones_own_net_and_of_other_problems(tmp_path):
    net = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))
    path = solved(BVP, net=net, iterations=2, points=8).save(tmp_path / "own.pt")
    again = load(path, BVP, copy.deepcopy(net))
    assert again.field.net[0].weight.dtype == torch.float32
    with pytest.raises(ValueError, match="give one like it"):
        load(path, BVP)
    with pytest.raises(ValueError, match=r"(?s)not like that of .*size mismatch for field.net.0.weight"):
        load(path, BVP, MLP((4,)))
    with pytest.raises(ValueError, match=r"another problem:\nProblem\(-u_xx"):
        load(path, SOFT, net)
    (tmp_path / "text.pt").write_text("no")
    with pytest.raises(ValueError, match="holds no solution"):
        load(tmp_path / "text.pt", BVP)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.pt", BVP)
    with pytest.raises(FileNotFoundError, match="no directory"):
        again.save(tmp_path / "deep" / "s.pt")


class Features(nn.Module):
    """Random frequencies, which are no parameters."""

    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(1, 4).double())
        self.last = nn.Linear(4, 1).double()

    def forward(self, z):
        return self.last(torch.sin(z @ self.frequencies))


def test_what_is_no_parameter_is_saved_too(tmp_path):
    torch.manual_seed(0)
    solution = solved(BVP, net=Features(), iterations=2, points=8)
    again = load(solution.save(tmp_path / "s.pt"), BVP, Features())
    assert torch.equal(again(X), solution(X))


def test_problems_with_other_data_are_others():
    x, u = X[:3, None], torch.zeros(3).double()
    first, same, other = (Problem(Interval(), "u_xx = 0", data=(x, u + v)).told for v in (0.0, 0.0, 1e-9))
    assert first == same != other


def test_a_fit_is_watched():
    seen = []
    solution = fit(BVP, iterations=4, watch=lambda *now: seen.append((*now[:2], now[2](X[:3, None]).detach())), **SMALL)
    assert [i for i, _, _ in seen] == [1, 2, 3, 4]
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(seen)) and seen[-1][1] <= solution.cpu_seconds
    torch.testing.assert_close(seen[-1][2], solution(X[:3]))


@pytest.mark.parametrize("name", ["system", "disk", "weak"])
def test_figures_are_drawn(name):
    problem, _, _ = SOLVED[name]
    solution = solved(problem, iterations=1, points=16, net=MLP((4,)), scales=(1.0,))
    drawing = solution.figure()
    drawing.canvas.draw()
    titles = [a.get_title() for a in drawing.axes if a.get_title()]
    assert ("|residual|" in " ".join(titles)) == (name != "weak") and any("error" in t for t in titles)


def test_a_figure_of_three_dimensions_is_refused():
    problem, _, _ = SOLVED["three dimensions"]
    with pytest.raises(ValueError, match="one or two dimensions"):
        solved(problem, iterations=1, points=8, net=MLP((4,)), scales=(1.0,)).figure()


def test_a_bar_is_shown_on_long_work_only(capsys, monkeypatch):
    from varphi.systems.physics import progress

    fit(BVP, iterations=2, **{**SMALL, "progress": True})
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_QUIET", 0.0)
    fit(BVP, iterations=5, **{**SMALL, "progress": True})
    assert capsys.readouterr().err == ""  # not into a file either
    monkeypatch.setattr(progress, "Console", partial(progress.Console, force_terminal=True, width=120))
    fit(BVP, iterations=5, **{**SMALL, "progress": True})
    assert "loss" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda():
    net = MLP((8, 8)).build(1, 1).cuda()
    solution = solved(BVP, net=net, iterations=10)
    assert solution.error() < 1e-2
