"""Does a pulse survive the noise of few molecules? Of the mean of exact stochastic courses, and in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from varphi.dynamics.stochastic import simulate_counts

from .circuit import Circuit
from .measures import Pulse

_POINTS = 40
_FALSE = 0.05
_LIFETIMES = 5.0


@dataclass(frozen=True)
class NoisyPulse:
    """What is left of a pulse among counted molecules.

    Attributes:
        molecules: the number at the peak of the differential equations.
        of_mean: whether the mean course has a pulse: its highest point in the window of the pulse is above the mean at
            rest by more than 1 % of itself and three standard errors.
        detected: the share of single courses in which it is seen: the highest count in the window is above what 95 %
            of equally long windows of the same circuit at rest reach. Without a pulse it would be 0.05.
        ratio: the mean of the highest count in the window over that of windows at rest.
    """

    molecules: float
    of_mean: bool
    detected: float
    ratio: float


def noisy_pulse(
    circuit: Circuit, step: tuple[str, float, float], pulse: Pulse, molecules: float, *, output: str = "Z",
    parameters: Mapping[str, float] | None = None, runs: int = 100, seed: int = 0, most_events: int = 20_000_000,
) -> NoisyPulse | None:  # fmt: skip
    """Simulate a circuit's pulse exactly, with so many molecules at its peak.

    Args:
        circuit: the circuit.
        step: the input's name, its level before and after.
        pulse: what the differential equations give for it.
        molecules: at the peak; all amounts are scaled alike.
        output: the gene.
        parameters: values other than the circuit's.
        runs: how many courses.
        seed: of the random numbers.
        most_events: of a course.

    Returns:
        None where a course had more events than `most_events`.
    """
    changed = circuit.with_parameters(**dict(parameters or {}))
    size = molecules / pulse.peak
    network = changed.network(size)
    place = network.species.index(output)
    name, before, after = step
    window = 2 * pulse.time
    answer = changed.respond((name, before, after), output, progress=False, threads=1)
    slow = float(np.max(changed.lifetimes(changed.resolved(None), 1.0)))
    times = np.linspace(0, window, _POINTS)
    options = {"samples": runs, "most_events": most_events, "progress": False, "threads": 1}
    # The first molecules: those of the steady state before the step, as Poisson counts.
    random = np.random.default_rng(seed)
    start = random.poisson(np.broadcast_to(answer.before.states[0] * size, (runs, len(network.species))))
    rest = np.round(answer.after.states[0] * size)
    moved = simulate_counts(
        network, window * (1 + 1e-9), dict(zip(network.species, start.T, strict=True)), times=times, seed=seed,
        parameters={name: after}, **options,
    )  # fmt: skip
    wait = _LIFETIMES * slow
    still = simulate_counts(
        network, (wait + window) * (1 + 1e-9), dict(zip(network.species, rest.tolist(), strict=True)),
        times=wait + times, seed=seed + 1, parameters={name: after}, **options,
    )  # fmt: skip
    if not (moved.ok.all() and still.ok.all()):
        return None
    courses, quiet = moved.counts[:, :, place], still.counts[:, :, place]
    highest, usual = courses.max(1), quiet.max(1)
    mean, level = courses.mean(0), quiet.mean()
    top = int(mean.argmax())
    error = np.hypot(courses[:, top].std(ddof=1), quiet.mean(1).std(ddof=1)) / np.sqrt(runs)
    of_mean = bool(mean[top] - level > max(0.01 * mean[top], 3 * error))
    limit = np.quantile(usual, 1 - _FALSE, method="higher")
    detected = float((highest > limit).mean())
    return NoisyPulse(molecules, of_mean, detected, float(highest.mean() / max(usual.mean(), 1e-300)))
