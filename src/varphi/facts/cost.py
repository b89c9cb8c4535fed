"""What an activation costs: its time beside that of copying the tensor it is applied to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from varphi.activation.lookup import ActivationLike, as_activation

SIZES = (2**12, 2**16, 2**20)
_ROUNDS = 25
_SAMPLE_SECONDS = 4e-4  # one sample repeats a call for about so long


@dataclass(frozen=True)
class Ratio:
    """A time as a multiple of that of the copy: the median over rounds, and the quartiles."""

    median: float
    lower: float
    upper: float

    def __float__(self) -> float:
        return self.median


@dataclass(frozen=True)
class CostAt:
    """The cost at one number of elements.

    Attributes:
        size: the number of elements.
        copy_nanoseconds: the median time of `x.clone()` per element.
        forward: f(x) without gradient, as a multiple of the copy.
        training: f(x) with gradient and its backward pass, as a multiple of the copy.
    """

    size: int
    copy_nanoseconds: float
    forward: Ratio
    training: Ratio


@dataclass(frozen=True)
class Cost:
    """Times of an activation in float32 on this machine's CPU.

    Attributes:
        name: the activation.
        threads: how many threads torch used.
        rows: one for each size.
        method: always "measured".
    """

    name: str
    threads: int
    rows: tuple[CostAt, ...]
    method: str = "measured"

    def at(self, size: int) -> CostAt:
        """The row of a measured size."""
        for row in self.rows:
            if row.size == size:
                return row
        raise KeyError(f"{self.name} was timed at sizes {', '.join(str(r.size) for r in self.rows)}, not at {size}")


def cost(activation: ActivationLike, sizes: Sequence[int] = SIZES) -> Cost:
    """The time per element of an activation, forward and in training, relative to a copy of the tensor.

    The three are timed in turn, round after round, so that a slow moment of the machine falls on all of them.
    Run it on an idle machine: a ratio within its quartiles is what it can tell.

    Args:
        activation: a name, a formula, an activation, a torch callable or module.
        sizes: numbers of elements, each >= 1.
    """
    if not sizes or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in sizes):
        raise ValueError(f"sizes must be whole numbers >= 1, got {tuple(sizes)!r}")
    layer = as_activation(activation)
    rows = tuple(cost_of(layer, size) for size in sizes)
    return Cost(layer.name, torch.get_num_threads(), rows)


def cost_of(function: Callable[[Tensor], Tensor], size: int) -> CostAt:
    """The cost of any differentiable function of a tensor, at one size: what `cost` measures of an activation."""
    x = torch.randn(size, generator=torch.Generator().manual_seed(0))
    leaf = x.clone().requires_grad_()
    grad = torch.ones_like(x)

    def forward() -> None:
        with torch.no_grad():
            function(x)

    def training() -> None:
        leaf.grad = None
        function(leaf).backward(grad)

    copy, *others = _interleaved([x.clone, forward, training])
    forward_ratio, training_ratio = (_ratio(times, copy) for times in others)
    return CostAt(size, 1e9 * statistics.median(copy) / size, forward_ratio, training_ratio)


def _interleaved(calls: Sequence[Callable[[], object]]) -> list[list[float]]:
    """Seconds per call of each, measured in turn; the first calls, which may compile, are not counted."""
    repeats = []
    for call in calls:
        call()
        call()
        repeats.append(max(1, round(_SAMPLE_SECONDS / max(_seconds(call, 3), 1e-7))))
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(_ROUNDS):
        for call, count, found in zip(calls, repeats, times, strict=True):
            found.append(_seconds(call, count))
    return times


def _seconds(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def _ratio(times: Sequence[float], copy: Sequence[float]) -> Ratio:
    ratios = [t / c for t, c in zip(times, copy, strict=True)]
    lower, median, upper = statistics.quantiles(ratios, n=4)
    return Ratio(median, lower, upper)
