"""Layers that are made of others, for bounds: normalisations, softmax, enlargements.

Each is spelled out in nodes that have rules. The errors that those nodes are charged cover those of torch's fused
kernels: where such a kernel sums in a way that loses more, as in variances, that is charged in addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varphi.numbers import exp, log, maximum, minimum, sqrt, variable
from varphi.numbers.expression import constant

from .nodes import Affine, Interval, Node, flat

if TYPE_CHECKING:
    from .crown import Pass
    from .graph import Reader

_X = variable("x")
# exp of more overflows before long: a softmax's share is then below exp(-40).
_MOST = 40.0


class MeanSquare(Affine):
    """The mean of squares that a kernel may have computed in one pass over numbers that were not centred.

    Args:
        source: those numbers: a variance as mean of squares less square of mean is off by their size.
    """

    source: Node

    def error(self, run: Pass) -> Tensor | None:
        """That of a sum, and of the other way to compute it."""
        found = super().error(run)
        if found is None:
            return None
        size = flat(run.size_of(self.source), 1).amax(1)
        return found + (4 * run.number.gamma(self.terms) * size * size).view(-1, *[1] * len(self.shape))


def layer_norm(
    reader: Reader,
    value: Any,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    """(x - mean)/√(variance + ε)·weight + bias over the last dimensions."""
    node = reader.node_of(value)
    last = len(tuple(normalized_shape))
    if last > len(node.shape):
        reader.refuse("layer normalisation over the batch dimension")
    return _weighted(reader, _normalised(reader, node, last, eps, centred=True), weight, bias)


def rms_norm(
    reader: Reader, value: Any, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Any:
    """x/√(mean of squares + ε)·weight over the last dimensions."""
    node, last = reader.node_of(value), len(tuple(normalized_shape))
    small = torch.finfo(reader.number.dtype).eps if eps is None else eps
    return _weighted(reader, _normalised(reader, node, last, small, centred=False), weight, None)


def group_norm(
    reader: Reader,
    value: Any,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    """The normalisation of groups of channels, with a weight and a bias for each channel."""
    node = reader.node_of(value)
    shape, rank = node.shape, len(node.shape) - 1
    parted = _reshaped(reader, node, (num_groups, node.size // num_groups))
    whole = _reshaped(reader, _normalised(reader, parted, 1, eps, centred=True), shape)
    columns = [None if t is None else t.view(-1, *[1] * rank) for t in (weight, bias)]
    return _weighted(reader, whole, *columns)


def _normalised(reader: Reader, node: Node, last: int, eps: float, *, centred: bool) -> Node:
    dims = tuple(range(-last, 0))
    count = math.prod(node.shape[-last:])
    middle = node
    if centred:

        def apply(z: Tensor) -> Tensor:
            return z - z.mean(dims, keepdim=True)

        middle = reader.linear_map(
            node, apply, lambda z: z + z.mean(dims, keepdim=True), None, count + 4, apply
        )  # its own transpose
    square = reader.node_of(reader.formula(_X * _X, middle, torch.square, "square"))

    def mean(z: Tensor) -> Tensor:
        return z.mean(dims, keepdim=True)

    value = mean(reader.values[square])
    spread = MeanSquare(reader.path, tuple(value.shape[1:]), square, mean, mean, None, count + 4)
    spread.source = node
    reader.add(spread, value)
    # The mean of squares is not negative, but a bound of it may be.
    scale = constant(1) / sqrt(maximum(_X, 0) + eps)
    inverse = reader.formula(scale, spread, lambda v: 1 / torch.sqrt(v.clamp_min(0) + eps), f"1/sqrt(x + {eps!r})")
    made = reader.product(middle, inverse)
    if eps > 0:
        made.hull = lambda run: _normal(run, middle, spread, count - 1 if centred else count, eps)
    return made


def _normal(run: Pass, middle: Node, spread: Node, most: int, eps: float) -> Interval:
    """The most that a normalised number can be, √most: its square is at most that many times the mean of squares.

    A computed mean of squares may be too small, by what is charged for it, and a computed difference off.
    """
    size = run.size_of(middle)
    missing, off = (torch.zeros_like(size) if e is None else e for e in (spread.error(run), middle.error(run)))
    reach = (most * (missing / eps).clamp_min(1)).sqrt() * (1 + 16 * run.number.eps) + off * (1.01 / math.sqrt(eps))
    reach = reach.expand_as(size)
    return -reach, reach


def _weighted(reader: Reader, node: Node, weight: Tensor | None, bias: Tensor | None) -> Node:
    if weight is not None:
        node = reader.scaled(node, reader.converted(weight))
    return node if bias is None else reader.shifted(node, reader.converted(bias))


def _reshaped(reader: Reader, node: Node, shape: tuple[int, ...]) -> Node:
    return reader.reshaped("reshape", (node, len(reader.values[node]), *shape), {})


# ------------------------------------------------------------------------------------------------ softmax


def softmax(reader: Reader, value: Any, dim: int | None = None, *_: Any, dtype: Any = None, **__: Any) -> Node:
    """1/Σⱼ exp(xⱼ - xᵢ): every exponential is of a difference, so that what all x share cancels."""
    return _shares(reader, _exponentials(reader, value, dim, dtype, most=_MOST))


def masked_softmax(reader: Reader, scores: Node, kept: Tensor | None, steps: int) -> Node:
    """A softmax over the last dimension, in which only some scores take part: the others weigh 0.

    Args:
        kept: bool, as it broadcasts to the scores of one sample; None for all of them.
        steps: how many units in the last place a kernel may lose in its exponentials.
    """
    if kept is None:
        return _shares(reader, _exponentials(reader, scores, -1, None, None, steps, _MOST))
    while kept.dim() > len(scores.shape) and bool((kept == kept[:1]).all()):
        kept = kept[0]
    if kept.dim() > len(scores.shape):
        reader.refuse("attention with a mask that differs from sample to sample")
    kept = kept.expand(scores.shape)
    if not bool(kept.any(-1).all()):
        reader.refuse("attention with a mask that leaves a query no key")
    shares = _shares(reader, _exponentials(reader, scores, -1, None, kept, steps, _MOST))
    return reader.scaled(shares, kept.to(reader.number.dtype))


def _shares(reader: Reader, total: Node) -> Node:
    """1/Σ, where what was cut off from exponentials leaves a share of almost 0."""
    shares = _settled(reader, total, constant(1) / maximum(_X, 1), lambda s: 1 / s.clamp_min(1), "1/x")
    cut = torch.full((), math.exp(-_MOST), dtype=reader.number.dtype, device=reader.x.device)
    return reader.linear_map(shares, _same, _same, None, 0, _same, cut)


def _same(z: Tensor) -> Tensor:
    return z


def log_softmax(reader: Reader, value: Any, dim: int | None = None, *_: Any, dtype: Any = None, **__: Any) -> Node:
    """-log Σⱼ exp(xⱼ - xᵢ)."""
    total = _exponentials(reader, value, dim, dtype)
    return _settled(reader, total, -log(maximum(_X, 1)), lambda s: -torch.log(s.clamp_min(1)), "-log(x)")


def _settled(reader: Reader, total: Node, expression: Any, call: Callable[[Tensor], Tensor], spelling: str) -> Node:
    """A function of the sum, which is at least 1 because of its own term."""
    return reader.node_of(reader.formula(expression, total, call, spelling))


def _exponentials(
    reader: Reader,
    value: Any,
    dim: int | None,
    dtype: Any,
    kept: Tensor | None = None,
    steps: int = 0,
    most: float = math.inf,
) -> Node:
    """Σⱼ exp(xⱼ - xᵢ) over a dimension of a sample, for every i; of those kept alone, along the last.

    Args:
        steps: as for `masked_softmax`.
        most: larger differences are taken for this one.
    """
    node = reader.node_of(value)
    if dtype is not None and dtype is not reader.number.dtype:
        reader.refuse(f"softmax in {dtype}")
    if dim is None:
        reader.refuse("softmax without its dimension")
    rank = len(node.shape) + 1
    axis = dim % rank
    if axis == 0:
        reader.refuse("softmax over the batch dimension")

    # What is left out is no difference at all, lest it overflow.
    both = None if kept is None else (kept.unsqueeze(-2) & kept.unsqueeze(-1)).to(reader.number.dtype)

    def differences(z: Tensor) -> Tensor:
        apart = z.unsqueeze(axis) - z.unsqueeze(axis + 1)
        return apart if both is None else apart * both

    def sizes(z: Tensor) -> Tensor:
        size = z.unsqueeze(axis) + z.unsqueeze(axis + 1)
        return size if both is None else size * both

    count = node.shape[axis - 1]
    apart = reader.linear_map(node, differences, sizes, None, max(2, 2 * count))
    whole = exp(_X) if most == math.inf else exp(minimum(_X, most))
    powers = reader.node_of(reader.formula(whole, apart, lambda z: z.clamp_max(most).exp(), f"exp(min(x, {most}))"))
    if both is not None or steps:
        ones = torch.ones((), dtype=reader.number.dtype)
        powers = reader.scaled(powers, ones if both is None else both, max(steps, 1))

    def add(z: Tensor) -> Tensor:
        return z.sum(axis + 1)

    return reader.linear_map(powers, add, add, None, count + 4)


# ------------------------------------------------------------------------------------------------ larger and smaller


def interpolate(
    reader: Reader,
    value: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *rest: Any,
    **options: Any,
) -> Any:
    """F.interpolate: the nearest element, or means of neighbours."""
    if rest or any(v for k, v in options.items() if k != "recompute_scale_factor"):
        reader.refuse("interpolation with antialias")
    given = {"size": size, "scale_factor": scale_factor, "mode": mode, **options}
    if mode in ("nearest", "nearest-exact"):
        return reader.moved(F.interpolate, (reader.node_of(value),), given)
    if mode not in ("linear", "bilinear", "trilinear"):
        reader.refuse(f"interpolation of mode {mode!r}")  # bicubic has weights of both signs
    given["align_corners"] = align_corners

    def apply(z: Tensor) -> Tensor:
        return F.interpolate(z, **given)

    node = reader.node_of(value)
    growth = math.ceil(math.prod(apply(reader.values[node]).shape[1:]) / node.size)
    # The weights themselves are rounded: a few units for each dimension.
    return reader.linear_map(node, apply, apply, None, 64 + 8 * growth)


def concat(reader: Reader, tensors: Sequence[Any], dim: int, join: Callable[[Sequence[Node]], Node]) -> Node:
    """Tensors beside each other, some of them constants: those that depend on the input are moved to their places."""
    batch = len(reader.x)
    nodes = [None if isinstance(t, Tensor) else reader.node_of(t) for t in tensors]
    inner = join([n for n in nodes if n is not None])
    places, numbers, first = [], [], 0
    # Where each element of the joined tensor goes, along `dim`.
    for given, node in zip(tensors, nodes, strict=True):
        if node is None:
            held = reader.converted(given)
            if held.shape[0] != batch or not bool((held == held[:1]).all()):
                reader.refuse("concatenation with a constant that differs from sample to sample")
            numbers.append(held[0])
            continue
        length = node.shape[dim - 1]
        numbers.append(torch.zeros(node.shape, dtype=reader.number.dtype, device=reader.x.device))
        places.append((sum(n.shape[dim - 1] for n in numbers[:-1]), first, length))
        first += length
    around = torch.cat(numbers, dim - 1)

    def apply(z: Tensor) -> Tensor:
        out = torch.zeros(len(z), *around.shape, dtype=z.dtype, device=z.device)
        for to, start, length in places:
            out.narrow(dim, to, length).copy_(z.narrow(dim, start, length))
        return out

    def transpose(a: Tensor) -> Tensor:
        return torch.cat([a.narrow(dim, to, length) for to, _, length in places], dim)

    return reader.linear_map(inner, apply, apply, around, 1, transpose)


def _group_norm_module(reader: Reader, m: Any, value: Any) -> Any:
    return group_norm(reader, value, m.num_groups, m.weight, m.bias, m.eps)


MODULES: dict[Any, Callable[..., Any]] = {
    nn.LayerNorm: lambda r, m, x: layer_norm(r, x, m.normalized_shape, m.weight, m.bias, m.eps),
    nn.RMSNorm: lambda r, m, x: rms_norm(r, x, m.normalized_shape, m.weight, m.eps),
    nn.GroupNorm: _group_norm_module,
    nn.Softmax: lambda r, m, x: softmax(r, x, m.dim),
    nn.LogSoftmax: lambda r, m, x: log_softmax(r, x, m.dim),
    nn.Upsample: lambda r, m, x: interpolate(r, x, m.size, m.scale_factor, m.mode, m.align_corners),
    (nn.PixelShuffle, nn.PixelUnshuffle): lambda r, m, x: r.moved(m, (r.node_of(x),), {}),
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "interpolate": interpolate,
}
