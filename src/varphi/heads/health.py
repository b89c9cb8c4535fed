"""Whether the outputs of a head can still learn."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class HeadReport:
    """What a head does with a batch of pre-activations.

    Attributes:
        samples, outputs: the size of the batch.
        exact_zeros: the share of the head's values that are exactly 0.
        dead: for each pre-activation, whether its slope is exactly 0 on every sample: no loss can move it.
        saturated: the share of slopes below `threshold` times the largest slope of the activation (times 1 where that
            is unbounded).
        nonfinite: the share of values that are NaN or infinite.
        threshold: what counted as saturated.
    """

    samples: int
    outputs: int
    exact_zeros: float
    dead: Bool[Tensor, " outputs"]
    saturated: float
    nonfinite: float
    threshold: float

    @property
    def dead_outputs(self) -> int:
        return int(self.dead.sum())

    def __str__(self) -> str:
        return (
            f"{self.dead_outputs} of {self.outputs} outputs dead, {self.saturated:.1%} saturated "
            f"(slope < {self.threshold:g} of the largest), {self.exact_zeros:.1%} exact zeros, "
            f"{self.nonfinite:.1%} not finite, over {self.samples} samples"
        )
