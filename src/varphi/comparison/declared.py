"""A comparison as a study: declared as data before any training is run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from varphi.study.declaration import Claim, Figure, Size, Study, Tuning
from varphi.study.ranking import Best, Contest
from varphi.study.results import Results
from varphi.study.search import Range, Search
from varphi.study.statistics import Comparison as Difference
from varphi.study.statistics import Sign, enough_seeds, fewest_seeds, holm, number, numbers, paired
from varphi.study.verdict import Verdict, judged

from .trial import DECIDING, NONFINITE, SECONDS, Trial, keyword

# What a tuned number may be given as: (low, high), or a Range.
Ends: TypeAlias = "tuple[float, float] | Range"
SIZE = "full"


def study(
    trial: Trial, *, seeds: int, fingerprint: str, space: Mapping[str, Range], points: int, data: str = ""
) -> Study:
    """The study of a trial's candidates, one setting each."""
    labels = tuple(trial.candidates)
    own, measure = labels[0], trial.measures[0]
    name = trial.source.name
    deciding = {DECIDING: _deciding(trial)} if trial.tuned_by else {}
    return Study(
        name=f"compare-{name}",
        title=f"Activations in {name}",
        question=f"Which activation does {name} do best with?",
        data=data or "as the training makes it",
        factors={"activation": labels},
        trial=trial,
        measures={
            **{m: _described(m, trial) for m in trial.measures},
            SECONDS: "seconds that the training took, evaluation included",
            NONFINITE: "calls of the model whose output held NaN or infinity",
            **deciding,
        },
        claims=(_claim(own, labels[1:], measure, trial.best),),
        sizes={SIZE: Size(seeds=seeds, tuning=Search(space, points) if space else ())},
        answer=Answer(own),
        figures=drawn,
        tuning=Tuning(by=DECIDING) if space else None,
        batched=False,
        headline=(*trial.measures, SECONDS, NONFINITE),
        contests=(Contest(f"{measure}, {trial.best} wins", measure, ("activation",), at={}, best=trial.best),),
        fingerprint=fingerprint,
    )


def ranges(tune: Mapping[str, Ends]) -> dict[str, Range]:
    """The ranges of tuned numbers; (low, high) is logarithmic where both are positive and high is 10 times low or more.

    Raises:
        ValueError: for what is no range, or a name that fit gets already.
    """
    found: dict[str, Range] = {}
    for name, ends in tune.items():
        if keyword(name) in ("seed", *map(keyword, found)):
            raise ValueError(f"a number to tune cannot be called {name!r}: fit gets {keyword(name)}= already")
        if isinstance(ends, Range):
            found[name] = ends
            continue
        try:
            low, high = map(float, ends)
        except (TypeError, ValueError):
            raise ValueError(f"tune[{name!r}] must be (low, high) or a Range, got {ends!r}") from None
        found[name] = Range(low, high, log=0 < 10 * low <= high)
    return found


def drawn(results: Results) -> list[Figure]:
    """The drawings of a page; matplotlib is imported only for them."""
    from .figures import figures

    return figures(results)


def _described(measure: str, trial: Trial) -> str:
    if measure == trial.measures[0]:
        return f"what fit returns; {'low' if trial.best == 'lowest' else 'high'} is good, and it decides"
    return "what fit returns besides"


def _deciding(trial: Trial) -> str:
    sign = "" if trial.best == "lowest" else "minus "
    return f"{sign}{trial.tuned_by}, by which tuned numbers are chosen"


# The verdict ----------------------------------------------------------------------------------------------------------


def _claim(own: str, others: tuple[str, ...], measure: str, best: Best) -> Claim:
    return Claim(
        name="another activation is better",
        quote=f"Another of these activations does better than {own}, which the model has.",
        measure=(
            f"Gain in {measure}, seed by seed: positive where the other one is better; all others are one family. "
            "Supported where one of them is better, refuted where all are worse."
        ),
        judge=Judge(own, others, measure, best),
    )


