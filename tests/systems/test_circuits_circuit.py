"""Gene circuits: their Hill functions, equations, reactions and units, against mpmath, scipy and closed forms."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from varphi.dynamics.ensemble import Status, simulate
from varphi.dynamics.stochastic import simulate_counts
from varphi.numbers import variable
from varphi.numbers.expression import Expression
from varphi.numbers.jet import partial
from varphi.numbers.kernel.batch import WIDTH, batch
from varphi.systems.circuits import Circuit, Gene, Regulation, Transcript, Units, rest
from varphi.systems.circuits.circuit import FFL, gated, hill

LEVELS = np.array([0.0, -1e-12, 1e300, 1e-300, 1e-12, 0.3, 2.0, 7.0])


def evaluated(expressions: list[Expression], names: str, **values: object) -> np.ndarray:
    code = batch(expressions, tuple(names))
    rows = np.stack([np.broadcast_to(np.asarray(values[n], float), (WIDTH,)) for n in names]).copy()
    out = np.zeros((len(expressions), WIDTH))
    code(rows.ctypes.data, out.ctypes.data)
    return out


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [0.5, 1.0, 1.5, 2.5, 4.0])
def test_hill_and_its_derivatives_at_hard_places(sign: int, n: float) -> None:
    """Against mpmath with 60 digits; at and below 0 the function is constant."""
    from mpmath import log, mp, mpf

    law = hill(sign, variable("x"), variable("K"), variable("n"))
    found = evaluated([law, *(partial(law, v) for v in "xKn")], "xKn", x=LEVELS, K=2.0, n=n)
    with mp.workdps(60):
        for level, got in zip(LEVELS.tolist(), found.T, strict=True):
            if level <= 0:
                assert got.tolist() == [0.5 - 0.5 * sign, 0, 0, 0]
                continue
            x, k, m = mpf(level), mpf(2), mpf(n)
            r = (x / k) ** m
            slope = sign * r / (1 + r) ** 2
            exact = [r / (1 + r) if sign > 0 else 1 / (1 + r), slope * m / x, -slope * m / k, slope * log(x / k)]
            assert np.isfinite(got).all()
            np.testing.assert_allclose(got, [float(e) for e in exact], rtol=1e-11, atol=1e-290)


def test_hill_over_tensors_has_gradients_at_zero() -> None:
    import torch

    for sign in (1, -1):
        x = torch.tensor([0.0, -1e-12, 1e300, 0.3], dtype=torch.float64, requires_grad=True)
        k, n = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (2.0, 2.5))
        for gradient in torch.autograd.grad(hill(sign, x, k, n).sum(), (x, k, n)):
            assert torch.isfinite(gradient).all()
    x = torch.tensor([0.3, 2.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b, c: hill(1, a, b, c), (x, k, n))


@given(
    st.lists(st.tuples(st.sampled_from([1, -1]), st.floats(0, 50), st.floats(0.01, 20), st.floats(0.3, 8)),
             min_size=1, max_size=4)
)  # fmt: skip
def test_gates_are_their_definitions(regulators: list) -> None:
    ratios = [(x / K) ** n for _, x, K, n in regulators]
    own = [r / (1 + r) if s > 0 else 1 / (1 + r) for r, (s, *_) in zip(ratios, regulators, strict=True)]
    heads = [r if s > 0 else 1 for r, (s, *_) in zip(ratios, regulators, strict=True)]
    assert float(gated("AND", regulators)) == pytest.approx(math.prod(own), rel=1e-9)
    assert float(gated("SUM", regulators)) == pytest.approx(sum(own), rel=1e-9)
    assert float(gated("OR", regulators)) == pytest.approx(sum(heads) / (1 + sum(ratios)), rel=1e-9)


def test_competition_does_not_overflow() -> None:
    found = [(1, 1e60, 1.0, 4.0), (-1, 1e58, 1.0, 4.0)]
    assert float(gated("OR", found)) == pytest.approx(1.0)


@pytest.mark.parametrize("gate", ["AND", "OR", "SUM"])
@pytest.mark.parametrize("kind", list(FFL))
def test_feed_forward_loops_against_scipy(kind: str, gate: str) -> None:
    sign_xy, sign_xz, sign_yz = FFL[kind]
    circuit = Circuit.ffl(
        kind, gate, alpha={"Y": 0.7, "Z": 1.3}, beta={"Y": 2.0, "Z": 3.0}, basal=0.05,
        K={"XY": 0.4, "XZ": 0.9, "YZ": 0.6}, n={"XY": 1.5, "XZ": 2.0, "YZ": 3.0}, X=0.8,
    )  # fmt: skip
    assert circuit.edges == (("X", "Y", sign_xy), ("X", "Z", sign_xz), ("Y", "Z", sign_yz))

    def on(x: float, K: float, n: float, sign: int) -> float:
        r = (x / K) ** n
        return r / (1 + r) if sign > 0 else 1 / (1 + r)

    def rate(_: float, s: np.ndarray) -> list[float]:
        rx, ry = (0.8 / 0.9) ** 2.0, (s[0] / 0.6) ** 3.0
        f, g = on(0.8, 0.9, 2.0, sign_xz), on(s[0], 0.6, 3.0, sign_yz)
        heads = (rx if sign_xz > 0 else 1) + (ry if sign_yz > 0 else 1)
        joined = {"AND": f * g, "SUM": f + g, "OR": heads / (1 + rx + ry)}[gate]
        return [0.05 + 2 * on(0.8, 0.4, 1.5, sign_xy) - 0.7 * s[0], 0.05 + 3 * joined - 1.3 * s[1]]

    times = np.linspace(0, 6, 7)
    exact = solve_ivp(rate, (0, 6), [0, 0], method="DOP853", rtol=1e-11, atol=1e-13, t_eval=times).y.T
    found = simulate(circuit.system(), 6.0, circuit.starts, times=times, rtol=1e-9, atol=1e-12, progress=False)
    np.testing.assert_allclose(found.states[0], exact, rtol=1e-6, atol=1e-9)


def test_the_repressilator_oscillates_and_its_mrna_too() -> None:
    ring = Circuit.repressilator(beta=20.0, n=3.0)
    found = simulate(ring.system(), 100.0, ring.starts, times=np.linspace(60, 100, 801), progress=False)
    assert np.ptp(found.state("A")[0]) > 5
    assert not rest(ring.system(), ring.starts, 40.0, progress=False).found[0]
    both = Circuit.repressilator(alpha=0.2, beta=216.0, basal=0.2, K=40.0, transcript=Transcript(1.0, 5.0))
    assert list(both.starts) == ["mA", "A", "mB", "B", "mC", "C"]
    found = simulate(both.system(), 400.0, both.starts, times=np.linspace(200, 400, 801), progress=False)
    assert np.ptp(found.state("B")[0]) > 100


def test_a_toggle_has_two_states_and_autoregulation_its_closed_form() -> None:
    toggle = Circuit.toggle(beta=4.0, n=2.0)
    found = rest(toggle.system(), {"A": [3.0, 0.1], "B": [0.1, 3.0]}, 60.0, progress=False)
    # a = 4/(1 + b²), b = 4/(1 + a²) away from the diagonal: a·b = 1, a + b = 4.
    high, low = 2 + math.sqrt(3), 2 - math.sqrt(3)
    np.testing.assert_allclose(found.states, [[high, low], [low, high]], rtol=1e-9)
    assert found.stable.all()
    middle = rest(toggle.system(), {"A": 1.0, "B": 1.0}, 5.0, progress=False)
    assert middle.states[0, 0] == pytest.approx(middle.states[0, 1]) and not middle.stable[0]
    negative = Circuit.autoregulation(-1, beta=2.0, n=1.0)  # x(1 + x) = 2
    assert rest(negative.system(), {"X": 0.0}, 60.0, progress=False).states[0, 0] == pytest.approx(1.0, rel=1e-10)


def test_cascades_and_graphs() -> None:
    cascade = Circuit.cascade([1, -1, 1], X=3.0)
    assert cascade.edges == (("X", "Y1", 1), ("Y1", "Y2", -1), ("Y2", "Y3", 1))
    graph = Circuit.graph(
        [("X", "Y", 1), ("X", "Z", 1), ("Y", "Z", -1)], inputs={"X": 1.0}, K={"X_Y": 0.1, "X_Z": 0.1, "Y_Z": 0.5}
    )
    loop = Circuit.ffl("I1", K={"XY": 0.1, "XZ": 0.1, "YZ": 0.5})
    assert graph.edges == loop.edges and graph.parameters == loop.parameters
    assert graph.system().rates == loop.system().rates
    assert pickle.loads(pickle.dumps(loop)).system().rates == loop.system().rates
    assert loop.with_parameters(K_Y_Z=0.7, X=2.0, beta_Y=3.0).parameters == {
        **loop.parameters, "K_Y_Z": 0.7, "X": 2.0, "beta_Y": 3.0
    }  # fmt: skip


@settings(max_examples=25)
@given(st.floats(0.05, 5), st.floats(0.3, 4), st.floats(0.2, 6))
def test_levels_stay_between_zero_and_the_most_that_is_made(x: float, n: float, beta: float) -> None:
    circuit = Circuit.ffl("I1", X=x, n=n, beta=beta)
    found = simulate(circuit.system(), 30.0, circuit.starts, progress=False)
    assert Status(found.status[0]).ok
    assert (found.lows[0] >= -1e-9).all() and (found.highs[0] <= beta * (1 + 1e-6)).all()


# Units ---------------------------------------------------------------------------------------------------------------


def test_units_are_carried_and_converted() -> None:
    units = Units("nM", "min")
    circuit = Circuit.ffl("C1", alpha="1.2 1/h", beta="0.06 µM/h", K="0.04 µM", X="100 nM", units=units)
    assert circuit.parameters["alpha_Y"] == pytest.approx(0.02) and circuit.parameters["beta_Z"] == pytest.approx(1.0)
    assert circuit.parameters["K_X_Y"] == pytest.approx(40.0) and circuit.parameters["X"] == 100.0
    told = circuit.system().units
    assert (told["Z"], told["t"], told["beta_Z"], told["alpha_Z"]) == ("nM", "min", "nM/min", "1/min")
    assert told["K_X_Y"] == "nM" and told["n_X_Y"] == "1"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alpha": "3 nM"}, "alpha_Y = '3 nM' is a concentration, but a time\\^-1 is meant, in 1/min"),
        ({"K": "4 min"}, "is a time, but a concentration is meant"),
        ({"beta": "4 nM"}, "concentration·time\\^-1 is meant, in nM/min"),
        ({"K": "4 furlongs"}, "'furlongs' is no unit"),
        ({"K": "much"}, "does not begin with a number"),
        ({"K": 0}, "K_X_Y must be finite and above 0, got 0.0"),
        ({"K": -1.0}, "above 0"),
        ({"n": -2.0}, "a gene that x switches off is a repressor"),
        ({"n": math.nan}, "n_X_Y must be finite"),
        ({"X": -1.0}, "X must be finite and not negative, got -1.0"),
        ({"beta": -1.0}, "beta_Y must be finite and not negative"),
        ({"alpha": 0.0}, "alpha_Y must be finite and above 0"),
        ({"K": {"XY": 1.0}}, "K must be given for XY, XZ, YZ; 'XZ' is missing"),
        ({"gate": "NAND"}, "gate 'NAND'; there are AND, OR, SUM"),
    ],
)
def test_impossible_circuits_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Circuit.ffl("I1", **{"units": Units("nM", "min"), **options})


def test_more_refusals() -> None:
    with pytest.raises(ValueError, match="at least one gene"):
        Circuit({})
    with pytest.raises(ValueError, match="no feed-forward loop 'I5'"):
        Circuit.ffl("I5")
    with pytest.raises(ValueError, match="'Q' regulates X, but is neither a gene"):
        Circuit({"X": Gene((Regulation("Q", 1),))})
    with pytest.raises(ValueError, match="acts on X twice"):
        Circuit({"X": Gene((Regulation("X", 1), Regulation("X", -1)))})
    with pytest.raises(ValueError, match=r"X starts at -1\.0"):
        Circuit({"X": Gene(start=-1.0)})
    with pytest.raises(ValueError, match="cannot name a gene"):
        Circuit({"my gene": Gene()})
    with pytest.raises(ValueError, match="at least one edge"):
        Circuit.graph([])
    with pytest.raises(ValueError, match="both a gene and an input"):
        Circuit({"X": Gene()}, {"X": 1.0})
    with pytest.raises(ValueError, match="no unit of time"):
        Units("nM", "fortnight")
    with pytest.raises(ValueError, match="no parameter 'K_Q'"):
        Circuit.ffl("I1").with_parameters(K_Q=1.0)
    with pytest.raises(ValueError, match="molecules must be"):
        Circuit.ffl("I1").network(0.0)
    with pytest.raises(TypeError, match="a number or a text"):
        Circuit.ffl("I1", K=[1.0])


# Molecules -----------------------------------------------------------------------------------------------------------

NOISY = Circuit.ffl(
    "I1", beta={"Y": 100.0, "Z": 400.0}, K={"XY": 50.0, "XZ": 50.0, "YZ": 20.0}, X=100.0, units=Units("molecules")
)


def test_noise_in_closed_form() -> None:
    """Y is Poisson with mean 80; Z is linear given Y: E[Z] = 320 E[400/(400 + Y²)], not what the equations say."""
    import scipy.stats

    y = np.arange(400)
    exact = float((320 * 400 / (400 + y**2) * scipy.stats.poisson(80).pmf(y)).sum())
    assert exact == pytest.approx(19.457624, abs=5e-7)
    mean_field = rest(NOISY.system(), NOISY.starts, 40.0, progress=False)
    assert mean_field.state("Z")[0] == pytest.approx(18.823529, abs=5e-7)
    found = simulate_counts(NOISY.network(), 415.0, [0, 0], samples=64, settled=15.0, seed=5, progress=False)
    error = found.means.std(0, ddof=1) / 8
    assert abs(found.means[:, 1].mean() - exact) < 5 * error[1] and error[1] < 0.08
    assert abs(found.means[:, 1].mean() - mean_field.state("Z")[0]) > 6 * error[1]
    assert abs(found.means[:, 0].mean() - 80) < 5 * error[0]
    assert found.fano()[0] == pytest.approx(1.0, abs=0.02) and 1.40 < found.fano()[1] < 1.53


def test_poisson_at_every_time() -> None:
    import scipy.stats

    found = simulate_counts(NOISY.network(), 2.0, [0, 0], samples=4000, times=[0.3, 1.9], seed=6, progress=False)
    for place, time in enumerate((0.3, 1.9)):
        mean = 80 * (1 - math.exp(-time))
        edges = np.concatenate([[-1], np.arange(int(mean) - 6, int(mean) + 8, 2), [1000]])
        expected = np.diff(scipy.stats.poisson(mean).cdf(edges))
        observed = np.histogram(found.species("Y")[:, place], edges + 0.5)[0]
        assert scipy.stats.chisquare(observed, expected * 4000).pvalue > 1e-4


def test_many_molecules_come_to_the_equations() -> None:
    circuit = Circuit.ffl("I1", K={"XY": 0.1, "XZ": 0.1, "YZ": 0.5})
    network = circuit.network(molecules=20000.0)
    exact = simulate(circuit.system(), 1.0, circuit.starts, progress=False).ends[0]
    found = simulate_counts(network, 1.0, [0, 0], samples=8, progress=False).ends.mean(0) / 20000
    np.testing.assert_allclose(found, exact, rtol=0.01)
    counted = network.rates()([float(v) * 20000 for v in exact])
    np.testing.assert_allclose(counted, 20000 * np.array(circuit.system()(exact.tolist())), rtol=1e-9)


def test_mrna_counts() -> None:
    """Always on, with mRNA: Fano of the protein is 1 + b/(1 + η), b = translation/alpha_m, η = alpha/alpha_m."""
    gene = Gene(beta=10.0, alpha=1.0, transcript=Transcript(alpha=5.0, translation=20.0))
    network = Circuit({"P": gene}, units=Units("molecules")).network()
    found = simulate_counts(network, 1010.0, [2, 40], samples=32, settled=10.0, seed=3, progress=False)
    assert found.means[:, 1].mean() == pytest.approx(40.0, rel=0.02)
    assert found.fano()[1] == pytest.approx(1 + 4 / 1.2, rel=0.05)
