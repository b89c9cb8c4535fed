"""What layers and functions of torch mean as nodes: the linear map of each, that of absolute values, the transpose.

A rule takes the reader, then what the call was given; tensors that depend on the input come as nodes or formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_input, conv2d_input

from . import attention, composites, contractions, selections
from .contractions import linear
from .nodes import Concat, Maximum, Node

if TYPE_CHECKING:
    from .graph import Reader


def _convolution(dimensions: int) -> Callable[..., Node]:
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dimensions]

    def rule(
        reader: Reader,
        value: Any,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Node:
        weight = reader.converted(weight)
        size = weight.abs()
        rest = (None, stride, padding, dilation, groups)
        shift = None if bias is None else reader.converted(bias).view(-1, *[1] * dimensions)
        inner = reader.node_of(value).shape
        gradient = {1: conv1d_input, 2: conv2d_input}.get(dimensions)

        def transpose(a: Tensor) -> Tensor:
            assert gradient is not None
            return gradient((len(a), *inner), weight, a, stride, padding, dilation, groups)

        plain_padding = gradient is not None and not isinstance(padding, str)
        terms = max(math.prod(weight.shape[1:]), math.prod(weight.shape[2:]) * weight.shape[0] // groups) + 1
        return reader.linear_map(
            value,
            lambda z: convolve(z, weight, *rest),
            lambda z: convolve(z, size, *rest),
            shift,
            terms,
            transpose if plain_padding else None,
        )

    return rule


def _transposed_convolution(dimensions: int) -> Callable[..., Node]:
    convolve = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[dimensions]
    adjoint = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dimensions]

    def rule(
        reader: Reader,
        value: Any,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Node:
        weight = reader.converted(weight)
        size = weight.abs()
        rest = (None, stride, padding, output_padding, groups, dilation)
        shift = None if bias is None else reader.converted(bias).view(-1, *[1] * dimensions)
        terms = max(math.prod(weight.shape[1:]), math.prod(weight.shape[2:]) * weight.shape[0] // groups) + 1
        return reader.linear_map(
            value,
            lambda z: convolve(z, weight, *rest),
            lambda z: convolve(z, size, *rest),
            shift,
            terms,
            lambda a: adjoint(a, weight, None, stride, padding, dilation, groups),
        )

    return rule


def _transposed_convolution_module(dimensions: int) -> Callable[..., Node]:
    def rule(reader: Reader, m: Any, value: Any) -> Node:
        given = (m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation)
        return _transposed_convolution(dimensions)(reader, value, *given)

    return rule


def _padded(reader: Reader, input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Node:
    node, ends = reader.node_of(input), [int(n) for n in pad]
    if len(ends) > 2 * len(node.shape) or min(ends) < 0:
        reader.refuse("padding of the batch dimension, or by less than nothing,")
    if mode != "constant":  # the tensor's own elements
        return reader.moved(F.pad, (node, ends, mode), {})
    inner = [-n for n in ends]

    def apply(z: Tensor) -> Tensor:
        return F.pad(z, ends)

    if not value:
        return reader.linear_map(node, apply, None, None, 0, lambda a: F.pad(a, inner))
    frame = F.pad(torch.zeros_like(reader.values[node][0]), ends, "constant", value)
    return reader.linear_map(node, apply, apply, frame, 1, lambda a: F.pad(a, inner))


def _convolution_module(dimensions: int) -> Callable[..., Node]:
    def rule(reader: Reader, module: Any, value: Any) -> Node:
        if module.padding_mode != "zeros":
            reader.refuse(f"a convolution with padding_mode={module.padding_mode!r}")
        given = (module.weight, module.bias, module.stride, module.padding, module.dilation, module.groups)
        return _convolution(dimensions)(reader, value, *given)

    return rule


def _batch_norm(
    reader: Reader,
    value: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Node:
    if training or running_mean is None or running_var is None:
        reader.refuse("batch normalisation with the statistics of the batch (training mode)")
    node = reader.node_of(value)
    mean, variance = (t.detach().double() for t in (running_mean, running_var))
    gain = (torch.ones_like(mean) if weight is None else weight.detach().double()) / (variance + eps).sqrt()
    offset = (torch.zeros_like(mean) if bias is None else bias.detach().double()) - mean * gain
    shape = (-1, *[1] * (len(node.shape) - 1))
    scale, shift = (t.to(reader.number.dtype).view(shape) for t in (gain, offset))
    # (x - mean)·gain + bias in whatever order the kernel takes.
    lost = (mean * gain).abs() + (0 if bias is None else bias.detach().double().abs())
    drift = (16 * reader.number.eps * lost).to(reader.number.dtype).view(shape)
    size = scale.abs()

    def apply(z: Tensor) -> Tensor:
        return z * scale

    return reader.linear_map(value, apply, lambda z: z * size, shift, 8, apply, drift)


def _batch_norm_module(reader: Reader, module: Any, value: Any) -> Node:
    given = (module.running_mean, module.running_var, module.weight, module.bias)
    return _batch_norm(reader, value, *given, training=module.training, eps=module.eps)


def _instance_norm(
    reader: Reader,
    value: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Each channel of each sample by its own statistics; or by those kept, as batch normalisation."""
    node = reader.node_of(value)
    if not use_input_stats:
        return _batch_norm(reader, node, running_mean, running_var, weight, bias, eps=eps)
    if len(node.shape) < 2:
        reader.refuse("instance normalisation without a dimension beside the channels")
    return composites.group_norm(reader, node, node.shape[0], weight, bias, eps)


