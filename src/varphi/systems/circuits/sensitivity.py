"""Which parameter decides, by SALib: shares of a measure's variance (Sobol), or mean effects of steps (Morris)."""

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
    if base < 2 or base & (base - 1):
        raise ValueError(f"base must be a power of two, got {base!r}")
    sampler, analyser = _salib("sobol")
    problem = _problem(ranges)
    parts = sampler.sample(problem, base, calc_second_order=False, seed=seed)
    values = _measured(measure, ranges, parts)
    found: Any = analyser.analyze(problem, values, calc_second_order=False, seed=seed)

    names = list(ranges)
    return Sobol(*(_by_name(names, found[key]) for key in ("S1", "ST", "S1_conf", "ST_conf")))


@dataclass(frozen=True)
class Morris:
    """Elementary effects: by how much a measure changes when one parameter crosses its whole range, by parameter.

    Attributes:
        mean: the mean of the sizes of the effects (μ*), in the measure's unit (Campolongo et al. 2007).
        error: half the width of its 95 % interval, by bootstrap.
        deviation: the standard deviation of the effects (σ): large where the effect depends on the other parameters.
    """

    mean: Mapping[str, float]
    error: Mapping[str, float]
    deviation: Mapping[str, float]


def morris(
    measure: Callable[[dict[str, Float[np.ndarray, " samples"]]], Float[np.ndarray, " samples"]],
    ranges: Mapping[str, Range],
    *,
    paths: int = 64,
    levels: int = 4,
    seed: int = 0,
) -> Morris:
    """Elementary effects of a measure over ranges of parameters (Morris 1991): cheaper than Sobol's indices.

    Args:
        measure, ranges: as for `sobol`.
        paths: how many; the measure is asked for paths · (number of ranges + 1) samples.
        levels: of each parameter, an even number.
        seed: of the random numbers.

    Raises:
        ImportError: the package SALib is missing.
        ValueError: fewer than two paths, levels that are not even, or as `sobol`.
    """
    if paths < 2:
        raise ValueError(f"paths must be two or more, got {paths!r}")
    if levels < 2 or levels % 2:
        raise ValueError(f"levels must be an even number from 2 on, got {levels!r}")
    sampler, analyser = _salib("morris")
    problem = _problem(ranges)
    parts = sampler.sample(problem, paths, num_levels=levels, seed=seed)
    values = _measured(measure, ranges, parts)
    found: Any = analyser.analyze(problem, parts, values, num_levels=levels, seed=seed)
    names = list(ranges)
    return Morris(*(_by_name(names, found[key]) for key in ("mu_star", "mu_star_conf", "sigma")))


def _salib(method: str) -> tuple[Any, Any]:
    try:
        sampler, analyser = (importlib.import_module(f"SALib.{part}.{method}") for part in ("sample", "analyze"))
    except ImportError:
        raise ImportError("sensitivity analysis needs the package SALib: pip install 'varphi[circuits]'") from None
    return sampler, analyser


def _problem(ranges: Mapping[str, Range]) -> dict[str, Any]:
    if len(ranges) < 2:
        raise ValueError(f"sensitivity compares two or more ranges, got {len(ranges)}")
    return {"num_vars": len(ranges), "names": list(ranges), "bounds": [[0.0, 1.0]] * len(ranges)}


def _measured(measure: Callable[..., Any], ranges: Mapping[str, Range], parts: np.ndarray) -> np.ndarray:
    """The measure of all samples, given as parts of the ranges."""
    values = np.asarray(measure({n: r.at(parts[:, i]) for i, (n, r) in enumerate(ranges.items())}), float)
    lost = int((~np.isfinite(values)).sum())
    if values.shape != (len(parts),) or lost:
        raise ValueError(
            f"the measure gave {lost} numbers that are not finite of {values.size} for {len(parts)} samples: measure "
            "what every sample has"
        )
    return values


def _by_name(names: list[str], values: Any) -> dict[str, float]:
    return {n: float(v) if math.isfinite(v) else math.nan for n, v in zip(names, values, strict=True)}
