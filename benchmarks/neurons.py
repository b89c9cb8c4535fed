"""Neurons: f–I curves beside fixed windows and other solvers, proved special points, periods beside a saddle-node.

    python benchmarks/neurons.py [--rounds N] [--brian2 PYTHON] [--neuron PYTHON]

One process, one thread, interleaved, after a warm-up; CPU seconds, medians over rounds and ratios of medians. Errors
are against tolerances of 1e-11. "window" is what a user simulates today: 2000 ms for each current, the first 500
dropped. "same time" is as many milliseconds as varphi integrates for its answer, counted.

scipy runs two of the currents and is scaled. numbalsoda is measured where it can be imported: build it with cmake and
put its folder on PYTHONPATH where pip cannot. Its loop over the currents and its search for spikes are compiled too.
Brian2 and NEURON run in processes of their own, once, with the interpreters that have them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import tempfile
import time
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from varphi.dynamics.ensemble import Event, simulate
from varphi.systems.neurons import fi_curve, load, special_points
from varphi.systems.neurons.equilibria import special_points as cached
from varphi.systems.neurons.excitability import cycle_branch
from varphi.systems.neurons.library import MODELS, SETS

CURRENTS = np.linspace(10.5, 80, 200)
WINDOW, DROPPED = 2000.0, 500.0
OWN = "varphi, until closed, rtol 1e-06"
LSODA_WINDOW, LSODA_SAME = "numbalsoda LSODA 1e-7, window", "numbalsoda LSODA 1e-7, same time"
START = [-60.0, 0.1, 0.5, 0.3]


def cpu(run: Callable[[], object]) -> tuple[float, object]:
    begin = time.process_time()
    found = run()
    return time.process_time() - begin, found


def medians(runs: dict[str, Callable[[], object]], rounds: int) -> tuple[dict[str, float], dict[str, object]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    found: dict[str, object] = {}
    for name, run in runs.items():
        found[name] = run()
    for _ in range(rounds):
        for name, run in runs.items():
            seconds, found[name] = cpu(run)
            times[name].append(seconds)
    return {name: statistics.median(t) for name, t in times.items()}, found


def hodgkin_huxley(v, m, h, n, current):
    """Written out, for solvers that take a Python function."""
    x, y = (v + 40) / 10, (v + 55) / 10
    am, an = x / -np.expm1(-x), 0.1 * y / -np.expm1(-y)
    return [
        current - 120 * m**3 * h * (v - 50) - 36 * n**4 * (v + 77) - 0.3 * (v + 54.387),
        am * (1 - m) - 4 * np.exp(-(v + 65) / 18) * m,
        0.07 * np.exp(-(v + 65) / 20) * (1 - h) - h / (1 + np.exp(-(v + 35) / 10)),
        an * (1 - n) - 0.125 * np.exp(-(v + 65) / 80) * n,
    ]


def window(rtol: float) -> np.ndarray:
    """Frequencies from a fixed window, with varphi's own solver and exact events."""
    found = simulate(
        load("hodgkin-huxley").system(), WINDOW, START, parameters={"I": CURRENTS}, rtol=rtol, atol=rtol / 100,
        events=[Event("V + 40", "rising")], most_events=400, threads=1, progress=False,
    )  # fmt: skip
    return np.array([rate(t[np.isfinite(t)]) for t in found.event_times])


def rate(spikes: np.ndarray) -> float:
    late = spikes[spikes > DROPPED]
    return 1000 * (len(late) - 1) / (late[-1] - late[0])


def scipy_window(lanes: np.ndarray, rtol: float) -> np.ndarray:
    def crossing(t, y):
        return y[0] + 40

    crossing.direction = 1
    found = []
    for current in lanes:
        course = solve_ivp(
            lambda t, y, i=current: hodgkin_huxley(*y, i), (0, WINDOW), START, "LSODA", rtol=rtol, atol=rtol / 100,
            events=[crossing],
        )  # fmt: skip
        found.append(rate(course.t_events[0]))
    return np.array(found)


