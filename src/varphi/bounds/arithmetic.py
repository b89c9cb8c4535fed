"""How bounds are rounded: what is added so that they hold in spite of floating-point arithmetic.

One bound serves two roundings at once. A sum of n products, in any order, with or without fused operations, is off by
at most γ_n·Σ|a||b| with γ_n = n·u/(1 - n·u) and u half the spacing at 1 (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., 2002, sec. 3.1). The model's own forward pass rounds once, and varphi's coefficients, pushed
backward through the same layer, once more: both errors are at most γ_n·(|W||x| + |b|) there, so twice that is charged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Name: TypeAlias = Literal["sound32", "float64", "fast"]
NAMES: tuple[Name, ...] = ("sound32", "float64", "fast")


@dataclass(frozen=True)
class Arithmetic:
    """A format to compute bounds in, and whether to pay for its rounding.

    Attributes:
        dtype: the format.
        sound: whether bounds hold in spite of rounding.
    """

    dtype: torch.dtype
    sound: bool

    @cached_property
    def eps(self) -> float:
        return torch.finfo(self.dtype).eps

    @cached_property
    def least(self) -> float:
        """More than what one operation loses by underflow."""
        return 4 * torch.finfo(self.dtype).tiny

    def gamma(self, terms: int) -> float:
        """What two roundings of a sum of so many products may be off, as a share of Σ|a||b|."""
        share = (terms + 8) * self.eps
        if share > 0.5:
            raise ValueError(f"sums of {terms} terms cannot be bounded in {self.dtype}; use arithmetic='float64'")
        return 1.1 * share

    def down(self, x: Tensor, operations: int = 4) -> Tensor:
        """Below what a few operations on numbers of the size of x would give exactly."""
        return x - (x.abs() * (operations * self.eps) + self.least) if self.sound else x

    def up(self, x: Tensor, operations: int = 4) -> Tensor:
        return x + (x.abs() * (operations * self.eps) + self.least) if self.sound else x


def arithmetic(name: str | None, dtype: torch.dtype, device: torch.device) -> Arithmetic:
    """The arithmetic called `name`, for a model of a format.

    Args:
        name: "sound32", "float64", "fast", or None: sound in the model's own format.

    Raises:
        ValueError: for another name, a model that is not of float32 or float64, "sound32" for a model of
            float64, or sound arithmetic where the device may multiply in TF32.
    """
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"bounds need a model of float32 or float64, got {dtype}; convert it with model.float()")
    if name is None:
        name = "sound32" if dtype is torch.float32 else "float64"
    if name not in NAMES:
        raise ValueError(f"arithmetic is one of {', '.join(map(repr, NAMES))}, got {name!r}")
    if name == "sound32" and dtype is torch.float64:
        raise ValueError("the model is of float64, which float32 cannot hold: use arithmetic='float64'")
    if (
        name != "fast"
        and device.type == "cuda"
        and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)
    ):
        raise ValueError(
            "with TF32 a product of float32 is rounded to 10 bits, for which no bound holds: set "
            "torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32 to False"
        )
    if name == "fast":
        return Arithmetic(dtype, False)
    return Arithmetic(torch.float32 if name == "sound32" else torch.float64, True)