def _instance_norm_module(dimensions: int) -> Callable[..., Any]:
    def rule(reader: Reader, m: Any, value: Any) -> Any:
        node = reader.node_of(value)
        if len(node.shape) != dimensions + 1:
            reader.refuse("instance normalisation of an input without a batch dimension")
        given = (m.running_mean, m.running_var, m.weight, m.bias)
        return _instance_norm(reader, node, *given, not m.track_running_stats, eps=m.eps)

    return rule


def _mean_map(reader: Reader, value: Any, apply: Callable[[Tensor], Tensor], terms: int) -> Node:
    return reader.linear_map(value, apply, apply, None, terms + 4)


def _average_pool(function: Callable[..., Tensor]) -> Callable[..., Node]:
    def rule(reader: Reader, value: Any, kernel_size: Any, *args: Any, **kwargs: Any) -> Node:
        dimensions = 2 if function is F.avg_pool2d else 1
        terms = math.prod(kernel_size) if isinstance(kernel_size, (tuple, list)) else kernel_size**dimensions
        return _mean_map(reader, value, lambda z: function(z, kernel_size, *args, **kwargs), terms)

    return rule


def _average_pool_module(reader: Reader, module: Any, value: Any) -> Node:
    size = module.kernel_size
    terms = math.prod(size) if isinstance(size, (tuple, list)) else size**2
    return _mean_map(reader, value, lambda z: module(z), terms)


def _adaptive_average(function: Callable[..., Tensor]) -> Callable[..., Node]:
    def rule(reader: Reader, value: Any, output_size: Any) -> Node:
        node = reader.node_of(value)
        return _mean_map(reader, node, lambda z: function(z, output_size), math.prod(node.shape[1:]))

    return rule


def _adaptive_average_module(reader: Reader, module: Any, value: Any) -> Node:
    node = reader.node_of(value)
    return _mean_map(reader, node, lambda z: module(z), math.prod(node.shape[1:]))