class Numbalsoda:
    """LSODA at 1e-7, everything around it compiled."""

    def __init__(self) -> None:
        import numba
        import numbalsoda

        rhs = numba.njit(scalar_hodgkin_huxley, error_model="numpy")

        @numba.cfunc(numbalsoda.lsoda_sig)
        def function(t, u, du, p):
            y, current, out = numba.carray(u, (4,)), numba.carray(p, (1,))[0], numba.carray(du, (4,))
            out[0], out[1], out[2], out[3] = rhs(y[0], y[1], y[2], y[3], current)

        lsoda, start = numbalsoda.lsoda, np.array(START)

        @numba.njit
        def run(address, currents, ends):
            good = True
            for k in range(len(currents)):
                grid = np.array([0.0, ends[k]])
                good &= lsoda(address, start.copy(), grid, currents[k : k + 1].copy(), 1e-7, 1e-9, 1_000_000)[1]
            return good

        @numba.njit
        def frequencies(address, currents, end, dropped, dt):
            found, good = np.empty(len(currents)), True
            grid = np.arange(0, end, dt)
            for k in range(len(currents)):
                y, fine = lsoda(address, start.copy(), grid, currents[k : k + 1].copy(), 1e-7, 1e-9, 1_000_000)
                good &= fine
                first, last, count = 0.0, 0.0, 0
                for i in range(len(grid) - 1):
                    a, b = y[i, 0] + 40, y[i + 1, 0] + 40
                    if a < 0 <= b and grid[i] > dropped:
                        da = dt * rhs(y[i, 0], y[i, 1], y[i, 2], y[i, 3], currents[k])[0]
                        db = dt * rhs(y[i + 1, 0], y[i + 1, 1], y[i + 1, 2], y[i + 1, 3], currents[k])[0]
                        low, high = 0.0, 1.0
                        for _ in range(40):  # the zero of Hermite's cubic
                            s = (low + high) / 2
                            r = 1 - s
                            below = r * r * ((1 + 2 * s) * a + s * da) + s * s * ((1 + 2 * r) * b - r * db) < 0
                            low, high = (s, high) if below else (low, s)
                        last = grid[i] + low * dt
                        first = last if count == 0 else first
                        count += 1
                found[k] = 1000 * (count - 1) / (last - first)
            return found, good

        # The function must outlive its address.
        self._function, self._run, self._frequencies = function, run, frequencies

    def window(self) -> np.ndarray:
        found, good = self._frequencies(self._function.address, CURRENTS, WINDOW, DROPPED, 0.1)
        assert good
        return found

    def integrate(self, end: float) -> None:
        assert self._run(self._function.address, CURRENTS, np.full(len(CURRENTS), end))


def scalar_hodgkin_huxley(v, m, h, n, current):
    x, y = (v + 40) / 10, (v + 55) / 10
    am, an = x / -math.expm1(-x), 0.1 * y / -math.expm1(-y)
    return (
        current - 120 * m**3 * h * (v - 50) - 36 * n**4 * (v + 77) - 0.3 * (v + 54.387),
        am * (1 - m) - 4 * math.exp(-(v + 65) / 18) * m,
        0.07 * math.exp(-(v + 65) / 20) * (1 - h) - h / (1 + math.exp(-(v + 35) / 10)),
        an * (1 - n) - 0.125 * math.exp(-(v + 65) / 80) * n,
    )


def integrated(run: Callable[[], object]) -> float:
    """How many milliseconds of each current varphi integrates in a run, on average."""
    total = 0.0

    def counting(system, end, start, **settings):
        nonlocal total
        found = simulate(system, end, start, **settings)
        total += float(np.sum(found.end_times - settings.get("begin", 0.0)))
        return found

    with unittest.mock.patch("varphi.systems.neurons.firing.simulate", counting):
        run()
    return total / len(CURRENTS)


def elsewhere(peer: str, python: str | None) -> list[dict[str, Any]]:
    if python is None:
        print(f"{peer} is not measured: --{peer} PYTHON names an interpreter that has it")
        return []
    script = Path(__file__).with_name("neurons_peers.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run([python, str(script), peer], capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{peer} did not run: {done.stderr.strip().splitlines()[-1]}")
        return []
    return json.loads(done.stdout.strip().splitlines()[-1])


def firing(rounds: int, brian2: str | None, neuron: str | None) -> None:
    model = load("hodgkin-huxley")
    truth = fi_curve(model, CURRENTS, rtol=1e-11, threads=1).frequency
    few = CURRENTS[::100]
    runs: dict[str, Callable[[], object]] = {
        f"varphi, until closed, rtol {r:g}": lambda r=r: fi_curve(model, CURRENTS, rtol=r, threads=1).frequency
        for r in (1e-5, 1e-6, 1e-8)
    }
    runs |= {f"varphi, window, rtol {r:g}": lambda r=r: window(r) for r in (1e-6, 1e-8)}
    runs["scipy LSODA 1e-7, window"] = lambda: scipy_window(few, 1e-7)
    time_each = integrated(runs[OWN])
    try:
        peer = Numbalsoda()
        runs |= {LSODA_WINDOW: peer.window, LSODA_SAME: lambda: peer.integrate(time_each)}
    except ImportError:
        print("numbalsoda is not installed: not measured")
    times, found = medians(runs, rounds)
    times["scipy LSODA 1e-7, window"] *= len(CURRENTS) / len(few)
    for other in (*elsewhere("brian2", brian2), *elsewhere("neuron", neuron)):
        times[other["name"] + ", window"], found[other["name"] + ", window"] = (
            other["cpu"],
            np.array(other["frequency"]),
        )
    own = times[OWN]
    print(
        f"\nf–I curve, Hodgkin–Huxley, 200 currents; {OWN} integrates {time_each:.1f} ms of each\n"
        "                                               CPU s    times varphi 1e-6    largest relative error"
    )
    for name, seconds in times.items():
        values = found[name]
        of = truth[::100] if "scipy" in name else truth
        error = f"{np.abs(values / of - 1).max():.1e}" if isinstance(values, np.ndarray) else "(integration only)"
        print(f"  {name:46s} {seconds:9.3f} {seconds / own:12.2f} {error:>24s}")
    error = np.abs(np.asarray(found[OWN]) / truth - 1).max()
    goal("error of the f–I curve", error, error <= 1e-6, "at most 1e-6")
    if LSODA_WINDOW in times:
        ratio = times[LSODA_WINDOW] / own
        goal("CPU of numbalsoda over a 2000 ms window / varphi", ratio, ratio >= 20, "at least 20")
        ratio = own / times[LSODA_SAME]
        goal("CPU of varphi / numbalsoda, the same time simulated", ratio, ratio <= 0.5, "at most 0.5")


