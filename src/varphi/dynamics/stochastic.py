"""Exact stochastic simulation of reactions between counted molecules (Gillespie, J. Phys. Chem. 81 (1977) 2340).

Each reaction has a propensity, the probability per time that it happens, and changes the counts by whole numbers. The
laws must be propensities: a rate that turns negative ends the sample, and says so.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from varphi.numbers import Expression

from . import direct
from .progress import watched
from .status import Status
from .system import TIME, System


@dataclass(frozen=True)
class Reaction:
    """Something that happens at random.

    Attributes:
        propensity: a formula in species and parameters ("k*x*(x-1)/2"), or an expression; events per time.
        change: by how much each species' count changes.
    """

    propensity: str | Expression
    change: Mapping[str, int]


@dataclass(frozen=True)
class Network:
    """Species, parameters and the reactions between them.

    Attributes:
        species: names, in order.
        parameters: names and usual values.
        propensities: one expression for each reaction.
        changes: (reactions, species).
    """

    species: tuple[str, ...]
    parameters: Mapping[str, float]
    propensities: tuple[Expression, ...]
    changes: Int[np.ndarray, "reactions species"]
    _laws: System

    @staticmethod
    def of(
        reactions: Sequence[Reaction], species: Sequence[str], parameters: Mapping[str, float] | None = None
    ) -> Network:
        """A network from its reactions.

        Raises:
            ValueError, FormulaError: for names that clash or are unknown, or changes that are no whole numbers.
        """
        names = tuple(species)
        if not reactions:
            raise ValueError("a network needs at least one reaction")
        changes = np.zeros((len(reactions), len(names)))
        for i, reaction in enumerate(reactions):
            for name, by in reaction.change.items():
                if name not in names:
                    raise ValueError(f"reaction {i + 1} changes {name!r}; the species are {', '.join(names)}")
                if not float(by).is_integer():
                    raise ValueError(f"reaction {i + 1} changes {name} by {by!r}; counts change by whole numbers")
                changes[i, names.index(name)] = by
        # A system of the same names reads the formulas; its rates are not used.
        laws = System.of(dict.fromkeys(names, "0"), parameters)
        propensities = tuple(laws.expression(r.propensity) for r in reactions)
        return Network(names, laws.parameters, propensities, changes, laws)

    def rates(self) -> System:
        """The mean-field equations: counts as continuous amounts, changed by the propensities."""
        rates = {}
        for j, name in enumerate(self.species):
            total: Any = 0
            for propensity, by in zip(self.propensities, self.changes[:, j], strict=True):
                if by:
                    total = total + int(by) * propensity
            rates[name] = total
        return System.of(rates, self.parameters)


@dataclass(frozen=True)
class Counts:
    """What `simulate_counts` found.

    Attributes:
        counts: at the times asked for, NaN where a sample ended before.
        ends: the last counts.
        means, variances: of each sample over time, from `settled` to the end.
        events: how many reactions happened.
        status: what became of each sample; see `Status`.
    """

    network: Network
    times: Float[np.ndarray, " times"]
    counts: Float[np.ndarray, "samples times species"]
    ends: Float[np.ndarray, "samples species"]
    means: Float[np.ndarray, "samples species"]
    variances: Float[np.ndarray, "samples species"]
    events: Int[np.ndarray, " samples"]
    status: Int[np.ndarray, " samples"]

    @property
    def ok(self) -> np.ndarray:
        """Which samples reached the end."""
        return self.status == Status.DONE

    def species(self, name: str) -> Float[np.ndarray, "samples times"]:
        """One species over time."""
        return self.counts[:, :, self.network.species.index(name)]

    def fano(self) -> Float[np.ndarray, " species"]:
        """Variance over mean of each species, of all samples' counts over time together."""
        means, variances = self.means[self.ok], self.variances[self.ok]
        mean = means.mean(0)
        total = variances.mean(0) + means.var(0)
        return np.divide(total, mean, out=np.full_like(mean, np.nan), where=mean > 0)


