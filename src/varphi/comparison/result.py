"""What a comparison has found: ranks, gains over the model's own activation, gradient health, cost."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from varphi.activation.lookup import get
from varphi.activation.registry import find
from varphi.facts.cost import cost_of
from varphi.study.data import plain_data
from varphi.study.ranking import Best, Ranking
from varphi.study.results import Failure, Results
from varphi.study.statistics import Comparison as Difference
from varphi.study.verdict import Verdict

from .declared import Finding, finding
from .places import Place
from .trial import NONFINITE, SECONDS, STAGES, Trial, curve

if TYPE_CHECKING:
    from rich.console import Group

# How many elements an activation is timed on.
_TIMED = 2**16


@dataclass(frozen=True)
class Gain:
    """What another activation gains over the model's own.

    Attributes:
        activation: its label.
        difference: the paired differences, positive where it is better, with Holm's correction over all others.
        finding: what these seeds say.
    """

    activation: str
    difference: Difference
    finding: Finding


@dataclass(frozen=True)
class Change:
    """A figure at the start and at the end of the training; medians over seeds, NaN where it was not seen."""

    start: float
    end: float


@dataclass(frozen=True)
class LayerHealth:
    """How gradients pass one layer with one activation.

    Attributes:
        activation, place: their labels.
        units: how many units the layer has.
        dead: how many of them have slope 0 on every sample of the batch.
        saturated: the share of slopes below 0.001 times the activation's largest.
        gradient: the norm of the loss's gradient by what enters the activations.
    """

    activation: str
    place: str
    units: float
    dead: Change
    saturated: Change
    gradient: Change


@dataclass(frozen=True)
class Cost:
    """What an activation costs.

    Attributes:
        activation: its label.
        seconds: of one training, the median over seeds.
        relative: seconds divided by those of the model's own, the median over seeds; NaN where that failed.
        nanoseconds: for one element, forward and backward, alone on this machine; NaN where its formula is not known.
        nonfinite: how many calls of the model gave NaN or infinity, over all seeds; NaN where no call was seen.
    """

    activation: str
    seconds: float
    relative: float
    nanoseconds: float
    nonfinite: float


@dataclass(frozen=True, repr=False)
class Comparison:
    """Activations compared in one model.

    Attributes:
        results: every training, as a study's results.
        places: where in the model the activation was exchanged.
    """

    results: Results
    places: tuple[Place, ...]

    @property
    def trial(self) -> Trial:
        """What was declared."""
        trial = self.results.study.trial
        assert isinstance(trial, Trial)
        return trial

    @property
    def baseline(self) -> str:
        """The model's own activation."""
        return next(iter(self.trial.candidates))

    @property
    def measure(self) -> str:
        """The measure that decides."""
        return self.trial.measures[0]

    @property
    def best(self) -> Best:
        """Whether low or high values of it win."""
        return self.trial.best

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.results.seeds

    @property
    def finished(self) -> tuple[str, ...]:
        """The activations that finished on every seed, in the order given."""
        return self.results.levels("activation")

    @property
    def ranking(self) -> Ranking | None:
        """Those that finished, from best to worst; None for fewer than two."""
        return self.results.rankings[0][1] if self.results.rankings else None

    @property
    def winners(self) -> tuple[str, ...]:
        """Those that may be the best."""
        return self.ranking.winners if self.ranking else self.finished

    @property
    def verdict(self) -> Verdict:
        """On "another activation is better than the model's own"."""
        return self.results.verdicts[0]

    @property
    def answer(self) -> str:
        """Which activation, in a sentence or two."""
        return self.results.answer

    @cached_property
    def gains(self) -> tuple[Gain, ...]:
        """Of every other activation that finished; none where the model's own failed."""
        others = [label for label in self.finished if label != self.baseline]
        family = self.verdict.comparisons
        return tuple(Gain(a, d, finding(d, len(family))) for a, d in zip(others, family, strict=bool(family)))

    @cached_property
    def failures(self) -> Mapping[str, tuple[Failure, ...]]:
        """From the label of an activation that did not finish on every seed to the errors of its trainings."""
        found: dict[str, list[Failure]] = {}
        for failure in self.results.errors:
            label = failure.setting["activation"]
            if label not in self.finished:
                found.setdefault(label, []).append(failure)
        return {label: tuple(failures) for label, failures in found.items()}

    def values(self, activation: str, measure: str | None = None) -> Float[np.ndarray, " seeds"]:
        """A measure for every seed; the one that decides if none is named."""
        return self.results.values(measure or self.measure, activation=activation)

    def figure(self, activation: str, stage: str, name: str) -> Float[np.ndarray, "seeds places"]:
        """A figure of gradient health for every seed and place.

        Args:
            stage: "start" or "end".
            name: "units", "dead", "saturated" or "gradient".
        """
        row = self.results.one(activation=activation)
        return row.curves[curve(stage, name)][row.chosen]

    @cached_property
    def health(self) -> tuple[LayerHealth, ...]:
        """Gradient health of every activation that finished, layer by layer."""
        return tuple(self._layer(label, i) for label in self.finished for i in range(len(self.places)))

    def _layer(self, label: str, i: int) -> LayerHealth:
        def change(name: str) -> Change:
            return Change(*(median(self.figure(label, stage, name)[:, i]) for stage in STAGES))

        units = change("units")
        return LayerHealth(
            label, self.places[i].label, units.start, change("dead"), change("saturated"), change("gradient")
        )

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """What every activation that finished costs. The time for one element is measured now."""
        return tuple(self._cost(label) for label in self.finished)

    def _cost(self, label: str) -> Cost:
        seconds = self.values(label, SECONDS)
        own = self.values(self.baseline, SECONDS) if self.baseline in self.finished else np.full(len(seconds), np.nan)
        return Cost(
            activation=label,
            seconds=median(seconds),
            relative=median(seconds / own),
            nanoseconds=self._nanoseconds(label),
            nonfinite=float(np.sum(self.values(label, NONFINITE))),
        )

    def _nanoseconds(self, label: str) -> float:
        activation = self.trial.candidates[label].activation
        if activation is None:
            activation = get(label) if find(label) is not None else None
        if activation is None:
            return float("nan")
        row = cost_of(activation, _TIMED)
        return row.training.median * row.copy_nanoseconds

    # Showing ----------------------------------------------------------------------------------------------------------

    def report(self, path: str | Path) -> Path:
        """Write everything as one self-contained HTML page.

        Raises:
            OSError: where the file cannot be written.
        """
        from varphi.report.page import html

        from .tables import sections

        return html(self.results, path, sections=sections(self), again=self._command())

    def _command(self) -> str:
        runs = list(self.results.record["runs"].values())
        return runs[-1]["command"] if runs else ""

    def to_dict(self) -> dict[str, Any]:
        """Everything as data for JSON; infinities and NaN as text."""
        told = ("baseline", "measure", "best", "seeds", "answer", "verdict", "ranking", "gains", "health", "costs")
        rows = [
            {"activation": row.setting["activation"], **row.point, **{m: row.values(m) for m in row.measures}}
            for row in self.results.rows
        ]
        return plain_data(
            {
                "model": self.trial.source.name,
                **{name: getattr(self, name) for name in told},
                "rows": rows,
                "failures": self.failures,
                "places": self.places,
                "storage": self.results.storage,
                "record": self.results.record,
            }
        )

    def __rich__(self) -> Group:
        from .show import show

        return show(self)

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=120, record=True, highlight=False, emoji=False)
        console.print(self)
        return console.export_text()

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(self.trial.candidates)} by {self.measure}: {self.answer}>"


def median(values: np.ndarray) -> float:
    """The median of what was seen."""
    seen = values[~np.isnan(values)]
    return float(np.median(seen)) if len(seen) else float("nan")
