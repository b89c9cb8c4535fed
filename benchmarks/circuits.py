"""Gene circuits beside their peers: ensembles, stiff ensembles, exact stochastic simulation, and the first use.

    python benchmarks/circuits.py [--rounds N] [--sets N] [--runs N] [--only ensemble|wide|stochastic|cold]

One process, one thread, CPU time (with that of child processes), interleaved, after a warm-up: each round runs every
method once. Printed are medians, ratios of medians with the quartiles over rounds, and the agreement.

Ensembles: an incoherent feed-forward loop read from Antimony text, ten random parameters, 101 output times. "wide"
draws the six rates from 1e-2 to 1e2, so that many sets are stiff. A set's error is the worst species' max |y - exact|
over max |exact|, exact being varphi at rtol 1e-12; printed is its 99.9 % quantile. Every solver has tolerances that
were loosened until this error came to 5e-5; they are printed.
The stochastic loop has a mean in closed form.

Peers, each optional: libroadrunner (pip install libroadrunner==2.10.0), numbalsoda 0.3.4 (needs a Fortran compiler),
GillesPy2 1.8.3 (its C++ solver needs a compiler, and SCons where its interpreter finds it).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
RATES = ("bx", "ax", "by", "ay", "bz", "az")
OTHERS = {**{k: Range(0.1, 2.0) for k in ("Kxy", "Kxz", "Kyz")}, "n": Range(1.0, 4.0, "linear")}
RANGES = {**{k: Range(0.2, 5.0) for k in RATES}, **OTHERS}
WIDE = {**{k: Range(1e-2, 1e2) for k in RATES}, **OTHERS}
# rtol and atol of each solver.
Tolerances = dict[str, tuple[float, float]]
TUNED: Tolerances = {"varphi": (4e-6, 1e-12), "numbalsoda": (1e-5, 1e-10), "roadrunner": (2e-6, 1e-10)}
TUNED_WIDE: Tolerances = {"varphi": (3e-6, 1e-20), "numbalsoda": (8e-6, 1e-20), "roadrunner": (1e-6, 1e-20)}


class Method(NamedTuple):
    """What is timed: a call, for how many sets or runs, and what was set."""

    run: Callable[[], np.ndarray]
    count: int
    told: str = ""


def available(name: str) -> bool:
    found = importlib.util.find_spec(name) is not None
    if not found:
        print(f"  {name} is not installed: not measured")
    return found


def sbml(text: str) -> str:
    import antimony

    antimony.clearPreviousLoads()
    assert antimony.loadAntimonyString(text) >= 0, antimony.getLastError()
    return antimony.getSBMLString(antimony.getMainModuleName())


def by_numbalsoda(values: dict[str, np.ndarray], rtol: float, atol: float) -> Callable[[], np.ndarray]:
    """LSODA called from compiled code, one set after the other; the right-hand side by hand, a power for each Hill."""
    from numba import cfunc, njit
    from numbalsoda import lsoda, lsoda_sig

    @cfunc(lsoda_sig)
    def rate(t: Any, y: Any, dy: Any, p: Any) -> None:
        n = p[9]
        x, stop = max(y[0], 0.0) ** n, p[8] ** n
        dy[0] = p[0] - p[1] * y[0]
        dy[1] = p[2] * x / (p[6] ** n + x) - p[3] * y[1]
        dy[2] = p[4] * x / (p[7] ** n + x) * stop / (stop + max(y[1], 0.0) ** n) - p[5] * y[2]

    address, start = rate.address, np.zeros(3)

    @njit
    def run(sets: np.ndarray, times: np.ndarray, rtol: float, atol: float) -> tuple[np.ndarray, int]:
        out, good = np.empty((len(sets), len(times), 3)), 0
        for i in range(len(sets)):
            out[i], ok = lsoda(address, start, times, sets[i], rtol, atol, 100_000)
            good += ok
        return out, good

    sets = np.stack([values[k] for k in (*RATES, "Kxy", "Kxz", "Kyz", "n")], 1)

    def all_sets() -> np.ndarray:
        out, good = run(sets, TIMES, rtol, atol)
        if good < len(sets):
            print(f"  numbalsoda failed in {len(sets) - good} sets")
        return out

    return all_sets


def by_roadrunner(
    values: dict[str, np.ndarray], states: tuple[str, ...], some: int, rtol: float, atol: float
) -> Callable[[], np.ndarray]:
    import roadrunner

    runner = roadrunner.RoadRunner(sbml(LOOP))
    runner.integrator.relative_tolerance, runner.integrator.absolute_tolerance = rtol, atol
    runner.integrator.maximum_num_steps = 200_000
    runner.timeCourseSelections = [f"[{s}]" for s in states]

    def run() -> np.ndarray:
        out = np.empty((some, len(TIMES), len(states)))
        for i in range(some):
            runner.reset()
            for name, column in values.items():
                runner.setValue(name, float(column[i]))
            out[i] = runner.simulate(0, 20, len(TIMES))
        return out

    return run


def ensembles(
    ranges: dict[str, Range], tuned: Tolerances, sets: int
) -> tuple[dict[str, Method], Callable[[np.ndarray], str]]:
    """Methods, and what is said of their results."""
    model = from_antimony(LOOP)
    values = sampled(ranges, sets, seed=0)

    def ours(rtol: float, atol: float) -> np.ndarray:
        found = simulate(
            model.equations, 20.0, dict(model.start), parameters=values, times=TIMES, rtol=rtol, atol=atol, threads=1,
            progress=False,
        )  # fmt: skip
        if not found.ok.all():
            print(f"  varphi failed: {found.failures()}")
        return found.states

    some = min(sets, 1000)
    makers: dict[str, tuple[Callable[[float, float], Callable[[], np.ndarray]], int]] = {
        "varphi": (lambda rtol, atol: lambda: ours(rtol, atol), sets),
        "numbalsoda": (lambda rtol, atol: by_numbalsoda(values, rtol, atol), sets),
        "roadrunner": (lambda rtol, atol: by_roadrunner(values, model.equations.states, some, rtol, atol), some),
    }
    methods = {
        name: Method(make(*tuned[name]), count, f"rtol {tuned[name][0]:g} atol {tuned[name][1]:g}")
        for name, (make, count) in makers.items()
        if name == "varphi" or available(name)
    }
    exact = ours(1e-12, 1e-24)
    size = np.abs(exact).max(1)

    def told(states: np.ndarray) -> str:
        n = len(states)
        errors = (np.abs(states - exact[:n]).max(1) / size[:n]).max(1)
        return f"error {np.quantile(errors, 0.999):.1e} ({n} sets)"

    return methods, told


def stochastic(runs: int) -> dict[str, Method]:
    """Methods that give counts of Z at TIMES (runs, times)."""
    network = from_antimony(COUNTED).network()
    place = network.species.index("Z")
    seeds = iter(range(1, 10**6))

    def ours() -> np.ndarray:
        found = simulate_counts(
            network, 20.0, [0, 0], samples=runs, times=TIMES, seed=next(seeds), threads=1, progress=False
        )
        return found.counts[:, :, place]

    methods = {"varphi": Method(ours, runs)}
    if available("roadrunner"):
        methods["roadrunner"] = Method(_gillespie_by_roadrunner(seeds, min(runs, 200)), min(runs, 200))
    if available("gillespy2"):
        begin = time.perf_counter()
        methods["gillespy2"] = Method(_gillespie_by_gillespy(seeds, runs), runs)
        print(f"  GillesPy2 built its solver in {time.perf_counter() - begin:.1f} s")
    return methods


def _gillespie_by_roadrunner(seeds: Iterator[int], some: int) -> Callable[[], np.ndarray]:
    import roadrunner

    runner = roadrunner.RoadRunner(sbml(COUNTED))
    runner.setIntegrator("gillespie")
    runner.integrator.variable_step_size = False
    runner.timeCourseSelections = ["Z"]

    def run() -> np.ndarray:
        runner.integrator.seed = next(seeds)
        out = np.empty((some, len(TIMES)))
        for i in range(some):
            runner.reset()
            out[i] = np.asarray(runner.simulate(0, 20, len(TIMES)))[:, 0]
        return out

    return run


def _gillespie_by_gillespy(seeds: Iterator[int], runs: int) -> Callable[[], np.ndarray]:
    import gillespy2 as g

    model = g.Model(name="counted")
    values = {"by": 100, "ay": 1, "bz": 400, "az": 1, "Kxy": 50, "Kxz": 50, "Kyz": 20, "n": 2, "X": 100}
    model.add_parameter([g.Parameter(name=k, expression=str(v)) for k, v in values.items()])
    model.add_species([g.Species(name=s, initial_value=0, mode="discrete") for s in ("Y", "Z")])
    up = "pow(X,n)/(pow({0},n)+pow(X,n))"
    laws = [
        ({}, {"Y": 1}, "by*" + up.format("Kxy")),
        ({"Y": 1}, {}, "ay*Y"),
        ({}, {"Z": 1}, "bz*" + up.format("Kxz") + "*pow(Kyz,n)/(pow(Kyz,n)+pow(Y,n))"),
        ({"Z": 1}, {}, "az*Z"),
    ]
    for i, (reactants, products, law) in enumerate(laws):
        model.add_reaction(g.Reaction(name=f"J{i}", reactants=reactants, products=products, propensity_function=law))
    model.timespan(g.TimeSpan(TIMES))
    solver = g.SSACSolver(model=model)

    def run() -> np.ndarray:
        found = model.run(solver=solver, number_of_trajectories=runs, seed=next(seeds))
        return np.array([each["Z"] for each in found])

    return run


def spent() -> float:
    """CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measured(methods: dict[str, Method], rounds: int, told: Callable[[np.ndarray], str]) -> None:
    times: dict[str, list[float]] = {name: [] for name in methods}
    last: dict[str, np.ndarray] = {name: method.run() for name, method in methods.items()}
    for _ in range(rounds):
        for name, method in methods.items():
            begin = spent()
            last[name] = method.run()
            times[name].append((spent() - begin) / method.count)
    base = statistics.median(times["varphi"])
    for name, each in times.items():
        low, high = np.quantile(np.array(each) / np.array(times["varphi"]), [0.25, 0.75])
        middle = statistics.median(each)
        print(
            f"  {name:<11} {1e6 * middle:9.1f} µs each, {middle / base:6.1f} × varphi "
            f"[{low:.1f}, {high:.1f}]   {told(last[name])}   {methods[name].told}"
        )


