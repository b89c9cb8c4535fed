"""Which parameter decides: the shares of a measure's variance over random parameters (Sobol's indices, by SALib)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from .sampling import Range


@dataclass(frozen=True)
class Sobol:
    """Shares of a measure's variance, by parameter.

    Attributes:
        first: what each parameter explains alone (Sobol's first-order index).
        total: what it explains with all its interactions.
        first_error, total_error: half the width of the 95 % intervals, by bootstrap.
    """

    first: Mapping[str, float]
    total: Mapping[str, float]
    first_error: Mapping[str, float]
    total_error: Mapping[str, float]


def sobol(
    measure: Callable[[dict[str, Float[np.ndarray, " samples"]]], Float[np.ndarray, " samples"]],
    ranges: Mapping[str, Range],
    *,
    base: int = 512,
    seed: int = 0,
) -> Sobol:
    """Sobol's indices of a measure over ranges of parameters.

    Args:
        measure: from parameters (samples,) by name to a number for each sample, all samples in one call.
        ranges: two or more.
        base: a power of two; the measure is asked for base · (number of ranges + 2) samples.
        seed: of the random numbers.

    Raises:
        ImportError: the package SALib is missing.
        ValueError: fewer than two ranges, a base that is no power of two, or a measure that is not finite everywhere
            (as an absent pulse is not: measure what every sample has, or where there is one, yes or no).
    """
    if len(ranges) < 2:
        raise ValueError(f"sensitivity compares two or more ranges, got {len(ranges)}")
    if base < 2 or base & (base - 1):
        raise ValueError(f"base must be a power of two, got {base!r}")
    try:
        sampler, analyser = (importlib.import_module(f"SALib.{part}.sobol") for part in ("sample", "analyze"))
    except ImportError:
        raise ImportError("Sobol's indices need the package SALib: pip install 'varphi[circuits]'") from None
    names = list(ranges)
    problem = {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}
    parts = sampler.sample(problem, base, calc_second_order=False, seed=seed)
    values = np.asarray(measure({n: ranges[n].at(parts[:, i]) for i, n in enumerate(names)}), float)
    lost = int((~np.isfinite(values)).sum())
    if values.shape != (len(parts),) or lost:
        raise ValueError(
            f"the measure gave {lost} numbers that are not finite of {values.size} for {len(parts)} samples: measure "
            "what every sample has"
        )
    found: Any = analyser.analyze(problem, values, calc_second_order=False, seed=seed)

    def by_name(key: str) -> dict[str, float]:
        return {n: float(v) if math.isfinite(v) else math.nan for n, v in zip(names, found[key], strict=True)}

    return Sobol(by_name("S1"), by_name("ST"), by_name("S1_conf"), by_name("ST_conf"))
