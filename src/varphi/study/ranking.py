"""Ranking over paired seeds, with what is not told apart shown as a tie."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from .statistics import Comparison, enough_seeds, fewest_seeds, holm, number, numbers, paired

Best: TypeAlias = Literal["lowest", "highest"]


@dataclass(frozen=True)
class Contest:
    """What a study ranks: the levels of some factors by a measure, everything else held.

    Attributes:
        title: as the report calls it.
        measure: a name of the study's measures.
        among: the factors whose levels compete.
        at: the level of every other factor; a tuple admits several.
        best: whether low or high values win.

    Raises:
        ValueError: for another `best`, or without competing factors.
    """

    title: str
    measure: str
    among: tuple[str, ...]
    at: Mapping[str, Any]
    best: Best = "lowest"

    def __post_init__(self) -> None:
        if self.best not in ("lowest", "highest"):
            raise ValueError(f"the contest {self.title!r} is won by 'lowest' or 'highest', got {self.best!r}")
        if not self.among:
            raise ValueError(
                f"the contest {self.title!r} names no factor whose levels compete; say among=(factor, ...)"
            )

    def admits(self, setting: Mapping[str, Any]) -> bool:
        """Whether a setting takes part."""
        return all(setting[n] in (v if isinstance(v, tuple) else (v,)) for n, v in self.at.items())

    def competitor(self, setting: Mapping[str, Any]) -> str:
        """The name under which a setting takes part."""
        return " · ".join(str(setting[name]) for name in self.among)

    def check(
        self, measures: Iterable[str], factors: Iterable[str], sizes: Iterable[Sequence[Mapping[str, Any]]]
    ) -> None:
        """Whether it can be held.

        Args:
            measures, factors: the study's names of them.
            sizes: the settings of each of the study's sizes.

        Raises:
            ValueError: for names the study does not have; where two settings would take part under one name; where no
                size has two competitors.
        """
        self._check_name(self.measure, "measure", measures)
        for name in (*self.among, *self.at):
            self._check_name(name, "factor", factors)
        fields = [self._field(settings) for settings in sizes]
        if max(fields, default=0) < 2:
            raise ValueError(
                f"the contest {self.title!r} has fewer than two competitors in every size; see at={self.at}"
            )

    def _check_name(self, name: str, kind: str, known: Iterable[str]) -> None:
        known = list(known)
        if name not in known:
            raise ValueError(f"the contest {self.title!r} names the {kind} {name!r}; there are {', '.join(known)}")

    def _field(self, settings: Iterable[Mapping[str, Any]]) -> int:
        """How many compete."""
        field: dict[str, Mapping[str, Any]] = {}
        for setting in settings:
            if not self.admits(setting):
                continue
            other = field.setdefault(self.competitor(setting), setting)
            open_ = [name for name in setting if setting[name] != other[name]]
            if open_:
                raise ValueError(
                    f"the contest {self.title!r} leaves {' and '.join(map(repr, open_))} open: {dict(other)} and "
                    f"{dict(setting)} would both take part as {self.competitor(setting)!r}; hold it in at={{...}}, or "
                    "let it compete in among=(...)"
                )
        return len(field)


@dataclass(frozen=True)
class Place:
    """One competitor in a ranking.

    Attributes:
        first, last: the ranks that the measurements leave open: 1 + how many are significantly better, and all minus
            how many are significantly worse.
        median, low, high: of its values over seeds; low and high are the extremes.
    """

    name: str
    first: int
    last: int
    median: float
    low: float
    high: float

    @property
    def rank(self) -> str:
        """ "2", or "2-4" where ranks are open."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True)
class Ranking:
    """Competitors from best to worst, each with the ranks it may have.

    All pairs are compared seed by seed and corrected by Holm, so that with 95 % confidence every true rank lies in its
    range: the confidence sets for ranks of Mogstad, Romano, Shaikh & Wilhelm (Review of Economic Studies 91, 2024),
    with paired tests as Demsar (JMLR 7, 2006) asks for. Competitors whose ranges overlap are not told apart.

    Attributes:
        places: in the order of the medians.
        comparisons: of every pair, adjusted.
    """

    best: Best
    places: tuple[Place, ...]
    comparisons: tuple[Comparison, ...]
    seeds: int

    @property
    def winners(self) -> tuple[str, ...]:
        """Those that may be the best; none where the best three, say, beat each other in a circle."""
        return tuple(p.name for p in self.places if p.first == 1)

    @property
    def is_possible(self) -> bool:
        """Whether so many seeds could have told any two apart."""
        return enough_seeds(self.seeds, len(self.comparisons))

    def sentence(self) -> str:
        """The ranking in one sentence."""
        if not self.is_possible:
            few = fewest_seeds(len(self.comparisons))
            return f"{self.seeds} seeds cannot tell {len(self.places)} apart, {few} could."
        leader = self.places[0]
        best_median = f"{leader.name} has the best median ({number(leader.median)})"
        if len(self.winners) == 1:
            (winner,) = (p for p in self.places if p.first == 1)
            return f"{winner.name} is best ({number(winner.median)})."
        if not self.winners:
            return f"Nobody is best, as at the top they beat each other in a circle; {best_median}."
        if len(self.winners) == len(self.places):
            return f"No difference beyond chance; {best_median}."
        return f"{_listed(self.winners)} are not told apart at the top; {best_median}."

    def table(self) -> Iterator[tuple[str, ...]]:
        """The header, then a line for each place."""
        yield ("rank", "", "median [range over seeds]")
        for p in self.places:
            median, low, high = numbers(p.median, p.low, p.high)
            yield (p.rank, p.name, f"{median} [{low}, {high}]")


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def ranking(values: Mapping[str, Float[np.ndarray, " seeds"]], *, best: Best = "lowest") -> Ranking:
    """Rank competitors by their values over the same seeds.

    Args:
        values: from a competitor's name to one value for each seed, in the same order of seeds. NaN (a run without a
            result) counts as the worst.
        best: whether low or high values win.

    Raises:
        ValueError: for fewer than two competitors, or values that are not paired.
    """
    if len(values) < 2:
        raise ValueError(f"a ranking needs at least two competitors, got {list(values)}")
    sign = 1.0 if best == "lowest" else -1.0
    costs = {name: np.where(np.isnan(v), math.inf, sign * np.asarray(v, float)) for name, v in values.items()}
    pairs = list(itertools.combinations(costs, 2))
    tests = holm([paired(costs[a], costs[b], f"{a} - {b}") for a, b in pairs])
    better: dict[str, set[str]] = {name: set() for name in costs}  # who is significantly better than it
    for (a, b), test in zip(pairs, tests, strict=True):
        if test.sign == "lower":
            better[b].add(a)
        elif test.sign == "higher":
            better[a].add(b)
    places = [
        Place(
            name,
            first=1 + len(better[name]),
            last=len(costs) - sum(name in others for others in better.values()),
            median=sign * _median(cost),
            low=min(sign * cost.min(), sign * cost.max()),
            high=max(sign * cost.min(), sign * cost.max()),
        )
        for name, cost in costs.items()
    ]
    # Medians first; of equal ones (two that diverged, say) who is told to be better.
    order = sorted(places, key=lambda p: (sign * p.median, p.first, p.last))
    return Ranking(best, tuple(order), tests, len(next(iter(costs.values()))))


def _median(values: np.ndarray) -> float:
    ordered = np.sort(values)
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    # Between infinities of one sign there is nothing to average.
    return float(middle[0] if middle[0] == middle[1] else np.mean(middle))
