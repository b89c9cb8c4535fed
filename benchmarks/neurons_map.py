"""The class of excitability of 10,000 membranes, and 50 of them worked out by full continuation.

    python benchmarks/neurons_map.py [--size N] [--points N] [--seed N]

The map simulates each membrane just above the loss of its rest. The check knows no such short cut: with the equations
alone, it follows the equilibria from low currents until rest is lost, and the cycles of every Hopf point to where they
end. Two threads, wall seconds.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from varphi.dynamics import approach, continue_cycles, continue_equilibria, orbit_at_hopf, simulate
from varphi.dynamics.equilibria import EquilibriumBranch, SpecialEquilibrium
from varphi.dynamics.system import System
from varphi.systems.neurons import ExcitabilityMap, excitability_map, load
from varphi.systems.neurons.excitability import NEVER, NO_CYCLE, OFF_CYCLE, SNIC, SUBCRITICAL, SUPERCRITICAL

RANGES = {"V3": (-10.0, 20.0), "V4": (8.0, 32.0)}
SETS = ("class 1", "homoclinic")
CURRENTS = (-400.0, 900.0)


def full_continuation(system: System) -> tuple[str, float]:
    """How a Morris–Lecar membrane loses its rest as I grows, and at which I (NaN where it never does)."""
    rest = simulate(system, 5000.0, {"V": -60.0, "w": 0.0}, parameters={"I": CURRENTS[0]}, progress=False).ends[0]
    branch = continue_equilibria(system, "I", rest, bounds=CURRENTS, most_points=4000)
    loss = first_loss(branch)
    if loss is None:
        return NEVER, float("nan")
    current = loss.at.parameter
    if loss.kind == "hopf":
        cycles = cycles_at(system, loss, 2)
        return (SUBCRITICAL if cycles.parameters[1] < cycles.parameters[0] else SUPERCRITICAL), current
    around = False
    for hopf in (s for s in branch.specials if s.kind == "hopf"):
        cycles = cycles_at(system, hopf, 2000)
        end = approach(cycles)
        here = end is not None and end.kind == SNIC and abs(end.parameter - current) < 1e-6 * max(1.0, abs(current))
        if here and cycles.parameters[-1] > current:
            return SNIC, current
        stable = np.array([p.stable is True for p in cycles.points])
        beyond = np.diff(np.sign(cycles.parameters - current)) != 0
        around |= bool((beyond & (stable[1:] | stable[:-1])).any())
    return (OFF_CYCLE if around and fires(system, loss) else NO_CYCLE), current


def first_loss(branch: EquilibriumBranch) -> SpecialEquilibrium | None:
    """Where the rest that is stable at the lowest current loses its stability."""
    lost = next((k for k, p in enumerate(branch.points) if not p.stable), None)
    if lost is None:
        return None
    # Specials stand in the order of the branch: the first that has a zero or imaginary eigenvalue is the one.
    return branch.specials[0] if branch.specials else None


def cycles_at(system: System, hopf: SpecialEquilibrium, most: int):
    """The cycles of a Hopf point, as far as they go."""
    start, towards = orbit_at_hopf(system, "I", hopf.at.state, hopf.at.parameter)
    return continue_cycles(
        system, "I", start, towards=towards, bounds=CURRENTS, largest_period=8000.0, most_points=most
    )


def fires(system: System, fold: SpecialEquilibrium) -> bool:
    """Whether the membrane goes to a cycle, not to another rest, just above the fold."""
    current = fold.at.parameter + 1e-3 * max(1.0, abs(fold.at.parameter))
    found = simulate(system, 20_000.0, fold.at.state + np.array([0.5, 0.0]), parameters={"I": current}, progress=False)
    late = simulate(system, 2000.0, found.ends[0], parameters={"I": current}, progress=False)
    return bool(late.highs[0, 0] - late.lows[0, 0] > 1.0)


def check(found: ExcitabilityMap, points: int, seed: int) -> list[tuple[float, float, str, str, float]]:
    """Random points of a map: V3, V4, the map's mechanism, that of full continuation, |ΔI| of the loss."""
    rng = np.random.default_rng(seed)
    rows = []
    places = rng.integers(len(found.first), size=points), rng.integers(len(found.second), size=points)
    for i, j in zip(*places, strict=True):
        model = found.model.with_(V3=float(found.first[i]), V4=float(found.second[j]))
        told, current = full_continuation(model.system())
        rows.append(
            (float(found.first[i]), float(found.second[j]), found.mechanism(i, j), told, abs(found.I[i, j] - current))
        )
    return rows


def made(name: str, size: int) -> tuple[ExcitabilityMap, float]:
    """A map of size² membranes and its wall seconds."""
    first, second = (np.linspace(*RANGES[n], size) for n in ("V3", "V4"))
    begin = time.perf_counter()
    found = excitability_map(load("morris-lecar", name), ("V3", first), ("V4", second), threads=2)
    return found, time.perf_counter() - begin


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    made("class 1", 3)
    for name in SETS:
        found, seconds = made(name, given.size)
        print(f"{found}\n  {seconds:.1f} s wall on 2 threads (goal for 10,000: at most 60 s)")
        begin = time.perf_counter()
        rows = check(found, given.points, given.seed)
        wrong = [r for r in rows if r[2] != r[3]]
        apart = max((r[4] for r in rows if np.isfinite(r[4])), default=0.0)
        print(
            f"  full continuation of {len(rows)} random points ({time.perf_counter() - begin:.1f} s): {len(wrong)} "
            f"differ; the current of the loss differs by at most {apart:.1e} µA/cm²"
        )
        for v3, v4, told, truth, _ in wrong:
            print(f"    V3 = {v3:g}, V4 = {v4:g}: map {told}, continuation {truth}")
