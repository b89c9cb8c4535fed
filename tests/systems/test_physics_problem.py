"""Problems: what is refused, what is hard, and residuals against derivatives known in closed form."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import varphi as vp
from varphi.activation.parsing import FormulaError
from varphi.systems.physics import (
    MLP,
    Box,
    Dirichlet,
    Disk,
    Field,
    Free,
    Hard,
    Initial,
    Interval,
    Neumann,
    NotSmoothEnough,
    Periodic,
    Polygon,
    Problem,
    Robin,
    check_smoothness,
    fit,
)
from varphi.systems.physics.condition import function
from varphi.systems.physics.gate import AlmostEverywhere, InNameOnly

POISSON = "-u_xx = pi^2*sin(pi*x)"
SQUARE = Box([0, 0], [1, 1])
L = Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)])


def torch_norm(x):
    """|x|², given as a function."""
    return (x * x).sum(-1)


class Known(nn.Module):
    """A net whose output is a function of the scaled coordinates; one parameter, so that it can be trained."""

    def __init__(self, f):
        super().__init__()
        self.f, self.shift = f, nn.Parameter(torch.zeros(1).double())

    def forward(self, z):
        return self.f(z) + self.shift


# Fields --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_hard_conditions_hold_whatever_the_net_gives(seed):
    cases = [
        (Problem(Interval(-1, 2), "u_xx", Dirichlet(value="cos(x)")), "cos(x)"),
        (Problem(SQUARE, "lap_u", Dirichlet(value="x*y + 1")), "x*y + 1"),
        (Problem(Disk(radius=2.0), "lap_u", Dirichlet(value=3.0)), "3"),
        (Problem(Disk(radius=2.0) - Disk(), "lap_u", Dirichlet(value="x")), "x"),
        (Problem(L, "lap_u", Dirichlet(value="x - y", hard=True)), "x - y"),
    ]
    for problem, value in cases:
        assert problem.is_hard
        field = problem.field(MLP((9, 9)).build(problem.features, 1, seed=seed, last=5.0))
        points = problem.domain.boundary(100, seed=seed).points
        expected = function(value, problem.coordinates)(points)
        torch.testing.assert_close(field(points), expected, rtol=0, atol=1e-11)


def test_two_values_on_an_interval_are_joined_by_a_line():
    problem = Problem(Interval(1, 3), "u_xx", [Dirichlet(value=1.0, where="x = 1"), Dirichlet(value=5.0, where="x=3")])
    field = problem.field(MLP((5,)).build(1, 1))
    ends = torch.tensor([[1.0], [3.0]]).double()
    torch.testing.assert_close(field(ends), torch.tensor([[1.0], [5.0]]).double())
    g = problem.hard[0].g
    torch.testing.assert_close(g(torch.tensor([[1.5]]).double()), torch.tensor([[2.0]]).double())


def test_periodic_fields_agree_in_every_derivative():
    problem = Problem(Box([0, 0], [2, 1]), "u_tt = u_xx", [Periodic("x"), Initial(value="sin(pi*x)", rate=0.0)])
    assert problem.features == 3 and problem.is_hard
    field = problem.field(MLP((7, 7), "sin").build(3, 1))
    t = torch.linspace(0, 1, 5).double()[:, None]
    left, right = (torch.cat([torch.full_like(t, v), t], 1) for v in (0.0, 2.0))
    for axes in ((0,), (0, 0, 0), (1, 0)):
        name = "u_" + "".join("xt"[a] for a in axes)
        op = vp.operator(name, coordinates="xt")
        torch.testing.assert_close(op(field, left)[1], op(field, right)[1], rtol=1e-8, atol=1e-8)
    start = torch.cat([t, torch.zeros_like(t)], 1)
    torch.testing.assert_close(field(start), torch.sin(math.pi * t), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "problem",
    [
        Problem(Interval(), POISSON, [Dirichlet(value="2*pi", where="x=0"), Dirichlet(value=1.0, where="x=1")]),
        Problem(L, "lap_u", Dirichlet(value="x*y", hard=True)),
        Problem(Box([-1, -1], [1, 1]) - Disk(radius=0.5), "lap_u", Dirichlet(value=torch_norm)),
        Problem(Box([0, 0], [1, 1]), "u_t = u_xx", [Periodic("x"), Initial(value="sin(2*pi*x)")]),
    ],
)
def test_fields_are_copied_and_pickled(problem):
    field = problem.field(MLP((5,)).build(problem.features, 1))
    x = problem.domain.sample(9)
    for other in (copy.deepcopy(field), pickle.loads(pickle.dumps(field))):
        assert torch.equal(other(x), field(x))
        with torch.no_grad():
            other.net[0].weight += 1
        assert not torch.equal(other(x), field(x))
    compiled = torch.func.functional_call(field, dict(field.named_parameters()), (x,))
    assert torch.equal(compiled, field(x))
    jacobian = torch.func.vmap(torch.func.jacrev(field))(x)
    _, gradient = vp.gradient(field, x)
    torch.testing.assert_close(jacobian, gradient)


def test_a_field_of_ones_own_factor():
    field = Field(Known(lambda z: torch.cos(z)), hard=Hard(lambda x: x * (1 - x), lambda x: 2 * x))
    x = torch.rand(4, 1).double()
    torch.testing.assert_close(field(x), 2 * x + x * (1 - x) * torch.cos(x))
    _, second = vp.laplacian(field, x)
    expected = -2 * torch.cos(x) - 2 * (1 - 2 * x) * torch.sin(x) - x * (1 - x) * torch.cos(x)
    torch.testing.assert_close(second, expected)
    with pytest.raises(ValueError, match="lower and upper"):
        Field(nn.Linear(1, 1), periodic=(0,))


def test_what_cannot_be_one_function_is_soft():
    edges = [Dirichlet(value=0.0, where="x=0 or x=1 or y=0"), Dirichlet(value=1.0, where="y=1")]
    problem = Problem(SQUARE, "lap_u", edges)
    assert problem.is_hard and len(problem._soft) == 1 and problem._soft[0] is edges[1]
    with pytest.raises(ValueError, match="the same function"):
        Problem(SQUARE, "lap_u", [Dirichlet(value=e.value, where=e.where, hard=True) for e in edges])
    # A disk's boundary is one piece: a half of it cannot be hard.
    halves = [Dirichlet(where=lambda x: x[:, 0] >= 0), Neumann(where=lambda x: x[:, 0] < 0)]
    assert not Problem(Disk(), "lap_u", halves).is_hard
    with pytest.raises(ValueError, match="no whole piece"):
        Problem(Disk(), "lap_u", [Dirichlet(where=lambda x: x[:, 0] >= 0, hard=True), halves[1]])


# Residuals -----------------------------------------------------------------------------------------------------------


def residual(problem, net, name):
    field = problem.field(net)
    x, w = problem.domain.sample(20), torch.ones(20, 1).double()
    (block,) = [b for b in problem.blocks(x, w, 12, "sobol", 0) if b.name == name]
    numbers = {n: torch.full((len(block.points), 1), v).double() for n, v in problem.coefficients.items()}
    return block, block.residual(field, block.points, numbers).detach()


def test_equations_are_read_with_both_sides_coefficients_and_given_functions():
    problem = Problem(
        Interval(0, 2),
        "-k*u_xx + u = f + x",
        Dirichlet(hard=False),
        coefficients={"k": 3.0},
        given={"f": lambda x: x**2},
    )
    block, found = residual(problem, Known(lambda z: torch.sin(z)), "equation")
    x = block.points
    torch.testing.assert_close(found, 3 * torch.sin(x - 1) + torch.sin(x - 1) - x**2 - x)
    block, found = residual(problem, Known(lambda z: torch.sin(z)), "Dirichlet condition")
    torch.testing.assert_close(found, torch.sin(block.points - 1))


def test_slopes_are_taken_outwards():
    conditions = [Neumann(value="x*y", where="x = 1"), Robin(a=2.0, b="y", value=1.0, where="y = 0"), Free()]
    problem = Problem(SQUARE, "lap_u", conditions)
    net = Known(lambda z: z[..., :1] ** 2 * (z[..., 1:] + 3))  # z = 2x - 1
    block, found = residual(problem, net, "Neumann condition")
    x, y = block.points[:, :1], block.points[:, 1:]
    assert (x == 1).all()
    torch.testing.assert_close(found, 4 * (2 * y + 2) - x * y)
    block, found = residual(problem, net, "Robin condition")
    x, y = block.points[:, :1], block.points[:, 1:]
    assert (y == 0).all()
    torch.testing.assert_close(found, 2 * 2 * (2 * x - 1) ** 2 - y * 2 * (2 * x - 1) ** 2 - 1)


def test_rates_at_the_start():
    problem = Problem(Interval(0, 2), "u_tt = -u", Initial(value=1.0, rate="7"))
    assert problem.coordinates == ("t",) and problem.order == 2
    _, found = residual(problem, Known(lambda z: 2 + 0 * z), "Initial condition")
    # u = 1 + (t/2)(2): the slope is 1.
    torch.testing.assert_close(found, torch.full_like(found, 1 - 7.0))


# Refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Problem(Interval(), POISSON), ValueError, "nothing is asked of u anywhere"),
        (lambda: Problem(Interval(), "u_x = 1"), ValueError, "nothing is asked of u anywhere"),
        (lambda: Problem(Interval(), POISSON, Neumann(where="x=1")), ValueError, "nothing is asked of u on x = 0"),
        (lambda: Problem(Interval(), POISSON, Dirichlet(where="x=0")), ValueError, "nothing is asked of u on x = 1"),
        (
            lambda: Problem(SQUARE, "u_t = u_xx", [Initial(), Dirichlet(where="x=0")]),
            ValueError,
            r"nothing is asked of u on x = 1, for instance at \(1, ",
        ),
        (lambda: Problem(SQUARE, POISSON, Dirichlet(), coordinates="x"), ValueError, "has 2 dimensions"),
        (lambda: Problem(Interval(), "u_xz", Dirichlet()), FormulaError, "unknown"),
        (lambda: Problem(Interval(), "u_xx = f", Dirichlet()), FormulaError, "unknown"),
        (lambda: Problem(Interval(), "u_xx = 1 = 2", Dirichlet()), ValueError, "2 signs '='"),
        (lambda: Problem(Interval(), "u_xx", Dirichlet(field="v")), ValueError, "field 'v'"),
        (lambda: Problem(Interval(), ["u_xx", "v_xx"], Dirichlet(), fields=("u", "v")), ValueError, "which field"),
        (lambda: Problem(Interval(), "u_xx", Dirichlet(where="x > 0")), ValueError, "cannot be read"),
        (lambda: Problem(Interval(), "u_xx", [Dirichlet(), Neumann(where="x=0.5")]), ValueError, "no point"),
        (lambda: Problem(Disk(), "lap_u", Periodic("x")), ValueError, "needs a box"),
        (lambda: Problem(Interval(), "u_xx", [Dirichlet(), Initial()]), ValueError, "along 't'"),
        (lambda: Problem(Interval(), "u_xx", Dirichlet(value=math.nan)), ValueError, "finite"),
        (lambda: Problem(Interval(), "u_xx", Dirichlet(value=None)), TypeError, "a value is"),
        (lambda: Problem(Interval(), "u_xx", ["u = 0"]), TypeError, "a condition is"),
        (lambda: Problem([0, 1], "u_xx"), TypeError, "a problem's domain"),
        (lambda: Problem(Interval(), form="weak", conditions=Dirichlet()), ValueError, "takes energy="),
        (lambda: Problem(Interval(), energy="u_x^2", conditions=Dirichlet()), ValueError, "takes an equation"),
        (lambda: Problem(Interval(), "k*u_xx", Dirichlet(), coefficients={"k": math.inf}), ValueError, "'k'"),
        (lambda: Problem(Interval(), "f_x*u_xx", Dirichlet(), given={"f": "x"}), ValueError, "given function 'f'"),
        (
            lambda: Problem(Interval(), "u_xx", data=(torch.arange(3)[:, None], torch.rand(3))),
            TypeError,
            "floating-point, got torch.int64",
        ),
        (lambda: Problem(Interval(), "u_xx", data=(torch.rand(3, 2), torch.rand(3))), ValueError, r"\(n, 1\)"),
        (lambda: Problem(Interval(), "u_xx", data=(torch.rand(3, 1), torch.rand(4))), ValueError, r"\(3, 1\)"),
        (
            lambda: Problem(Interval(), "u_xx", data=(torch.rand(3, 1), torch.tensor([0.0, math.nan, 1.0]))),
            ValueError,
            "row 1",
        ),
        (lambda: Problem(Interval(), POISSON, Dirichlet(), truth=["x", "x"]), ValueError, "truth"),
        (
            lambda: Problem(Interval(), POISSON, data=(np.array([[0.5], [1.5]]), np.zeros(2))),
            ValueError,
            r"row 1 of the data, \[1.5\], does not lie in the domain",
        ),
        (
            lambda: Problem(Interval(), POISSON, [Dirichlet(), Dirichlet(value=1.0, where="x=1", hard=False)]),
            ValueError,
            r"asks for u = 0 at \(1\), and Dirichlet.* for 1: say with where",
        ),
        (
            lambda: Problem(Interval(), "u_x = v", Dirichlet(field="u"), fields=("u", "v")),
            ValueError,
            "1 equation cannot",
        ),
    ],
)
def test_problems_that_do_not_fit_together(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "given, error, message",
    [
        ({"points": torch.rand(4, 2)}, ValueError, r"points must be \(n, 1\)"),
        ({"points": torch.arange(4)[:, None]}, TypeError, "floating-point, got torch.int64"),
        ({"points": torch.tensor([[0.5], [1.5]])}, ValueError, r"point 1, \[1.5\], does not lie in the domain"),
        ({"points": torch.tensor([[0.5], [math.nan]])}, ValueError, "point 1"),
        ({"points": 0}, ValueError, "points must be a whole number"),
        ({"sampler": "grid"}, ValueError, "no sampler 'grid'"),
        ({"method": "newton"}, ValueError, "no method 'newton'"),
        ({"iterations": 0}, ValueError, "iterations"),
        ({"seconds": -1}, ValueError, "seconds"),
        ({"tolerance": 2}, ValueError, "tolerance"),
        ({"scales": ()}, ValueError, "scales"),
        ({"net": nn.Linear(2, 1).double()}, ValueError, "is given 1 features"),
        ({"net": nn.Linear(1, 3).double()}, ValueError, "must give 1 outputs"),
        ({"net": MLP((4,), "relu")}, NotSmoothEnough, "relu is C"),
        ({"net": "tanh"}, TypeError, "a plan, MLP"),
        ({"net": nn.Linear(1, 1).half()}, TypeError, "the net's dtype must be torch.float32 or torch.float64"),
        ({"net": nn.Sequential(nn.Linear(1, 8), nn.Dropout(), nn.Linear(8, 1))}, ValueError, "call net.eval()"),
        ({"dtype": torch.int32}, TypeError, "dtype must be torch.float32"),
        ({"seed": -1}, ValueError, "seed must be a whole number >= 0"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be > 0"),
    ],
)
def test_fits_that_do_not_fit_the_problem(given, error, message):
    with pytest.raises(error, match=message):
        fit(Problem(Interval(), POISSON, Dirichlet()), **given)


def test_what_is_no_problem_or_plan_is_refused():
    with pytest.raises(TypeError, match="fit takes a Problem, got str"):
        fit("u_xx = 1")
    for widths in ((), (0,), (-3,), 20, ("a",)):
        with pytest.raises(ValueError, match="widths are those of the hidden layers"):
            MLP(widths)


def test_an_equation_of_order_four_asks_for_two_conditions_at_each_end():
    ends = [Dirichlet(), Neumann()]
    assert "1 condition on x = 0: usually 2" in Problem(Interval(), "u_xxxx = 1", Dirichlet()).warnings[0]
    assert not Problem(Interval(), "u_xxxx = 1", ends).warnings
    assert not Problem(Interval(), "u_xxxx = 1", [*ends[:1], Free()]).warnings
    assert "order 4" in Problem(Disk(), "bilap_u = 1", Dirichlet()).warnings[0]
    assert not Problem(Box([0, 0], [1, 1]), "u_xxxx + u_t", [Periodic("x"), Initial()]).warnings


def test_values_that_are_no_numbers_are_named_with_their_place():
    problem = Problem(Interval(0, 1), "u_xx = log(x - 0.5)", Dirichlet())
    with pytest.raises(ValueError, match=r"the equation is nan at x = .*source term"):
        fit(problem, progress=False)
    with pytest.raises(ValueError, match=r"the Dirichlet condition is nan"):
        fit(Problem(Interval(0, 1), "u_xx", Dirichlet(value="log(x - 0.5)", hard=False)), progress=False)
    with pytest.raises(ValueError, match=r"the equation is nan at x = .*64 of 64 points.*source term"):
        fit(Problem(Interval(), "-u_xx = f", Dirichlet(), given={"f": lambda x: x * math.nan}), progress=False)
    whole = Dirichlet(value=lambda x: torch.zeros(len(x), dtype=torch.int64), hard=False)
    with pytest.raises(TypeError, match=r"must give floating-point numbers, got torch.int64"):
        fit(Problem(Interval(), POISSON, whole), progress=False)


# The gate ------------------------------------------------------------------------------------------------------------


def net(activation):
    return MLP((4,), activation).build(1, 1)


@pytest.mark.parametrize("activation", ["tanh", "sin", "softplus", "gelu", "silu", nn.Tanh(), nn.GELU("tanh")])
def test_smooth_activations_pass(activation, recwarn):
    check_smoothness(net(activation), 4)
    assert not recwarn.list


@pytest.mark.parametrize(
    "activation, order, message",
    [
        ("relu", 2, r"relu is C\^0 \(its derivative 1 jumps at 0\).*piecewise linear.*gradient.*tanh, sin"),
        (nn.ReLU(), 2, "ReLU is C"),
        ("elu", 2, r"elu is C\^1"),
        (nn.ELU(), 2, r"C\^1"),
        ("selu", 2, r"selu is C\^0"),
        ("hard_swish", 2, r"hard_swish is C\^0"),
        (nn.Hardswish(), 1, r"C\^0"),
        ("relu2", 2, r"C\^1"),
        ("relu3", 3, r"C\^2"),
        ("relu", 1, r"order 1 need C\^1"),
        ("heaviside", 1, "is discontinuous"),
    ],
)
def test_activations_that_are_not_smooth_enough(activation, order, message):
    with pytest.raises(NotSmoothEnough, match=message):
        check_smoothness(net(activation), order)
    with pytest.warns(AlmostEverywhere, match=message):
        check_smoothness(net(activation), order, allow_almost_everywhere=True)


def test_smooth_in_name_only():
    with pytest.warns(InNameOnly, match=r"cubic_relu is C\^2 and no more: derivative 3"):
        check_smoothness(net("relu3"), 2)
    with pytest.warns(InNameOnly, match="C.1 and no more"):
        check_smoothness(net("elu"), 1)


def test_hard_conditions_get_a_word_of_their_own():
    with pytest.raises(NotSmoothEnough, match="looks alive"):
        check_smoothness(net("relu"), 2, hard=True)
    with pytest.raises(NotSmoothEnough, match="teach the net nothing"):
        check_smoothness(net("relu"), 2, hard=False)


def test_the_weak_form_asks_for_one_derivative_less(recwarn):
    check_smoothness(net("relu"), 1, form="weak")
    check_smoothness(net("elu"), 2, form="weak")
    assert not recwarn.list
    with pytest.raises(NotSmoothEnough, match="in the weak form"):
        check_smoothness(net("relu"), 2, form="weak")


def test_activations_in_a_users_own_module_are_found():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(1, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.b(torch.relu(self.a(x)))

    with pytest.raises(NotSmoothEnough, match="relu"):
        fit(Problem(Interval(), POISSON, Dirichlet()), Own().double())
