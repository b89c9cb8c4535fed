"""Exact stochastic simulation against closed forms."""

import math

import numpy as np
import pytest
import scipy.stats

from varphi.dynamics.ensemble import simulate
from varphi.dynamics.status import Status
from varphi.dynamics.stochastic import Counts, Network, Reaction, simulate_counts

BIRTH_DEATH = Network.of([Reaction("b", {"x": 1}), Reaction("d*x", {"x": -1})], ["x"], {"b": 80.0, "d": 1.0})
DIMER = Network.of(
    [Reaction("k*m*(m-1)/2", {"m": -2, "d": 1}), Reaction("u*d", {"m": 2, "d": -1})], ["m", "d"], {"k": 0.02, "u": 0.5}
)


def run(network: Network, end: float, start: object, **options: object) -> Counts:
    return simulate_counts(network, end, start, progress=False, **options)


def test_birth_and_death_is_poisson() -> None:
    found = run(BIRTH_DEATH, 30.0, [0], samples=3000, times=[30.0 - 1e-9], seed=1)
    counts = found.species("x")[:, 0]
    edges = np.arange(60, 101, 5)
    expected = np.diff(scipy.stats.poisson(80).cdf(np.concatenate([[-1], edges, [1000]])))
    observed = np.histogram(counts, np.concatenate([[-1], edges, [1000]]) + 0.5)[0]
    assert scipy.stats.chisquare(observed, expected * len(counts)).pvalue > 1e-4
    assert (found.status == Status.DONE).all()


def test_moments_over_time() -> None:
    found = run(BIRTH_DEATH, 2000.0, [80], samples=16, settled=20.0, seed=2)
    # The mean over time has the variance 2·80·1/1980 a sample.
    assert found.means.mean() == pytest.approx(80, abs=5 * math.sqrt(160 / 1980 / 16))
    assert found.fano()[0] == pytest.approx(1.0, abs=0.03)
    assert found.events.sum() == pytest.approx(16 * 2000 * 160, rel=0.01)


def test_the_first_event_is_exponential() -> None:
    once = Network.of([Reaction("k*a", {"a": -1})], ["a"], {"k": 0.7})
    found = run(once, 100.0, [1], samples=4000, times=[1.0], seed=3)
    assert (found.events == 1).all() and (found.ends == 0).all()
    survived = found.species("a")[:, 0].mean()
    assert survived == pytest.approx(math.exp(-0.7), abs=5 * math.sqrt(0.25 / 4000))