def goal(what: str, value: float, met: bool, wanted: str) -> None:
    print(f"  {what}: {value:.3g} (goal: {wanted}) {'met' if met else 'MISSED'}")


def points() -> None:
    print(
        "\nspecial points, proved complete                CPU s    complete    folds, Hopf points    goal: at most 1 s"
    )
    for name in MODELS:
        for variant in SETS.get(name, (None,)):
            cached.cache_clear()
            model = load(name, variant)
            seconds, found = cpu(lambda m=model: special_points(m))
            told = f"{len(found.folds)}, {len(found.hopfs)}"
            print(f"  {model.name:40s} {seconds:9.3f} {found.complete!s:>11s} {told:>16s}")


def beside_the_saddle_node() -> None:
    model = load("morris-lecar", "class 1")
    current = special_points(model).folds[0].I + 1e-4
    seconds, found = cpu(lambda: fi_curve(model, [current], threads=1))
    system = model.system(current)

    def crossing(t, y):
        return y[0] - 5

    crossing.direction = 1
    course = solve_ivp(
        lambda t, y: system(y.tolist()), (0, 45_000), found.states[0], "DOP853", rtol=1e-12, atol=1e-12,
        events=[crossing],
    )  # fmt: skip
    period = float(np.diff(course.t_events[0])[0])
    error = abs(found.period[0] / period - 1)
    print(
        f"\n1e-4 µA/cm² above the saddle-node of Morris–Lecar: period {found.period[0]:.3f} ms, DOP853 at 1e-12 "
        f"{period:.3f} ms, relative difference {error:.1e} (goal 1e-6), {seconds:.3f} CPU s; a window of 2000 ms shows "
        "no spike"
    )


AUTO_FOLDS = {
    ("hodgkin-huxley", None): (7.8423471202, 7.9177854943, 6.2603212745),
    ("morris-lecar", "class 2"): (88.293250543, 216.89980139),
}


def cycles(rounds: int) -> None:
    """Every fold of cycles at default settings, beside AUTO-07p where it is installed."""
    import auto07p

    told = auto07p.missing()
    print(f"\nfolds of cycles, median of {rounds} interleaved runs, CPU s (AUTO-07p: {told or 'compiled before'})")
    systems = {
        ("hodgkin-huxley", None): (auto07p.HODGKIN_HUXLEY, 150),
        ("morris-lecar", "class 2"): (auto07p.morris_lecar(2.0, 30.0, 0.04, 4.4), 100),
    }
    for name, digits in AUTO_FOLDS.items():
        model = load(*name)
        hopf = special_points(model).hopfs[0]
        runs: dict[str, Callable[[], object]] = {"varphi": lambda m=model, h=hopf: cycle_branch(m, h)}
        with tempfile.TemporaryDirectory() as folder:
            own, peer, found = [], [], None
            program = None if told else auto07p.Program(*systems[name][0], Path(folder))
            start = None if program is None else program.run()
            runs["varphi"]()
            for _ in range(rounds):
                seconds, found = cpu(runs["varphi"])
                own.append(seconds)
                if program is not None and start is not None:
                    branch = program.cycles(start, folds=len(digits), intervals=systems[name][1])
                    peer.append(branch.seconds)
                    theirs = [values[0] for values in branch.of("fold of cycles")]
        folds = [float(f.parameter) for f in found.folds]
        apart = max((abs(a - b) for a, b in zip(folds, digits, strict=False)), default=np.inf)
        mine = statistics.median(own)
        line = f"  {model.name:24s} varphi {mine:.3f} ({len(folds)} folds, {len(found.points)} orbits, to the end)"
        if peer:
            its = statistics.median(peer)
            line += f", AUTO {its:.3f} ({len(theirs)} folds, to the last), ratio {mine / its:.2f}"
        print(line + f"; from the digits of AUTO at most {apart:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--brian2", metavar="PYTHON", help="an interpreter with Brian2")
    parser.add_argument("--neuron", metavar="PYTHON", help="an interpreter with NEURON")
    given = parser.parse_args()
    points()
    cycles(given.rounds)
    beside_the_saddle_node()
    firing(given.rounds, given.brian2, given.neuron)