@dataclass(frozen=True)
class Judge:
    """The verdict on "another activation is better", from one paired comparison for each that finished."""

    own: str
    others: tuple[str, ...]
    measure: str
    best: Best

    def __call__(self, results: Results) -> Verdict:
        finished = results.levels("activation")
        if self.own not in finished:
            return Verdict("undecided", f"{self.own}, the model's own activation, failed: there is no baseline")
        gains = [self.gain(results, other) for other in self.others if other in finished]
        if not gains:
            return Verdict("undecided", "every other activation failed")
        if not enough_seeds(len(results.seeds), len(gains)):
            return judged(gains, conditions=[("", "")] * len(gains))
        family = holm(gains)
        found = by_finding(results, self.own, family)
        status = "supported" if "better" in found else "refuted" if set(found) == {"worse"} else "undecided"
        return Verdict(status, f"{_listed(found, family)}{_resolution(family)}", comparisons=family)

    def gain(self, results: Results, other: str) -> Difference:
        """How much better another activation is than the model's own, seed by seed; NaN counts as the worst."""
        worst = math.inf if self.best == "lowest" else -math.inf
        mine, its = (_or_worst(results.values(self.measure, activation=a), worst) for a in (self.own, other))
        if self.best == "lowest":
            return paired(mine, its, f"{self.own} - {other}")
        return paired(its, mine, f"{other} - {self.own}")


def _or_worst(values: np.ndarray, worst: float) -> np.ndarray:
    return np.where(np.isnan(values), worst, values)


Finding: TypeAlias = Literal["better", "worse", "not told apart", "not enough seeds to tell"]


_FINDINGS: dict[Sign, Finding] = {"higher": "better", "lower": "worse", "undecided": "not told apart"}


def finding(gain: Difference, family: int) -> Finding:
    """What one adjusted gain of a family says."""
    if not enough_seeds(gain.seeds, family):
        return "not enough seeds to tell"
    return _FINDINGS[gain.sign]


def by_finding(results: Results, own: str, family: Sequence[Difference]) -> dict[Finding, list[str]]:
    """The others that finished, by what is found of them against the model's own."""
    others = [label for label in results.levels("activation") if label != own]
    found: dict[Finding, list[str]] = {}
    for label, gain in zip(others, family, strict=True):
        found.setdefault(finding(gain, len(family)), []).append(label)
    return {what: found[what] for what in _ORDER if what in found}


_ORDER: tuple[Finding, ...] = ("better", "worse", "not told apart", "not enough seeds to tell")


def _listed(found: Mapping[Finding, Sequence[str]], family: Sequence[Difference]) -> str:
    """Who is better, worse and not told apart, with the extremes of all gains."""
    ordered = sorted(family, key=lambda gain: gain.difference)
    told = interval(ordered[0]) if len(family) == 1 else f"from {interval(ordered[0])} to {interval(ordered[-1])}"
    return f"{_words(found)}; gains {told} ({family[0].seeds} paired seeds)"


def interval(gain: Difference) -> str:
    """A gain with its 95 % interval."""
    value, low, high = numbers(gain.difference, gain.low, gain.high)
    return f"{value} [{low}, {high}]"


def _words(found: Mapping[Finding, Sequence[str]]) -> str:
    return "; ".join(f"{what}: {', '.join(labels)}" for what, labels in found.items())


def _resolution(family: Sequence[Difference]) -> str:
    """What would have shown, where something did not."""
    unseen = [g.detectable for g in family if not g.significant and math.isfinite(g.detectable)]
    return f"; a difference of {number(max(unseen))} would have shown (80 % power)" if unseen else ""


@dataclass(frozen=True)
class Answer:
    """The question answered in two sentences: who is best, and what that means for the model's own."""

    own: str

    def __call__(self, results: Results, verdicts: Sequence[Verdict]) -> str:
        ranked = [found.sentence() for _, found in results.rankings]
        first = ranked[0] if ranked else "Fewer than two activations finished on every seed."
        (verdict,) = verdicts
        if not verdict.comparisons:
            return f"{first} {verdict.evidence[0].upper()}{verdict.evidence[1:]}."
        return f"{first} {self._against_own(results, verdict)}"

    def _against_own(self, results: Results, verdict: Verdict) -> str:
        family = len(verdict.comparisons)
        if verdict.status == "not enough seeds":
            return (
                f"Nor can they tell {'it' if family == 1 else f'any of the {family} others'} from {self.own}, the "
                f"model's own; {fewest_seeds(family)} could."
            )
        found = by_finding(results, self.own, verdict.comparisons)
        return f"Against {self.own}, the model's own: {_words(found)}."
