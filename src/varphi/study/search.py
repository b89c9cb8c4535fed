"""How a setting finds its free numbers (learning rate, β): ranges, a budget, and one of Optuna's samplers.

The points depend on the declaration alone: not on the worker, the order of trials or how many processes run.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from .declaration import Shaped

Point: TypeAlias = "dict[str, float]"
Sampler: TypeAlias = Literal["qmc", "tpe"]


@dataclass(frozen=True)
class Range:
    """Where a free number is looked for.

    Attributes:
        low, high: its ends.
        log: whether its magnitude is what counts, as of a learning rate.

    Raises:
        ValueError: for ends that are no range.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range needs two finite ends, the lower first, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs a lower end above 0, got {self.low}")

    def at(self, share: float) -> float:
        """The number that lies a share of the way from the lower end to the upper."""
        if self.log:
            return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return self.low + share * (self.high - self.low)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


Space: TypeAlias = "Mapping[str, Range]"


@dataclass(frozen=True)
class Search:
    """A search for the free numbers, with the same budget for every setting.

    Attributes:
        space: from a number's name to its range; or a function of the setting that returns one, where settings differ
            in what is free (softplus has β, ReLU has not).
        points: how many points each setting tries.
        sampler: "qmc": Optuna's QMCSampler, a scrambled Sobol sequence; a number that several settings have takes the
            same values in each of them. "tpe": Optuna's TPESampler, which starts with a share of those points and
            asks for the others round by round, each round knowing the results of those before.
        rounds: in how many rounds "tpe" asks.
        seed: of the sampler.

    Raises:
        ValueError: for an unknown sampler or a budget that is too small.
    """

    space: Space | Callable[[Mapping[str, Any]], Space]
    points: int
    sampler: Sampler = "qmc"
    rounds: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sampler not in ("qmc", "tpe"):
            raise ValueError(f"the sampler is 'qmc' or 'tpe', got {self.sampler!r}")
        if self.points < 1:
            raise ValueError(f"a search needs at least one point, got {self.points}")
        if self.sampler == "tpe" and not 2 <= self.rounds <= self.points:
            raise ValueError(f"'tpe' needs 2 to {self.points} rounds for {self.points} points, got {self.rounds}")

    def ranges(self, setting: Mapping[str, Any]) -> dict[str, Range]:
        """The free numbers of a setting."""
        return dict(self.space(setting) if callable(self.space) else self.space)

    def spread(self, setting: Mapping[str, Any], names: Sequence[str]) -> list[Point]:
        """A setting's points of the Sobol sequence; one without numbers where nothing is free.

        Args:
            names: every number that any setting has: each has its own dimension of the sequence, so that the settings
                that share a number share its values.
        """
        ranges = self.ranges(setting)
        if not ranges:
            return [{}]
        return [{name: ranges[name].at(share[name]) for name in ranges} for share in self._sobol(names)]

    def _sobol(self, names: Sequence[str]) -> list[dict[str, float]]:
        import optuna

        cube: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in sorted(names)
        }
        _quiet(optuna)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Any number of points may be asked for; only powers of two are balanced in the strict sense.
            warnings.simplefilter("ignore", UserWarning)
            sampler = optuna.samplers.QMCSampler(scramble=True, seed=self.seed)
            study = optuna.create_study(sampler=sampler)
            trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
            return [sampler.sample_relative(study, trial, cube) for _ in range(self.points)]

    def rounds_of(self, start: Sequence[Point]) -> list[int]:
        """How many points each round of "tpe" tries."""
        whole, rest = divmod(len(start), self.rounds)
        return [whole + (i < rest) for i in range(self.rounds)]

    def asked(
        self, setting: Mapping[str, Any], start: Sequence[Point], evaluate: Callable[[list[Point]], Sequence[float]]
    ) -> None:
        """Ask and tell, round by round; the first round tries the first of the points `start`.

        Args:
            evaluate: tries some points and returns a number for each; the lower the better.
        """
        import optuna

        _quiet(optuna)
        first, *later = self.rounds_of(start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Points that are asked for together know of each other only through the liar.
            sampler = optuna.samplers.TPESampler(
                seed=self.seed, n_startup_trials=first, multivariate=True, constant_liar=True
            )
        study = optuna.create_study(sampler=sampler, direction="minimize")
        space: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(r.low, r.high, log=r.log)
            for name, r in self.ranges(setting).items()
        }
        begun = [dict(point) for point in start[:first]]
        for point, value in zip(begun, evaluate(begun), strict=True):
            study.add_trial(optuna.trial.create_trial(params=point, distributions=space, value=value))
        for count in later:
            trials = [study.ask(space) for _ in range(count)]
            values = evaluate([dict(trial.params) for trial in trials])
            for trial, value in zip(trials, values, strict=True):
                study.tell(trial, value)


def _quiet(optuna: Any) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def choose(deciding: np.ndarray) -> int:
    """The point with the lowest median over seeds; NaN counts as infinite, and of equals the middle one wins.

    Args:
        deciding: the deciding measure, (points, seeds).
    """
    medians = [median(row) for row in np.asarray(deciding, float)]
    best = [i for i, m in enumerate(medians) if m == min(medians)]
    return best[len(best) // 2]


def median(values: np.ndarray) -> float:
    """The lower median; NaN counts as infinite."""
    ordered = np.sort(np.where(np.isnan(values), math.inf, values))
    # The lower middle: the mean of a number and infinity would hide the number.
    return float(ordered[(len(ordered) - 1) // 2])


def edges(points: Sequence[Point], chosen: int) -> tuple[str, ...]:
    """The numbers whose chosen value is the smallest or largest that was tried, so that a better one may lie beyond."""

    def at_edge(name: str) -> bool:
        tried = sorted({point[name] for point in points})
        return len(tried) > 1 and points[chosen][name] in (tried[0], tried[-1])

    return tuple(name for name in points[chosen] if at_edge(name))


def joined(outcomes: Sequence[Shaped], axis: int) -> Shaped:
    """Outcomes for other points (axis 0) or other seeds (axis 1) as one; shorter curves end in NaN."""
    if len(outcomes) == 1:
        return outcomes[0]
    return type(outcomes[0])(
        {n: np.concatenate([o.measures[n] for o in outcomes], axis) for n in outcomes[0].measures},
        {n: np.concatenate(_equally_long([o.curves[n] for o in outcomes]), axis) for n in outcomes[0].curves},
    )


def _equally_long(curves: Sequence[np.ndarray]) -> list[np.ndarray]:
    longest = max(curve.shape[2] for curve in curves)
    return [np.pad(c, ((0, 0), (0, 0), (0, longest - c.shape[2])), constant_values=math.nan) for c in curves]
