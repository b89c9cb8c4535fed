"""From numbers to a verdict on a claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .statistics import Comparison, enough_seeds, fewest_seeds, holm, least_p, number

Status: TypeAlias = Literal["supported", "refuted", "only if", "undecided", "not enough seeds"]


@dataclass(frozen=True)
class Verdict:
    """What the measurements say of a claim.

    Attributes:
        status: "supported", "refuted", "only if" (under `condition`), "undecided" (no difference beyond chance), or
            "not enough seeds" (whatever was measured, so few could not have told).
        evidence: the number behind it.
        condition: for "only if", when the claim holds.
        comparisons: the paired tests it rests on, adjusted; empty where counts or proofs decide.
    """

    status: Status
    evidence: str
    condition: str = ""
    comparisons: tuple[Comparison, ...] = ()

    def __str__(self) -> str:
        status = f"only if {self.condition}" if self.status == "only if" else self.status
        return f"{status}: {self.evidence}"


def judged(family: Sequence[Comparison], *, conditions: Sequence[tuple[str, str]]) -> Verdict:
    """The verdict on "the difference is positive", asked under several conditions at once.

    Supported where it is significantly positive under every condition; refuted where it is significantly negative under
    some condition and positive under none; "only if" where it is positive under some; else undecided, with the
    difference that would have shown; or not enough seeds, where no outcome could have been significant.

    Args:
        family: one comparison for each condition; p is adjusted here.
        conditions: the conditions in words, as (what, where): where it holds everywhere, the verdict says only what.
    """
    if len(family) != len(conditions) or not family:
        raise ValueError(f"{len(family)} comparisons need as many conditions, got {len(conditions)}")
    seeds = min(c.seeds for c in family)
    if not enough_seeds(seeds, len(family)):
        return Verdict("not enough seeds", _too_few(seeds, len(family)), comparisons=holm(family))
    adjusted = holm(family)
    positive = [n for n, c in zip(conditions, adjusted, strict=True) if c.sign == "higher"]
    negative = [n for n, c in zip(conditions, adjusted, strict=True) if c.sign == "lower"]
    if len(positive) == len(adjusted):
        return Verdict("supported", _extremes(adjusted), comparisons=adjusted)
    if positive:
        evidence = (
            f"{len(positive)} of {len(adjusted)} conditions for it, {len(negative)} against; {_extremes(adjusted)}"
        )
        return Verdict("only if", evidence, _condensed(positive, conditions), adjusted)
    if negative:
        evidence = f"the opposite in {len(negative)} of {len(adjusted)} conditions; {_extremes(adjusted)}"
        return Verdict("refuted", evidence, comparisons=adjusted)
    return Verdict(
        "undecided", f"no difference beyond chance; {_extremes(adjusted)}{_resolution(adjusted)}", "", adjusted
    )


def _too_few(seeds: int, family: int) -> str:
    best = min(1.0, family * least_p(seeds))
    return (
        f"{seeds} seeds and {family} comparison{'s' if family > 1 else ''} give p = {best:.2g} at best (Holm); "
        f"{fewest_seeds(family)} seeds could tell"
    )


def _resolution(family: Sequence[Comparison]) -> str:
    """What these seeds could have shown."""
    finite = [c.detectable for c in family if math.isfinite(c.detectable)]
    return f"; a difference of {number(max(finite))} would have shown (80 % power)" if finite else ""


def _condensed(positive: Sequence[tuple[str, str]], conditions: Sequence[tuple[str, str]]) -> str:
    told = []
    for what in dict.fromkeys(what for what, _ in positive):
        here = [where for w, where in positive if w == what]
        everywhere = len(here) == sum(w == what for w, _ in conditions)
        told.append(what if everywhere else f"{what} ({'; '.join(here)})")
    return " or ".join(told)


def _extremes(family: Sequence[Comparison]) -> str:
    """The one comparison, or the smallest and the largest."""

    def told(c: Comparison) -> str:
        return f"{number(c.difference)} [{number(c.low)}, {number(c.high)}]"

    if len(family) == 1:
        return f"{told(family[0])}, p = {family[0].adjusted:.2g}"
    ordered = sorted(family, key=lambda c: c.difference)
    return f"differences from {told(ordered[0])} to {told(ordered[-1])} ({family[0].seeds} paired seeds)"