def test_dimers_at_equilibrium() -> None:
    """The stationary distribution is known: p(m, d) ∝ c^m/m! · e^d/d! on 2d + m = N, with e/c² = k/(2u)."""
    total = 20
    weights = [
        math.exp(d * math.log(0.02 / (2 * 0.5)) - math.lgamma(total - 2 * d + 1) - math.lgamma(d + 1))
        for d in range(total // 2 + 1)
    ]
    expected = sum(d * w for d, w in enumerate(weights)) / sum(weights)
    found = run(DIMER, 4000.0, {"m": total, "d": 0}, samples=16, settled=50.0, seed=4)
    assert found.means[:, 1].mean() == pytest.approx(expected, rel=0.02)
    np.testing.assert_allclose(found.means @ [1, 2], total, rtol=1e-9)


def test_parameters_and_starts_of_each_sample() -> None:
    b = np.array([10.0, 200.0] * 8)
    found = run(BIRTH_DEATH, 200.0, {"x": b}, samples=16, parameters={"b": b}, settled=10.0)
    np.testing.assert_allclose(found.means[:, 0], b, rtol=0.15)


def test_a_sample_depends_on_its_number_and_the_seed_alone() -> None:
    options = {"samples": 100, "times": np.linspace(0, 20, 21)}
    one, two = (run(BIRTH_DEATH, 20.0, [5], threads=n, **options) for n in (1, 2))
    np.testing.assert_array_equal(one.counts, two.counts)
    few = run(BIRTH_DEATH, 20.0, [5], **(options | {"samples": 7}))
    np.testing.assert_array_equal(one.counts[:7], few.counts)
    other = run(BIRTH_DEATH, 20.0, [5], seed=1, **options)
    assert (one.counts[:, 1:] != other.counts[:, 1:]).mean() > 0.8
    assert len(np.unique(one.events)) > 50


def test_nothing_happens_where_nothing_can() -> None:
    found = run(BIRTH_DEATH, 5.0, [0], parameters={"b": 0.0}, times=[1.0, 4.0])
    assert (found.counts == 0).all() and found.events[0] == 0 and found.ok.all()


def test_each_reaction_happens_as_often_as_its_propensity_says() -> None:
    """Many reactions, some of them impossible, two species changed at once: counts of each are Poisson."""
    weights = {"a": 3.0, "b": 0.0, "c": 0.5, "d": 7.0, "e": 0.0, "f": 1.5}
    names = list(weights)
    changes = [{n: 1, **({"all": 1} if n in "cdf" else {})} for n in names]
    network = Network.of(
        [Reaction(f"k*{w}", c) for w, c in zip(weights.values(), changes, strict=True)], [*names, "all"], {"k": 2.0}
    )
    found = run(network, 10.0, [0] * 7, samples=2000, seed=5)
    expected = 20.0 * np.array(list(weights.values()))
    np.testing.assert_allclose(found.ends[:, :6].mean(0), expected, atol=5 * np.sqrt(140 / 2000))
    assert (found.ends[:, [1, 4]] == 0).all()
    assert (found.ends[:, 6] == found.ends[:, [2, 3, 5]].sum(1)).all()
    assert (found.events == found.ends[:, :6].sum(1)).all()
    some = expected > 0
    np.testing.assert_allclose(found.ends[:, :6].var(0)[some], expected[some], rtol=5 * np.sqrt(2 / 2000))


def test_outputs_reach_to_the_end_and_not_beyond() -> None:
    column = np.array([[0.0, 9.0], [0.0, 9.0], [2.0, 9.0], [2.5, 9.0]])[:, 0]  # its numbers do not lie side by side
    found = run(BIRTH_DEATH, 2.0, [50], samples=9, times=column)
    assert (found.counts[:, :2] == 50).all()
    assert (found.counts[:, 2] == found.ends).all()
    assert np.isnan(found.counts[:, 3]).all()


def test_laws_that_are_no_propensities() -> None:
    falling = Network.of([Reaction("3 - x", {"x": 1}), Reaction("1", {"x": 1})], ["x"])
    found = run(falling, 100.0, [0], samples=9)
    assert (found.status == Status.NEGATIVE).all() and not found.ok.any()
    assert "negative propensity" in Status(found.status[0]).told
    wild = Network.of([Reaction("1/(2 - x)", {"x": 1})], ["x"])
    assert Status(run(wild, 100.0, [0]).status[0]) in (Status.NOT_FINITE, Status.NEGATIVE)
    crowded = run(BIRTH_DEATH, 1e6, [80], most_events=1000)
    assert Status(crowded.status[0]) is Status.TOO_MANY_EVENTS and crowded.events[0] == 1000


def test_the_mean_field_of_a_network() -> None:
    system = DIMER.rates()
    found = simulate(system, 2.0, {"m": 20.0, "d": 0.0}, progress=False)
    assert found.ends[0] @ [1, 2] == pytest.approx(20.0)
    assert system([10.0, 3.0]) == pytest.approx([-2 * 0.02 * 45 + 2 * 1.5, 0.02 * 45 - 1.5])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"end": -1.0}, "above 0"),
        ({"start": [1.5]}, "whole numbers"),
        ({"start": [-1]}, "not negative"),
        ({"start": {"y": 1}}, "start must give x"),
        ({"samples": 0}, "above 0"),
        ({"samples": 3, "parameters": {"b": [1.0, 2.0]}}, "each of the 3 samples"),
        ({"settled": 5.0}, "settled before it"),
        ({"times": [2.0, 1.0]}, "increasing"),
        ({"seed": -1}, "seed must be"),
        ({"parameters": {"b": math.nan}}, "finite"),
    ],
)
def test_unusable_arguments(options: dict, message: str) -> None:
    arguments = {"end": 1.0, "start": [1]} | options
    with pytest.raises(ValueError, match=message):
        run(BIRTH_DEATH, arguments.pop("end"), arguments.pop("start"), **arguments)


def test_a_propensity_that_changes_between_events_is_refused() -> None:
    network = Network.of([Reaction("1 + t", {"x": 1})], ["x"])
    with pytest.raises(ValueError, match=r"reaction 1, 1 \+ t, depends on t"):
        run(network, 1.0, [0])


def test_unusable_networks() -> None:
    with pytest.raises(ValueError, match="at least one reaction"):
        Network.of([], ["x"])
    with pytest.raises(ValueError, match="reaction 1 changes 'y'"):
        Network.of([Reaction("1", {"y": 1})], ["x"])
    with pytest.raises(ValueError, match="whole numbers"):
        Network.of([Reaction("1", {"x": 0.5})], ["x"])
