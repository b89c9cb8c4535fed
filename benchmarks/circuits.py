"""Gene circuits: ensembles of differential equations and exact stochastic simulation, against libroadrunner.

    python benchmarks/circuits.py [--rounds N] [--sets N] [--runs N]

One process, one thread, CPU time, interleaved, after a warm-up: each round runs every method once. Printed are medians,
ratios of medians with the quartiles over rounds, and the agreement. The ensemble is an incoherent feed-forward loop
read from Antimony text, ten random parameters, 101 output times; errors are the 99.9 % quantile over sets of max
|y - exact| over max |exact|, exact being varphi at rtol 1e-12. The stochastic loop has a mean in closed form.
libroadrunner
is an oracle of the tests and the peer here (pip install libroadrunner==2.10.0). numbalsoda and GillesPy2, the other
peers of the goals, are not measured: they were not installed where this was written.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import numpy as np

from varphi.dynamics.ensemble import simulate
from varphi.dynamics.stochastic import simulate_counts
from varphi.systems.circuits import Range, sampled
from varphi.systems.circuits.antimony import from_antimony

LOOP = """
model loop
  species X, Y, Z; X = 0; Y = 0; Z = 0;
  J1: => X; bx;  J2: X => ; ax*X;
  J3: => Y; by*X^n/(Kxy^n + X^n);  J4: Y => ; ay*Y;
  J5: => Z; bz*X^n/(Kxz^n + X^n)*Kyz^n/(Kyz^n + Y^n);  J6: Z => ; az*Z;
  bx = 1; ax = 1; by = 1; ay = 1; bz = 1; az = 1; Kxy = 0.5; Kxz = 0.5; Kyz = 0.5; n = 2;
end
"""
COUNTED = """
model counted
  unit substance = item; compartment c = 1; substanceOnly species $X in c, Y in c, Z in c; X = 100; Y = 0; Z = 0;
  J1: => Y; by*X^n/(Kxy^n + X^n);  J2: Y => ; ay*Y;
  J3: => Z; bz*X^n/(Kxz^n + X^n)*Kyz^n/(Kyz^n + Y^n);  J4: Z => ; az*Z;
  by = 100; ay = 1; bz = 400; az = 1; Kxy = 50; Kxz = 50; Kyz = 20; n = 2;
