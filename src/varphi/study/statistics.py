"""Statistics of paired seeds, all by scipy: intervals, exact tests, and the correction for asking many times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL, ALPHA = 0.95, 0.05
Sign: TypeAlias = Literal["lower", "higher", "undecided"]
# Of the bootstrap and of permutation tests over more than 13 seeds (up to 13, all 2^n sign patterns are counted).
RESAMPLES = 9999


@dataclass(frozen=True)
class Superiority:
    """The probability that one of a pair exceeds the other, with its exact (Clopper-Pearson) 95 % interval."""

    probability: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"larger in {self.probability:.0%} of pairs ({self.low:.0%} to {self.high:.0%})"


@dataclass(frozen=True)
class Comparison:
    """A paired difference over seeds.

    Attributes:
        label: what is compared, under which condition.
        difference: its centre: the mean, or the median where a difference is infinite.
        low, high: its 95 % interval: BCa bootstrap of the mean, or the sign test's exact interval of the median.
        p: two-sided, that the differences are symmetric about 0 (sign-flip permutation, or sign test).
        seeds: how many pairs.
        method: which of the two was used.
        adjusted: p after Holm's correction over its family; p itself until then.
        superiority: the effect size: how often the first is the larger, a tie counting half. It needs no unit and no
            finite mean; 0.5 is no effect.
        detectable: the smallest mean difference that this many pairs with this scatter show with 80 % power (paired t
            at the family's corrected level); NaN where a difference is infinite.
    """

    label: str
    difference: float
    low: float
    high: float
    p: float
    seeds: int
    method: str
    adjusted: float
    superiority: Superiority
    detectable: float

    @property
    def sign(self) -> Sign:
        """Whether the first is lower or higher than the second, after Holm's correction; or undecided."""
        if self.adjusted >= ALPHA:
            return "undecided"
        # The sign test can find a difference whose median is 0: many ties, and the other pairs all to one side.
        centre = self.difference or self.superiority.probability - 0.5
        return "higher" if centre > 0 else "lower"

    @property
    def significant(self) -> bool:
        """Whether the sign is decided."""
        return self.sign != "undecided"

    def __str__(self) -> str:
        return (
            f"{self.label}: {number(self.difference)} [{number(self.low)}, {number(self.high)}], "
            f"p = {self.adjusted:.2g} (Holm), {self.superiority}, n = {self.seeds}"
        )


def paired(first: Float[np.ndarray, " seeds"], second: Float[np.ndarray, " seeds"], label: str = "") -> Comparison:
    """`first` - `second`, seed by seed.

    Infinite values stand for "no finite result" and compare as such; NaN (a run that diverged) counts as +inf.

    Args:
        first, second: one value for each seed, in the same order.

    Raises:
        ValueError: for different lengths or fewer than two seeds.
    """
    a, b = (np.where(np.isnan(v), math.inf, v) for v in (np.asarray(first, float), np.asarray(second, float)))
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"paired values need two equal lists of at least 2 seeds, got shapes {a.shape} and {b.shape}")
    # Two infinities of one sign are a tie, not NaN.
    with np.errstate(invalid="ignore"):
        differences = np.where(a == b, 0.0, a - b)
    if not np.isfinite(differences).all():
        return _by_sign(differences, label)
    return _by_mean(differences, label)