def _max_pool(dimensions: int) -> Callable[..., Node]:
    def rule(
        reader: Reader,
        value: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Node:
        if ceil_mode or return_indices:
            reader.refuse("max pooling with ceil_mode or return_indices")
        node = reader.node_of(value)
        pool = F.max_pool2d if dimensions == 2 else F.max_pool1d
        out = pool(reader.values[node], kernel_size, stride, padding, dilation)
        windows = _windows(node.shape, dimensions, kernel_size, stride, padding, dilation).to(reader.x.device)
        return reader.add(Maximum(reader.path, tuple(out.shape[1:]), node, windows), out)

    return rule


def _windows(
    shape: tuple[int, ...], dimensions: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> Tensor:
    """The flat places that each output of a pooling looks at, -1 for padding: (outputs, k)."""

    def pair(v: Any) -> tuple[int, int]:
        both = tuple(v) if isinstance(v, (tuple, list)) else (v,) * dimensions
        return (1, both[0]) if dimensions == 1 else both

    channels = shape[0]
    plane = (1, shape[1]) if dimensions == 1 else shape[1:]
    kernel, step = pair(kernel_size), pair(kernel_size if stride in (None, [], ()) else stride)
    pad = (0, pair(padding)[1]) if dimensions == 1 else pair(padding)
    # Places from 1, so that the padding's zeros stand apart.
    places = torch.arange(1, math.prod(plane) + 1, dtype=torch.float64).view(1, 1, *plane)
    rows = F.unfold(places, kernel, pair(dilation) if dimensions == 2 else (1, pair(dilation)[1]), pad, step)[
        0
    ].T.long()
    offsets = torch.arange(channels).view(-1, 1, 1) * math.prod(plane)
    return torch.where(rows > 0, rows - 1 + offsets, -1).reshape(-1, math.prod(kernel))


def _max_pool_module(dimensions: int) -> Callable[..., Node]:
    def rule(reader: Reader, m: Any, value: Any) -> Node:
        given = (m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)
        return _max_pool(dimensions)(reader, value, *given)

    return rule


def _concat(reader: Reader, tensors: Any, dim: int = 0) -> Node:
    first = next(t for t in tensors if not isinstance(t, Tensor))
    axis = dim % (len(reader.node_of(first).shape) + 1)
    if axis == 0:
        reader.refuse("concatenation along the batch dimension")

    def join(nodes: Sequence[Node]) -> Node:
        value = torch.cat([reader.values[n] for n in nodes], axis)
        return reader.add(Concat(reader.path, tuple(value.shape[1:]), tuple(nodes), axis - 1), value)

    if any(isinstance(t, Tensor) for t in tensors):
        return composites.concat(reader, tensors, axis, join)
    return join([reader.node_of(t) for t in tensors])


def _reduced(average: bool) -> Callable[..., Node]:
    def rule(reader: Reader, value: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
        node = reader.node_of(value)
        rank = len(node.shape) + 1
        dims = [d % rank for d in (dim if isinstance(dim, (tuple, list)) else [dim if dim is not None else 0])]
        if dim is None or 0 in dims:
            reader.refuse("a mean or sum over the batch dimension")
        count = math.prod(node.shape[d - 1] for d in dims)
        operation = torch.mean if average else torch.sum
        return _mean_map(reader, node, lambda z: operation(z, dims, keepdim), count)

    return rule


def _identity(reader: Reader, module: Any, value: Any) -> Any:
    if getattr(module, "training", False) and getattr(module, "p", 0):
        reader.refuse("dropout in training mode")
    return value


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
MODULES: dict[Any, Callable[..., Any]] = {
    nn.Linear: lambda r, m, x: linear(r, x, m.weight, m.bias),
    nn.Conv1d: _convolution_module(1),
    nn.Conv2d: _convolution_module(2),
    nn.Conv3d: _convolution_module(3),
    nn.ConvTranspose1d: _transposed_convolution_module(1),
    nn.ConvTranspose2d: _transposed_convolution_module(2),
    nn.ConvTranspose3d: _transposed_convolution_module(3),
    (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d): lambda r, m, x: _padded(r, x, m.padding, value=m.value),
    (nn.ReflectionPad1d, nn.ReflectionPad2d): lambda r, m, x: _padded(r, x, m.padding, "reflect"),
    (nn.ReplicationPad1d, nn.ReplicationPad2d): lambda r, m, x: _padded(r, x, m.padding, "replicate"),
    (nn.CircularPad1d, nn.CircularPad2d): lambda r, m, x: _padded(r, x, m.padding, "circular"),
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d): _batch_norm_module,
    (nn.AvgPool1d, nn.AvgPool2d): _average_pool_module,
    (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d): _adaptive_average_module,
    nn.MaxPool1d: _max_pool_module(1),
    nn.MaxPool2d: _max_pool_module(2),
    (nn.Flatten, nn.Unflatten): lambda r, m, x: r.reshaped(m, (x,), {}),
    (nn.Identity, *_DROPOUTS): _identity,
    nn.InstanceNorm1d: _instance_norm_module(1),
    nn.InstanceNorm2d: _instance_norm_module(2),
    nn.InstanceNorm3d: _instance_norm_module(3),
    **composites.MODULES,
    **attention.MODULES,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "conv1d": _convolution(1),
    "conv2d": _convolution(2),
    "conv3d": _convolution(3),
    "conv_transpose1d": _transposed_convolution(1),
    "conv_transpose2d": _transposed_convolution(2),
    "conv_transpose3d": _transposed_convolution(3),
    "pad": _padded,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "avg_pool1d": _average_pool(F.avg_pool1d),
    "avg_pool2d": _average_pool(F.avg_pool2d),
    "adaptive_avg_pool1d": _adaptive_average(F.adaptive_avg_pool1d),
    "adaptive_avg_pool2d": _adaptive_average(F.adaptive_avg_pool2d),
    "max_pool1d": _max_pool(1),
    "max_pool2d": _max_pool(2),
    "boolean_dispatch": _max_pool(2),
    "cat": _concat,
    "concat": _concat,
    "concatenate": _concat,
    "mean": _reduced(True),
    "sum": _reduced(False),
    **composites.FUNCTIONS,
    **contractions.FUNCTIONS,
    **attention.FUNCTIONS,
    **selections.FUNCTIONS,
}
