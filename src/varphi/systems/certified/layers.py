"""Layers that are 1-Lipschitz by construction, to train a network towards its certificate."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from varphi.activation.lookup import ActivationLike, as_activation

Kind = Literal["orthogonal", "aol"]
_KINDS = ("orthogonal", "aol")
_TINY = 1e-12
_STEPS = 12


class LipschitzLinear(nn.Module):
    """A linear layer with ‖W‖₂ <= 1 whatever its parameter is, up to the rounding of its format.

    Args:
        in_features, out_features, bias: as for torch.nn.Linear.
        kind: "orthogonal": singular values all (nearly) 1, by Björck and Bowie's iteration (SIAM J. Numer. Anal. 8,
            1971; Anil, Lucas & Grosse, ICML 2019); lengths are kept. "aol": columns scaled by 1/sqrt(Σ|VᵀV|), almost
            orthogonal after training (Prach & Lampert, ECCV 2022); cheaper.

    Shape:
        (..., in_features) -> (..., out_features).

    The constant is not taken on trust: `radius` and `lipschitz` prove it from the weights that result.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, kind: Kind = "orthogonal", **options: Any
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.kind = in_features, out_features, _checked(kind)
        self.raw = nn.Parameter(torch.empty(out_features, in_features, **options))
        self.bias = nn.Parameter(torch.empty(out_features, **options)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.orthogonal_(self.raw)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(self.in_features), 1 / math.sqrt(self.in_features))

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The matrix that is multiplied with."""
        if self.kind == "aol":
            return almost_orthogonal(self.raw)
        # Sizes from here: torch.fx reads the layer too, and has none for a parameter.
        tall = self.out_features > self.in_features
        return orthogonal(self.raw.mT).mT if tall else orthogonal(self.raw)

    def forward(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        return F.linear(x, self.weight, self.bias)

    @torch.no_grad()
    def plain(self) -> nn.Linear:
        """The same map as an ordinary layer, with the weights of now."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        return _filled(layer, self)

    def extra_repr(self) -> str:
        kept = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{kept}, bias={self.bias is not None}, kind={self.kind!r}"


