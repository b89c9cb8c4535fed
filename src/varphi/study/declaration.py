"""What a study is: a factorial experiment, declared as data before anything runs."""

from __future__ import annotations

import ast
import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from .results import Results
    from .verdict import Verdict

Setting: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Outcome:
    """What one trial measured: one setting, every tuning value, every seed.

    Attributes:
        measures: from a measure's name to an array (tuning values, seeds).
        curves: from a curve's name to an array (tuning values, seeds, checkpoints).
    """

    measures: Mapping[str, np.ndarray]
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)


# Runs one setting with all its seeds and all tuning values as one batch: trial(setting, seeds, tuning, **options).
# The same seed must mean the same data, order and initial weights in every setting: the seeds are paired.
Trial: TypeAlias = Callable[..., Outcome]


@dataclass(frozen=True)
class Tuning:
    """The one free number that each setting may choose, from the same values and by the same rule.

    Attributes:
        name: as the report calls it, "learning rate".
        by: the measure that decides; the value with the lowest median over seeds wins. Never a held-out measure.
    """

    name: str
    by: str


@dataclass(frozen=True)
class Size:
    """How much of a study is run.

    Attributes:
        seeds: how many paired seeds (0, 1, ..., seeds - 1).
        tuning: the values tried for the tuned number, increasing.
        takes: how long it takes, in words, with the machine.
        options: passed on to the trial.
        factors: levels that replace those of the study.
    """

    seeds: int
    tuning: tuple[float, ...]
    takes: str
    options: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A sentence under test.

    Attributes:
        name: a few words for tables.
        quote: the sentence, as the source has it (in translation).
        measure: what is measured and what would support or refute the sentence; set before it is run.
        judge: the same as a function of the results.
    """

    name: str
    quote: str
    measure: str
    judge: Callable[[Results], Verdict]


@dataclass(frozen=True)
class Figure:
    """A drawing and what to see in it."""

    title: str
    caption: str
    drawing: Any  # matplotlib.figure.Figure


@dataclass(frozen=True)
class Study:
    """A question, and how evidence on it is gathered.

    Attributes:
        name: one word, as in `varphi study run NAME`.
        title, question: for people.
        data: the origin of the data.
        factors: from a factor's name to its levels; every combination that `applies` is a setting.
        trial: runs one setting.
        measures: from a measure's name to what it is, in words and units.
        tuning: the number every setting may tune.
        claims: what is tested.
        sizes: "full", "demo" and "smoke".
        answer: one sentence on the question, from the results and the verdicts.
        applies: whether a combination of levels is a setting.
        headline: the measures shown in tables, in order.
        references: rows that need no seeds (baselines), from a row's name to its measures.
        figures: drawings of the results.
        packages: distributions whose versions belong in the record.
    """

    name: str
    title: str
    question: str
    data: str
    factors: Mapping[str, tuple[Any, ...]]
    trial: Trial
    measures: Mapping[str, str]
    tuning: Tuning
    claims: tuple[Claim, ...]
    sizes: Mapping[str, Size]
    answer: Callable[[Results, Sequence[Verdict]], str]
    applies: Callable[[Setting], bool] = lambda setting: True
    headline: tuple[str, ...] = ()
    references: Callable[..., dict[str, dict[str, float]]] | None = None
    figures: Callable[[Results], list[Figure]] | None = None
    packages: tuple[str, ...] = ()

    def size(self, name: str) -> Size:
        """One of the study's sizes.

        Raises:
            ValueError: for another name.
        """
        if name not in self.sizes:
            raise ValueError(f"study {self.name!r} has no size {name!r}; sizes: {', '.join(self.sizes)}")
        return self.sizes[name]

    def settings(self, size: str) -> list[Setting]:
        """Every setting of a size, in the order in which they are run."""
        levels = dict(self.factors) | dict(self.size(size).factors)
        combinations = (dict(zip(levels, values, strict=True)) for values in itertools.product(*levels.values()))
        return [setting for setting in combinations if self.applies(setting)]

    def digest(self, size: str, seeds: Sequence[int]) -> str:
        """A key of everything that decides the numbers: results under different keys are never mixed."""
        chosen = self.size(size)
        text = json.dumps(
            [
                *(self.name, self.settings(size), list(seeds), list(chosen.tuning), dict(chosen.options)),
                *(dict(self.measures), self.tuning.by, [(c.name, c.quote, c.measure) for c in self.claims]),
                _source(self.trial),
            ],
            sort_keys=True,
            default=str,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def key(setting: Setting) -> str:
    """A setting as text: equal settings, equal keys."""
    return json.dumps(setting, sort_keys=True)


def _source(trial: Trial) -> str:
    """The file that the trial is written in, without comments and layout: another trial is another experiment."""
    path = inspect.getsourcefile(trial)
    if path is None or not Path(path).exists():
        raise ValueError(f"the trial {trial!r} must be written in a file, so that its results can be told from others'")
    return ast.dump(ast.parse(Path(path).read_text("utf-8")))
