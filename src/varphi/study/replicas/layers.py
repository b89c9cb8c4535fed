"""torch's layers with a replica axis: parameters (replicas, ...), inputs and outputs (replicas, batch, ...).

A layer is made from torch's own, for its options, and from its parameters and buffers stacked over the replicas, which
it registers under the same names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from varphi.activation.formula import Formula
from varphi.activation.layer import Activation
from varphi.activation.pointwise import pointwise

Stacked: TypeAlias = Mapping[str, "Tensor | None"]


class Layer(nn.Module):
    """A layer of every replica.

    Attributes:
        alone: torch's layer, without its parameters, for the options.
    """

    alone: Any

    def __init__(self, alone: nn.Module, stacked: Stacked) -> None:
        super().__init__()
        self.__dict__["alone"] = _bare(alone)
        for name, value in stacked.items():
            if value is None or isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value)

    def extra_repr(self) -> str:
        return self.alone.extra_repr()

    def _get_name(self) -> str:
        return type(self.alone).__name__


def _bare(alone: nn.Module) -> nn.Module:
    """A copy without tensors."""
    copied = copy.copy(alone)
    copied.__dict__ = alone.__dict__ | {
        "_parameters": dict.fromkeys(alone._parameters),
        "_buffers": dict.fromkeys(alone._buffers),
    }
    return copied


def linear(
    x: Float[Tensor, "replicas batch ... in"],
    weight: Float[Tensor, "replicas out in"],
    bias: Float[Tensor, "replicas out"] | None,
) -> Float[Tensor, "replicas batch ... out"]:
    """x Wᵀ + b of each replica."""
    rows = x if x.dim() == 3 else x.reshape(x.shape[0], -1, x.shape[-1])
    across = weight.transpose(1, 2)
    y = torch.bmm(rows, across) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, across)
    return y if x.dim() == 3 else y.view(*x.shape[:-1], y.shape[-1])


class Linear(Layer):
    """`torch.nn.Linear`."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def folded(x: Float[Tensor, "replicas batch channels ..."]) -> Float[Tensor, "batch replicas*channels ..."]:
    """Replicas as groups of channels."""
    return x.transpose(0, 1).flatten(1, 2)


def unfolded(x: Tensor, replicas: int) -> Tensor:
    """The inverse of `folded`."""
    return x.unflatten(1, (replicas, -1)).transpose(0, 1)


class Conv(Layer):
    """`torch.nn.Conv1d` and `Conv2d`: one convolution whose groups are those of all replicas."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:
        alone, replicas = self.alone, len(self.weight)
        if x.dim() != self.weight.dim():
            wanted = "(batch, channels, length)" if self.weight.dim() == 4 else "(batch, channels, height, width)"
            raise ValueError(f"{alone!r} of replicas takes inputs {wanted}, got one of shape {tuple(x.shape[1:])}")
        x, padding = folded(x), alone.padding
        if alone.padding_mode != "zeros":
            x, padding = F.pad(x, alone._reversed_padding_repeated_twice, mode=alone.padding_mode), 0
        convolve = F.conv1d if self.weight.dim() == 4 else F.conv2d
        bias = None if self.bias is None else self.bias.flatten()
        groups = replicas * alone.groups
        y = convolve(x, self.weight.flatten(0, 1), bias, alone.stride, padding, alone.dilation, groups)
        return unfolded(y, replicas)


class LayerNorm(Layer):
    """`torch.nn.LayerNorm`."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:
        shape = self.alone.normalized_shape
        y = F.layer_norm(x, shape, eps=self.alone.eps)
        between = [1] * (x.dim() - 1 - len(shape))
        if self.weight is not None:
            y = y * self.weight.view(x.shape[0], *between, *shape)
        return y if self.bias is None else y + self.bias.view(x.shape[0], *between, *shape)


class BatchNorm(Layer):
    """`torch.nn.BatchNorm1d` and `BatchNorm2d`: the channels of all replicas are normalised each by itself."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        alone, of_batch = self.alone, self.training or self.running_mean is None
        factor = 0.0 if alone.momentum is None else alone.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if alone.momentum is None:
                factor = 1 / float(self.num_batches_tracked[0])
        mean, variance, weight, bias = (
            None if t is None else t.flatten() for t in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        y = F.batch_norm(folded(x), mean, variance, weight, bias, of_batch, factor, alone.eps)
        return unfolded(y, x.shape[0])


class Flatten(Layer):
    """`torch.nn.Flatten` of dimensions after the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return flatten(x, self.alone.start_dim, self.alone.end_dim)