end
"""
TIMES = np.linspace(0, 20, 101)
EXACT_MEAN = 19.457624
RANGES = {
    **{k: Range(0.2, 5.0) for k in ("bx", "ax", "by", "ay", "bz", "az")},
    **{k: Range(0.1, 2.0) for k in ("Kxy", "Kxz", "Kyz")},
    "n": Range(1.0, 4.0, "linear"),
}


def sbml(text: str) -> str:
    import antimony

    antimony.clearPreviousLoads()
    assert antimony.loadAntimonyString(text) >= 0, antimony.getLastError()
    return antimony.getSBMLString(antimony.getMainModuleName())


def ensembles(sets: int) -> tuple[dict[str, tuple[Callable[[], np.ndarray], int]], np.ndarray]:
    """Methods with how many sets each runs, and the exact courses."""
    model = from_antimony(LOOP)
    values = sampled(RANGES, sets, seed=0)

    def ours(rtol: float, atol: float) -> np.ndarray:
        found = simulate(
            model.equations, 20.0, dict(model.start), parameters=values, times=TIMES, rtol=rtol, atol=atol, threads=1,
            progress=False,
        )  # fmt: skip
        assert found.ok.all(), found.failures()
        return found.states

    methods: dict[str, tuple[Callable[[], np.ndarray], int]] = {"varphi": (lambda: ours(6e-6, 1e-9), sets)}
    if importlib.util.find_spec("roadrunner"):
        import roadrunner

        runner = roadrunner.RoadRunner(sbml(LOOP))
        runner.integrator.relative_tolerance, runner.integrator.absolute_tolerance = 1e-6, 1e-9
        runner.timeCourseSelections = [f"[{s}]" for s in model.equations.states]
        some = min(sets, 300)

        def theirs() -> np.ndarray:
            out = np.empty((some, len(TIMES), 3))
            for i in range(some):
                runner.reset()
                for name, column in values.items():
                    runner.setValue(name, float(column[i]))
                out[i] = runner.simulate(0, 20, len(TIMES))
            return out

        methods["roadrunner"] = theirs, some
    return methods, ours(1e-12, 1e-15)


def stochastic(runs: int) -> dict[str, tuple[Callable[[], np.ndarray], int]]:
    """Methods that give counts of Z at TIMES (runs, times)."""
    network = from_antimony(COUNTED).network()
    place = network.species.index("Z")
    seeds = iter(range(1, 10**6))

    def ours() -> np.ndarray:
        found = simulate_counts(
            network, 20.0 + 1e-9, [0, 0], samples=runs, times=TIMES, seed=next(seeds), threads=1, progress=False
        )
        return found.counts[:, :, place]

    methods: dict[str, tuple[Callable[[], np.ndarray], int]] = {"varphi": (ours, runs)}
    if importlib.util.find_spec("roadrunner"):
        import roadrunner

        runner = roadrunner.RoadRunner(sbml(COUNTED))
        runner.setIntegrator("gillespie")
        runner.integrator.variable_step_size = False
        runner.timeCourseSelections = ["Z"]
        some = min(runs, 100)

        def theirs() -> np.ndarray:
            runner.integrator.seed = next(seeds)
            out = np.empty((some, len(TIMES)))
            for i in range(some):
                runner.reset()
                out[i] = np.asarray(runner.simulate(0, 20, len(TIMES)))[:, 0]
            return out

        methods["roadrunner"] = theirs, some
    return methods


def measured(
    methods: dict[str, tuple[Callable[[], np.ndarray], int]], rounds: int, told: Callable[[np.ndarray], str]
) -> None:
    spent: dict[str, list[float]] = {name: [] for name in methods}
    last: dict[str, np.ndarray] = {name: run() for name, (run, _) in methods.items()}
    for _ in range(rounds):
        for name, (run, count) in methods.items():
            begin = time.process_time()
            last[name] = run()
            spent[name].append((time.process_time() - begin) / count)
    base = statistics.median(spent["varphi"])
    for name, each in spent.items():
        ratios = np.array(each) / np.array(spent["varphi"])
        low, high = np.quantile(ratios, [0.25, 0.75])
        print(
            f"  {name:<11} {1e6 * statistics.median(each):9.1f} µs each, "
            f"{statistics.median(each) / base:6.1f} × varphi [{low:.1f}, {high:.1f}]   {told(last[name])}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sets", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    if importlib.util.find_spec("roadrunner") is None:
        print("libroadrunner is not installed: nothing to compare with")
    print("numbalsoda and GillesPy2 are not measured")

    methods, exact = ensembles(given.sets)
    size = np.abs(exact).max((1, 2))

    def error(states: np.ndarray) -> str:
        n = len(states)
        return f"error {np.quantile(np.abs(states - exact[:n]).max((1, 2)) / size[:n], 0.999):.1e}"

    print(f"\nOrdinary differential equations, {given.sets} sets (goal: 30 × roadrunner, error at most 5e-5)")
    measured(methods, given.rounds, error)

    def mean(counts: np.ndarray) -> str:
        settled = counts[:, 75:].mean(1)
        return f"E[Z] = {settled.mean():.3f} ± {settled.std(ddof=1) / np.sqrt(len(settled)):.3f} (exact {EXACT_MEAN})"

    print(f"\nExact stochastic simulation, {given.runs} runs (goal: 30 × roadrunner)")
    measured(stochastic(given.runs), given.rounds, mean)


if __name__ == "__main__":
    main()
