"""Random parameter sets: ranges by name, drawn as arrays that ensembles take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Range:
    """Where a parameter lies.

    Attributes:
        low, high: its ends.
        scale: "log" spreads the decades evenly, "linear" the values.

    Raises:
        ValueError: ends that are not finite and increasing, or a logarithmic range from 0 or below.
    """

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range has finite, increasing ends, got {self.low!r} to {self.high!r}")
        if self.scale not in ("log", "linear"):
            raise ValueError(f"the scale of a range is 'log' or 'linear', got {self.scale!r}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, got {self.low!r}")

    @staticmethod
    def read(text: str) -> Range:
        """A range as a text: "0.1:10" (logarithmic) or "0.1:10:linear".

        Raises:
            ValueError: for another text.
        """
        low, colon, rest = text.partition(":")
        high, _, scale = rest.partition(":")
        try:
            ends = float(low), float(high)
        except ValueError:
            colon = ""
            ends = 0.0, 1.0
        if not colon or scale not in ("", "log", "linear"):
            raise ValueError(f"a range is LOW:HIGH or LOW:HIGH:linear, as in 0.1:10; got {text!r}")
        return Range(*ends, scale="linear" if scale == "linear" else "log")

    def at(self, part: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The values at parts from 0 to 1 of the range."""
        if self.scale == "log":
            return np.exp(math.log(self.low) + part * (math.log(self.high) - math.log(self.low)))
        return self.low + part * (self.high - self.low)

    def slope(self, value: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """How fast values change with the part of the range, at these values."""
        if self.scale == "log":
            return value * (math.log(self.high) - math.log(self.low))
        return np.full_like(value, self.high - self.low)


def sampled(ranges: Mapping[str, Range], samples: int, seed: int = 0) -> dict[str, Float[np.ndarray, " samples"]]:
    """Independent random values of several parameters.

    A parameter's values depend on the seed and its place among the ranges.

    Raises:
        ValueError: no ranges, or fewer than one sample.
    """
    if not ranges:
        raise ValueError("no parameter has a range")
    if not (isinstance(samples, int) and samples > 0):
        raise ValueError(f"samples must be a whole number above 0, got {samples!r}")
    streams = np.random.default_rng(seed).spawn(len(ranges))
    return {name: r.at(g.random(samples)) for (name, r), g in zip(ranges.items(), streams, strict=True)}