def flatten(x: Tensor, start_dim: int = 1, end_dim: int = -1) -> Tensor:
    """`torch.flatten` of dimensions after the batch, counted without the replicas."""
    return x.flatten(start_dim + 1 if start_dim >= 0 else start_dim, end_dim + 1 if end_dim >= 0 else end_dim)


class Dropout(Layer):
    """`torch.nn.Dropout`, drawn for each replica by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.alone.p, self.training)


class PerSample(Layer):
    """A layer without parameters that treats each sample by itself, as pooling does: replicas are further samples."""

    def forward(self, x: Tensor) -> Tensor:
        return self.alone(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Same(Layer):
    """`torch.nn.Identity`."""

    def forward(self, x: Tensor) -> Tensor:
        return x


LAYERS: dict[type[nn.Module], Callable[[nn.Module, Stacked], Layer]] = {
    nn.Linear: Linear,
    nn.Conv1d: Conv,
    nn.Conv2d: Conv,
    nn.LayerNorm: LayerNorm,
    nn.BatchNorm1d: BatchNorm,
    nn.BatchNorm2d: BatchNorm,
    nn.Flatten: Flatten,
    nn.Dropout: Dropout,
    nn.Identity: Same,
    nn.MaxPool1d: PerSample,
    nn.MaxPool2d: PerSample,
    nn.AvgPool1d: PerSample,
    nn.AvgPool2d: PerSample,
    nn.AdaptiveAvgPool1d: PerSample,
    nn.AdaptiveAvgPool2d: PerSample,
    nn.AdaptiveMaxPool1d: PerSample,
    nn.AdaptiveMaxPool2d: PerSample,
}


class Learned(Activation):
    """An activation whose learned parameters have a value for each replica."""

    def forward(self, x: Tensor) -> Tensor:
        arguments = [a.view(-1, *[1] * (x.dim() - 1)) if isinstance(a, Tensor) else a for a in self.arguments()]
        return pointwise(self.formula, x, *arguments)

    def extra_repr(self) -> str:
        return f"learn={self.learn!r}"


def learned(alone: Activation, stacked: Stacked) -> Learned:
    """An activation of all replicas, with its stacked parameters."""
    made = copy.copy(alone)
    made.__dict__ = alone.__dict__ | {"_parameters": dict(stacked)}
    made.__class__ = Learned
    assert isinstance(made, Learned)
    return made


class Pointwise(nn.Module):
    """An activation for each replica: replicas are sorted by it, and each is applied to its slice.

    Args:
        each: the activations in order, none with parameters to learn, with the number of replicas of each.
    """

    parts: tuple[tuple[Activation, int, int], ...]

    def __init__(self, each: Sequence[tuple[Activation, int]]) -> None:
        super().__init__()
        parts, start = [], 0
        for activation, count in each:
            parts.append((activation, start, start + count))
            start += count
        self.parts = tuple(parts)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return _evaluated(self.parts[0][0], x)
        return torch.cat([_evaluated(activation, x[start:stop]) for activation, start, stop in self.parts])

    @property
    def formulas(self) -> list[tuple[Formula, int, int]]:
        """What is computed for which replicas, with the numbers that are no parameters any more written in."""
        return [
            (Formula(a.definition.expression(a.numbers())) if a.formula.parameters else a.formula, start, stop)
            for a, start, stop in self.parts
        ]

    def extra_repr(self) -> str:
        return ", ".join(f"[{start}:{stop}] {activation!r}" for activation, start, stop in self.parts)


def _evaluated(activation: Activation, x: Tensor) -> Tensor:
    """An activation of what may lie in memory with two dimensions exchanged, as a chain or a convolution leaves it."""
    if x.is_contiguous():
        return activation(x)
    for a, b in ((0, 1), (-2, -1)):
        exchanged = x.transpose(a, b)
        if exchanged.is_contiguous():
            return activation(exchanged).transpose(a, b)
    return activation(x)
