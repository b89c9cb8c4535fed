"""Handwritten digits, 8 × 8 pixels, as scikit-learn brings them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

ORIGIN = (
    "Optical recognition of handwritten digits (Alpaydin & Kaynak, UCI repository, 1998; CC BY 4.0), `load_digits` in "
    "scikit-learn: 1797 images of 8 × 8 pixels, divided by 16 into [0, 1]. Each seed splits them anew: 1200 to fit, "
    "200 to tell when to stop, 397 held out."
)
FIT, VALIDATION = 1200, 200
SIDE, CLASSES = 8, 10


class Part(NamedTuple):
    """Images and classes, one set for each seed."""

    x: Float[Tensor, "seeds rows pixels"]
    y: Int[Tensor, "seeds rows"]


class Split(NamedTuple):
    """What is fitted, what says when to stop, and what is measured on."""

    fit: Part
    validation: Part
    held_out: Part


@functools.cache
def digits() -> tuple[Float[Tensor, "1797 64"], Int[Tensor, "1797"]]:
    """All images, in [0, 1], and their classes.

    Raises:
        ImportError: where scikit-learn is missing, naming the command that installs it.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits are part of scikit-learn: pip install 'varphi[certified]'") from error
    found: Any = load_digits()
    return torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target, dtype=torch.long)


def split(seeds: Sequence[int]) -> Split:
    """The digits in three parts, at random for each seed."""
    x, y = digits()
    orders = torch.stack([torch.from_numpy(np.random.default_rng(seed).permutation(len(x))) for seed in seeds])
    places = (slice(None, FIT), slice(FIT, FIT + VALIDATION), slice(FIT + VALIDATION, None))
    return Split(*(Part(x[orders[:, place]], y[orders[:, place]]) for place in places))