def _by_mean(d: np.ndarray, label: str) -> Comparison:
    mean = float(d.mean())
    if np.ptp(d) <= 1e-12 * np.abs(d).max():
        # All pairs differ by the same amount (to rounding): nothing to resample, and BCa's acceleration would be 0/0.
        p = 1.0 if mean == 0 else 2.0 ** (1 - len(d))
        return Comparison(label, mean, mean, mean, p, len(d), "all equal", p, _superiority(d), 0.0)
    rng = np.random.default_rng(0)
    interval = stats.bootstrap(
        (d,), np.mean, confidence_level=LEVEL, method="BCa", n_resamples=RESAMPLES, rng=rng
    ).confidence_interval
    test = stats.permutation_test(
        (d,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=RESAMPLES, rng=rng
    )
    p = min(1.0, float(test.pvalue))
    low, high = float(interval.low), float(interval.high)
    return Comparison(label, mean, low, high, p, len(d), "mean, permutation", p, _superiority(d), _detectable(d))


def _by_sign(d: np.ndarray, label: str) -> Comparison:
    # Pairs without a difference say nothing on its sign; the test is of the others.
    test = stats.quantile_test(d[d != 0], q=0, p=0.5)
    ordered = np.sort(d)
    # Order statistics of all pairs; between infinities of opposite sign there is no centre to interpolate.
    middle = ordered[(len(d) - 1) // 2], ordered[len(d) // 2]
    median = float(middle[0] if middle[0] == middle[1] else np.mean(middle))
    k = int(stats.binom.ppf(ALPHA / 2, len(d), 0.5))
    low, high = (float(ordered[k - 1]), float(ordered[len(d) - k])) if k > 0 else (-math.inf, math.inf)
    p = min(1.0, float(test.pvalue))
    return Comparison(label, median, low, high, p, len(d), "median, sign test", p, _superiority(d), math.nan)


def _superiority(d: np.ndarray) -> Superiority:
    larger, ties = int((d > 0).sum()), int((d == 0).sum())
    # Half a win is none to the lower end of the interval and a whole one to the upper: the safe side of both.
    least, most = larger + ties // 2, larger + (ties + 1) // 2
    low, high = (stats.binomtest(k, len(d)).proportion_ci(LEVEL, method="exact") for k in (least, most))
    return Superiority((larger + ties / 2) / len(d), float(low.low), float(high.high))


POWER = 0.8


def _detectable(d: np.ndarray) -> float:
    degrees = len(d) - 1
    quantiles = stats.t.ppf((1 + LEVEL) / 2, degrees) + stats.t.ppf(POWER, degrees)
    return float(quantiles * d.std(ddof=1) / math.sqrt(len(d)))


def least_p(seeds: int) -> float:
    """The smallest p that `paired` can give with so many seeds: all pairs differ in the same direction."""
    return max(2.0 ** (1 - seeds), 2 / (RESAMPLES + 1))


def enough_seeds(seeds: int, family: int = 1) -> bool:
    """Whether any of `family` comparisons could become significant after Holm's correction."""
    return family * least_p(seeds) < ALPHA


def fewest_seeds(family: int = 1) -> int:
    """How many seeds it takes for that.

    Raises:
        ValueError: for a family so large that resampling cannot resolve its corrected level.
    """
    if not enough_seeds(64, family):
        raise ValueError(f"{RESAMPLES} resamples cannot tell anything of a family of {family} comparisons")
    return next(n for n in range(2, 65) if enough_seeds(n, family))


def holm(family: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons with p adjusted so that the chance of any false one stays below 5 % (Holm 1979)."""
    order = sorted(range(len(family)), key=lambda i: family[i].p)
    adjusted, worst = [0.0] * len(family), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(family) - rank) * family[i].p))
        adjusted[i] = worst
    return tuple(
        replace(c, adjusted=p, detectable=c.detectable * _strictness(c.seeds, len(family)))
        for c, p in zip(family, adjusted, strict=True)
    )


def _strictness(seeds: int, family: int) -> float:
    """How much larger a difference must be to show at a family's corrected level than at 5 %."""
    alone, corrected = (stats.t.ppf(1 - ALPHA / (2 * m), seeds - 1) for m in (1, family))
    power = stats.t.ppf(POWER, seeds - 1)
    return float((corrected + power) / (alone + power))


@dataclass(frozen=True)
class Share:
    """k of n, with the exact (Clopper-Pearson) 95 % interval."""

    count: int
    total: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.count} of {self.total} ({self.low:.1%} to {self.high:.1%})"


def share(events: np.ndarray) -> Share:
    """How often something happened."""
    hits = np.asarray(events, bool).ravel()
    if not len(hits):
        raise ValueError("a share needs at least one run")
    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(LEVEL, method="exact")
    return Share(int(hits.sum()), len(hits), float(interval.low), float(interval.high))


def number(value: float) -> str:
    """A number as tables show it: four significant digits, infinities and NaN by name."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.4g}"


def numbers(*values: float) -> tuple[str, ...]:
    """Numbers that stand side by side: with as many decimals as any of them has, up to four significant digits each."""
    alone = [number(value) for value in values]
    # What is written with an exponent has no place after the point to share.
    decimals = max((_decimals(text) for text in alone if "e" not in text), default=0)
    return tuple(_padded(value, text, decimals) for value, text in zip(values, alone, strict=True))


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _padded(value: float, text: str, decimals: int) -> str:
    if value == 0 or not math.isfinite(value) or "e" in text:
        return text
    four = 3 - math.floor(math.log10(abs(float(text))))
    return f"{float(text):.{max(0, min(decimals, four), _decimals(text))}f}"