def simulate_counts(
    network: Network,
    end: float,
    start: Mapping[str, Any] | Sequence[float],
    *,
    samples: int = 1,
    parameters: Mapping[str, Any] | None = None,
    times: Sequence[float] | np.ndarray = (),
    settled: float = 0.0,
    seed: int = 0,
    most_events: int = 2**62,
    threads: int | None = None,
    progress: bool = True,
) -> Counts:
    """Simulate a network exactly, by the direct method.

    Args:
        network: the reactions.
        end: when to end.
        start: the first counts, whole numbers, each one or one for each sample.
        samples: how many.
        parameters: values other than the usual ones, each a number or one for each sample.
        times: when counts are wanted, increasing; none are given for times beyond the end.
        settled: from when on means and variances are taken.
        seed: of the random numbers; a sample's depend on it and on the sample's number alone.
        most_events: how many reactions a sample may have.
        threads: how many threads; all processors by default.
        progress: whether to show a bar, on standard error, for work of more than two seconds.

    Raises:
        ValueError: for unusable arguments.
    """
    if not (isinstance(samples, int) and samples > 0):
        raise ValueError(f"samples must be a whole number above 0, got {samples!r}")
    if not (math.isfinite(end) and end > 0 and 0 <= settled < end):
        raise ValueError(f"the end must be finite and above 0, and settled before it; got {end!r} and {settled!r}")
    if not (isinstance(seed, int) and 0 <= seed < 2**63):
        raise ValueError(f"seed must be a whole number from 0 on, got {seed!r}")
    for i, propensity in enumerate(network.propensities):
        if TIME in propensity.variables:
            raise ValueError(
                f"the propensity of reaction {i + 1}, {propensity!r}, depends on t; the direct method is exact only "
                "where propensities stay as they are between reactions: simulate network.rates() instead"
            )
    wanted = np.array(times, float)
    if wanted.ndim != 1 or not np.isfinite(wanted).all() or (np.diff(wanted) < 0).any() or (wanted < 0).any():
        raise ValueError("times must be a list of finite, increasing numbers from 0 on")
    given = network._laws.named(start)
    starts = _table(list(given.values()), samples, "counts")
    if (starts < 0).any() or (starts != np.round(starts)).any():
        raise ValueError("counts must be whole numbers, not negative")
    values = _table(list(network._laws.values(parameters or {}).values()), samples, "parameters")
    n = len(network.species)
    found = np.full((samples, len(wanted), n), np.nan)
    ends, means, squares = np.full((samples, n), np.nan), np.zeros((samples, n)), np.zeros((samples, n))
    events, status = np.zeros(samples, np.int64), np.full(samples, int(Status.INTERRUPTED), np.int64)
    code = direct.direct(network.species, tuple(network.parameters), network.propensities, network.changes)
    numbers = np.arange(samples)
    within = int(np.searchsorted(wanted, end, side="right"))
    workers = threads or os.cpu_count() or 1
    edges = np.linspace(0, samples, max(1, min(4 * workers, samples // 8)) + 1).astype(int)
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    watches = [np.zeros(2, np.int64) for _ in parts]

    def work(part: slice, watch: np.ndarray) -> None:
        code(
            starts=starts[part], parameters=values[part], numbers=numbers[part], times=wanted, found=found[part],
            finals=ends[part], means=means[part], squares=squares[part], events=events[part], status=status[part],
            watch=watch, samples=part.stop - part.start, within=within, wanted=len(wanted), seed=seed,
            most=most_events, end=float(end), settled=float(settled),
        )  # fmt: skip

    with ThreadPoolExecutor(min(workers, len(parts))) as pool:
        watched([pool.submit(work, p, w) for p, w in zip(parts, watches, strict=True)], watches, samples, progress)
    return Counts(network, wanted, found, ends, means, squares - means**2, events, status)


def _table(columns: list[Any], samples: int, what: str) -> np.ndarray:
    arrays = [np.asarray(c, float) for c in columns]
    if any(a.ndim > 1 or (a.ndim == 1 and a.size != samples) for a in arrays):
        raise ValueError(f"{what} are numbers, or one number for each of the {samples} samples")
    table = np.stack([np.broadcast_to(a, (samples,)) for a in arrays], 1) if arrays else np.zeros((samples, 0))
    if not np.isfinite(table).all():
        raise ValueError(f"{what} must be finite numbers")
    return np.ascontiguousarray(table)