class LipschitzConv2d(nn.Module):
    """A convolution with operator norm <= 1 on images of any size, zero padding and any stride.

    Its kernel's input channels are scaled by 1/sqrt(Σ|KᵀK|), the sums over all overlaps of the kernel with itself (AOL,
    Prach & Lampert, ECCV 2022). Zero padding and stride choose among the outputs of that on the whole plane, which
    cannot enlarge the norm.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, bias: as for torch.nn.Conv2d, without groups and
        dilation.

    Shape:
        (batch, in_channels, height, width) -> (batch, out_channels, ...).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = _pair(kernel_size), _pair(stride), _pair(padding)
        self.raw = nn.Parameter(torch.empty(out_channels, in_channels, *self.kernel_size, **options))
        self.bias = nn.Parameter(torch.empty(out_channels, **options)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.raw.zero_()
            centre = self.raw[:, :, self.kernel_size[0] // 2, self.kernel_size[1] // 2]
            centre.copy_(nn.init.orthogonal_(torch.empty_like(centre)))
            self.raw.add_(torch.randn_like(self.raw), alpha=0.1 / math.sqrt(self.raw[0].numel()))
            if self.bias is not None:
                reach = 1 / math.sqrt(self.raw[0].numel())
                self.bias.uniform_(-reach, reach)

    @property
    def weight(self) -> Float[Tensor, "out in height width"]:
        """The kernel that is convolved with."""
        kernel = self.raw
        reach = (self.kernel_size[0] - 1, self.kernel_size[1] - 1)
        overlaps = F.conv2d(kernel.transpose(0, 1), kernel.transpose(0, 1), padding=reach)  # (in, in, ...)
        sums = overlaps.abs().sum((1, 2, 3))
        return kernel * (sums + _TINY).rsqrt().view(1, -1, 1, 1)

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out rows columns"]:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    @torch.no_grad()
    def plain(self) -> nn.Conv2d:
        """The same map as an ordinary layer, with the weights of now."""
        layer = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            bias=self.bias is not None,
        )
        return _filled(layer, self)

    def extra_repr(self) -> str:
        kept = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return f"{kept}, stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"


class GroupSort(nn.Module):
    """Sorts numbers in groups, the largest first: 1-Lipschitz in every p-norm, and its gradient keeps its length.

    Its derivative is a permutation wherever it has one, so that between orthogonal layers no gradient is lost, where
    ReLU sets a part of each to 0 (Anil, Lucas & Grosse, ICML 2019, arXiv 1811.05381). Groups of two are also known as
    MaxMin. No activation of single numbers: `vp.facts` has none.

    Args:
        size: of a group. It is sorted in `size` rounds of comparisons of neighbours.
        dim: along which neighbours are grouped, as for torch.unflatten; 1 for channels.

    Shape:
        any, with a multiple of `size` along `dim` -> the same.

    Raises:
        ValueError: where `size` does not divide it.
    """

    def __init__(self, size: int = 2, dim: int = 1) -> None:
        super().__init__()
        for name, value, least in (("size", size, 2), ("dim", dim, None)):
            if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
                raise ValueError(f"{name} must be a whole number{'' if least is None else ' >= 2'}, got {value!r}")
        self.size, self.dim = size, dim

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        # torch.fx reads this too, with something that is no tensor and has no sizes.
        if isinstance(x, Tensor) and x.shape[self.dim] % self.size:
            raise ValueError(
                f"GroupSort sorts groups of {self.size} along dim {self.dim}, and {x.shape[self.dim]} is no multiple "
                f"of that: shape {tuple(x.shape)}"
            )
        inner = self.dim + 1 if self.dim >= 0 else self.dim
        split = x.unflatten(self.dim, (-1, self.size)).split(1, inner)
        parts = [split[i] for i in range(self.size)]
        for pairs in self.rounds():
            for i, j in pairs:
                parts[i], parts[j] = torch.maximum(parts[i], parts[j]), torch.minimum(parts[i], parts[j])
        return torch.cat(parts, inner).flatten(inner - 1, inner)

    def rounds(self) -> list[list[tuple[int, int]]]:
        """Which places of a group are compared, round by round: neighbours, by turns from the first and the second."""
        if self.size == 2:
            return [[(0, 1)]]
        return [[(i, i + 1) for i in range(turn % 2, self.size - 1, 2)] for turn in range(self.size)]

    def extra_repr(self) -> str:
        return f"size={self.size}, dim={self.dim}"


class CertificateLoss(nn.Module):
    """Cross-entropy at the worst logits that a 1-Lipschitz network can have within a radius.

    A move of length r changes the difference of two logits by at most √2·r. The true class is charged that much before
    the softmax, so what is learned is not to be right but to be right at that distance.

    Args:
        radius: in units of the input, 2-norm.
        temperature: multiplies the logits, which a 1-Lipschitz network cannot enlarge itself.

    Shape:
        logits (batch, classes), labels (batch,) -> a number.
    """

    def __init__(self, radius: float, temperature: float = 10.0) -> None:
        super().__init__()
        for name, value in (("radius", radius), ("temperature", temperature)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")
        if temperature == 0:
            raise ValueError("temperature must be > 0: at 0 all logits are equal")
        self.radius, self.temperature = float(radius), float(temperature)

    def forward(self, logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]) -> Tensor:
        own = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
        return F.cross_entropy((logits - math.sqrt(2) * self.radius * own) * self.temperature, labels)

    def extra_repr(self) -> str:
        return f"radius={self.radius:g}, temperature={self.temperature:g}"


def one_lipschitz(activation: ActivationLike, **parameters: Any) -> nn.Module:
    """The activation, once its facts prove that sup|f'| <= 1.

    Raises:
        ValueError: with the proved constant, where it is larger.
    """
    from varphi.facts.api import facts

    found = as_activation(activation, **parameters)
    constant = facts(found).lipschitz
    if constant.upper > 1 + 1e-12:
        raise ValueError(
            f"{found.name} has sup|f'| = {constant}, and a 1-Lipschitz network needs at most 1; scale it, or take "
            "'abs', 'relu', 'softplus', 'tanh', 'sin', or GroupSort()"
        )
    return found


def orthogonal(raw: Float[Tensor, "fewer more"]) -> Float[Tensor, "fewer more"]:
    """The nearest matrix with orthonormal rows, by Björck and Bowie's iteration."""
    # ‖W‖₂² <= ‖WWᵀ‖_∞ brings all singular values into (0, 1], where the iteration rises to 1 and does not pass it.
    w = raw * (raw @ raw.mT).abs().sum(1).amax().clamp_min(_TINY).rsqrt()
    for _ in range(_STEPS):
        w = 1.5 * w - 0.5 * (w @ w.mT) @ w
    return w


def almost_orthogonal(raw: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """V·diag(1/sqrt(Σⱼ|VᵀV|ᵢⱼ))."""
    return raw * ((raw.mT @ raw).abs().sum(1) + _TINY).rsqrt()


def _checked(kind: str) -> Kind:
    if kind not in _KINDS:
        raise ValueError(f"kind is one of {', '.join(map(repr, _KINDS))}, got {kind!r}")
    return kind


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _filled(layer: Any, own: Any) -> Any:
    layer = layer.to(own.raw.device, own.raw.dtype)
    layer.weight.copy_(own.weight)
    if own.bias is not None:
        layer.bias.copy_(own.bias)
    return layer.train(own.training)
