"""The model of a field: a net on the scaled domain, in a form that fulfils hard conditions whatever the net gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.activation.lookup import ActivationLike, as_activation


@dataclass(frozen=True, eq=False)
class Hard:
    """u = g + φN: u is g where φ is 0.

    Attributes:
        phi: from points (..., d) to (..., 1), of torch operations.
        g: likewise; None: 0.
    """

    phi: Callable[[Any], Any]
    g: Callable[[Any], Any] | None = None


class Field(nn.Module):
    """A net as a field over a domain.

    Args:
        net: takes (..., features), gives (..., outputs). The features are the coordinates scaled to [-1, 1]; a
            periodic one is replaced by cos and sin of its angle, which follow all others.
        hard: for each output how it fulfils its hard conditions, or None; one for all outputs.
        lower, upper: of the box that is scaled, (d,); not given: the coordinates as they are.
        periodic: the axes that are periodic, from lower to upper.

    Raises:
        ValueError: where a periodic axis has no ends.
    """

    lower: Tensor
    upper: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        hard: Hard | Sequence[Hard | None] | None = None,
        lower: Sequence[float] | Tensor | None = None,
        upper: Sequence[float] | Tensor | None = None,
        periodic: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if (lower is None) != (upper is None) or (periodic and lower is None):
            raise ValueError("a field is scaled by lower and upper together, and periodic axes need both")
        self.net = net
        self.hard = tuple(hard) if isinstance(hard, Sequence) else (hard,)
        self.periodic = tuple(periodic)
        self.scaled = lower is not None
        # Not part of the state: they belong to the problem.
        self.register_buffer("lower", torch.as_tensor([] if lower is None else lower).double(), persistent=False)
        self.register_buffer("upper", torch.as_tensor([] if upper is None else upper).double(), persistent=False)

    def extra_repr(self) -> str:
        """What is fulfilled by form."""
        hard = "".join("h" if h else "-" for h in self.hard)
        return f"hard={hard}, periodic={self.periodic}"

    def features(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... features"]:
        """What the net is given."""
        if not self.scaled:
            return x
        z = (x - self.lower.to(x.dtype)) * (2 / (self.upper - self.lower)).to(x.dtype) - 1.0
        if not self.periodic:
            return z
        plain = [z[..., i : i + 1] for i in range(z.shape[-1]) if i not in self.periodic]
        angles = [math.pi * z[..., i : i + 1] for i in self.periodic]
        return torch.cat([*plain, *(f(a) for a in angles for f in (torch.cos, torch.sin))], -1)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... outputs"]:
        """The field at points."""
        n = self.net(self.features(x))
        if len(self.hard) == 1:
            return _formed(self.hard[0], x, n)
        return torch.cat([_formed(h, x, n[..., i : i + 1]) for i, h in enumerate(self.hard)], -1)


def _formed(hard: Hard | None, x: Any, n: Any) -> Any:
    if hard is None:
        return n
    bent = hard.phi(x) * n
    return bent if hard.g is None else hard.g(x) + bent


@dataclass(frozen=True)
class MLP:
    """A plan of a plain net: `fit` builds it, and finds the scales of its first weights.

    Attributes:
        widths: of the hidden layers.
        activation: what `varphi.as_activation` takes: a name, a formula, a module.

    Raises:
        ValueError: for widths that are none.
    """

    widths: tuple[int, ...] = (20, 20)
    activation: ActivationLike = "tanh"

    def __post_init__(self) -> None:
        widths = self.widths
        if not isinstance(widths, Sequence) or not widths or not all(type(w) is int and w > 0 for w in widths):
            raise ValueError(
                f"widths are those of the hidden layers, whole numbers >= 1, as in (20, 20); got {widths!r}"
            )

    def build(
        self, inputs: int, outputs: int, *, seed: int = 0, scale: float = 1.5, last: float = 0.3
    ) -> nn.Sequential:
        """The net in float64, initialised.

        Weights are Glorot-normal, those of the first layer multiplied by `scale`, its biases spread uniformly over
        [-scale, scale] so that the activation's bends lie all over the scaled domain; those of the last layer are
        multiplied by `last`; other biases are 0.
        """
        generator = torch.Generator().manual_seed(seed)
        sizes = [inputs, *self.widths, outputs]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise(sizes)):
            linear = nn.Linear(before, after, dtype=torch.float64)
            with torch.no_grad():
                linear.weight.normal_(0, math.sqrt(2 / (before + after)), generator=generator)
                linear.bias.uniform_(-1, 1, generator=generator)
                linear.bias.mul_(scale if i == 0 else 0.0)
                linear.weight.mul_(scale if i == 0 else last if i == len(sizes) - 2 else 1.0)
            layers += [linear, as_activation(self.activation)]
        return nn.Sequential(*layers[:-1]).double()