COLD = {
    "exact stochastic simulation (goal: 2 s)": """
        network = Network.of([Reaction("b", {"y": 1}), Reaction("d*y", {"y": -1})], ["y"], {"b": 80.0, "d": 1.0})
        simulate_counts(network, 20.0, [80], samples=64, threads=1, progress=False)""",
    "an ensemble of differential equations": """
        simulate(System.of({"y": "-a*y"}, {"a": 1.0}), 2.0, [1.0], threads=1, progress=False)""",
    "the same with an event": """
        system = System.of({"y": "-a*y"}, {"a": 1.0})
        simulate(system, 2.0, [1.0], events=[Event("y - 0.5")], threads=1, progress=False)""",
    "a branch of periodic orbits": """
        system = System.of({"x": "m*x - y - x*(x^2 + y^2)", "y": "x + m*y - y*(x^2 + y^2)"}, {"m": 0.0})
        start, towards = orbit_at_hopf(system, "m", np.array([0.0, 0.0]), 0.0)
        continue_cycles(system, "m", start, towards=towards, bounds=(-1, 1))""",
}


def cold() -> None:
    """From the interpreter's start to the first result, nothing compiled before; and again, with code at hand."""
    for name, body in COLD.items():
        code = "import numpy as np\nfrom varphi.dynamics import *\n" + "\n".join(x.strip() for x in body.splitlines())
        with tempfile.TemporaryDirectory() as folder:
            kept = {"VARPHI_CACHE_DIR": str(Path(folder) / "v"), "NUMBA_CACHE_DIR": str(Path(folder) / "n")}
            told = []
            for _ in range(2):
                wall, cpu = time.perf_counter(), spent()
                subprocess.run([sys.executable, "-c", code], env={**os.environ, **kept}, check=True)
                told.append(f"{time.perf_counter() - wall:.1f} s ({spent() - cpu:.1f} s CPU)")
        print(f"  {name}: {told[0]}, then {told[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sets", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", choices=("ensemble", "wide", "stochastic", "cold"))
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")

    def mean(counts: np.ndarray) -> str:
        settled = counts[:, 75:].mean(1)
        return f"E[Z] = {settled.mean():.3f} ± {settled.std(ddof=1) / np.sqrt(len(settled)):.3f} (exact {EXACT_MEAN})"

    def wanted(part: str, title: str) -> bool:
        if given.only in (None, part):
            print(f"\n{title}")
            return True
        return False

    if wanted("ensemble", f"Ensemble, {given.sets} sets (goals: 4 × numbalsoda, 30 × roadrunner, error at most 5e-5)"):
        methods, told = ensembles(RANGES, TUNED, given.sets)
        measured(methods, given.rounds, told)
    if wanted("wide", f"Wide, stiff ensemble, {given.sets} sets (goals: no failure, 2 × numbalsoda, 10 × roadrunner)"):
        methods, told = ensembles(WIDE, TUNED_WIDE, given.sets)
        measured(methods, given.rounds, told)
    if wanted("stochastic", f"Exact stochastic simulation, {given.runs} runs (goals: 30 × roadrunner, 5 × GillesPy2)"):
        measured(stochastic(given.runs), given.rounds, mean)
    if wanted("cold", "The first use, from the interpreter's start"):
        cold()


if __name__ == "__main__":
    main()
