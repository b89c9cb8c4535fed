"""What ONNX's operators mean in torch: one rule for each, from an operator to the values it gives.

Names, attributes and defaults are those of the ONNX operator sets; where a set moved an attribute to an input, both are
read. Dimensions are ONNX's: the batch's 1 in front is of them.
"""

from __future__ import annotations

import itertools
import math
import operator as python
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from .nodes import UncertifiedOperation

if TYPE_CHECKING:
    from .onnx import Builder

Shape: TypeAlias = tuple[int, ...]
Constant: TypeAlias = "np.ndarray[Any, Any]"
# Where the exact softplus and x differ by less than float64 holds.
_SOFTPLUS_THRESHOLD = 40.0


def batched(shape: Shape) -> bool:
    """Whether the first dimension of an ONNX shape is the batch's."""
    return len(shape) >= 2 and shape[0] == 1


def of_sample(shape: Shape) -> Shape:
    """What torch's tensor has behind its batch dimension."""
    return shape[1:] if batched(shape) else shape


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the input: in torch (batch, *of_sample(shape)).

    Attributes:
        node: what computes it.
        shape: in ONNX.
    """

    node: fx.Node
    shape: Shape


Operand: TypeAlias = "Value | Constant | None"


@dataclass
class Operator:
    """One node of the file's graph, with what it is given."""

    kind: str
    name: str
    inputs: list[Operand]
    attributes: dict[str, Any]
    names: list[str]
    outputs: list[str]
    builder: Builder = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"

    @property
    def opset(self) -> int:
        """The version of the operator set."""
        return self.builder.opset

    def refuse(self, what: str) -> NoReturn:
        raise UncertifiedOperation(f"{self}: {what} is not supported")

    def operand(self, place: int) -> Operand:
        return self.inputs[place] if place < len(self.inputs) else None

    def value(self, place: int = 0) -> Value:
        """An input that depends on the model's; a constant in its place is refused."""
        found = self.operand(place)
        if not isinstance(found, Value):
            self.refuse(f"input {place} that does not depend on the model's input")
        return found

    def constant(self, place: int, name: str, default: Any = None) -> Any:
        """An input that must be constant, or the attribute of that name in older operator sets."""
        found = self.operand(place)
        if isinstance(found, Value):
            self.refuse(f"{name!r} that depends on the model's input")
        return self.attributes.get(name, default) if found is None else found

    def numbers(self, place: int, name: str) -> list[int] | None:
        """The same as whole numbers."""
        found = self.constant(place, name)
        return None if found is None else [int(v) for v in np.atleast_1d(found)]

    def axis(self, value: Value, axis: int) -> int:
        """A dimension of ONNX's, counted from the front."""
        if not -len(value.shape) <= axis < max(len(value.shape), 1):
            self.refuse(f"axis {axis} of a tensor of shape {value.shape}")
        return axis % max(len(value.shape), 1)


Rule: TypeAlias = Callable[[Operator], "Value | list[Value]"]


# -------------------------------------------------------------------------------------------------------- pointwise


def _unary(function: Callable[..., Any], **given: tuple[str, Any]) -> Rule:
    """A function of one tensor; `given` are its keyword arguments, as attributes and their defaults."""

    def rule(op: Operator) -> Value:
        named = {k: op.attributes.get(name, default) for k, (name, default) in given.items()}
        return Value(op.builder.call(function, op.value(), **named), op.value().shape)

    return rule


def _binary(function: Callable[..., Any]) -> Rule:
    def rule(op: Operator) -> Value:
        return op.builder.pointwise(function, *_operands(op))

    return rule


def _operands(op: Operator) -> list[Any]:
    found = [i for i in op.inputs if i is not None]
    if op.opset < 7 and op.attributes.get("axis") is not None:
        op.refuse("broadcasting along an axis, as operator sets before 7 have it,")
    return found


def _add(op: Operator) -> Value:
    first, second = _operands(op)
    for product, bias, name in ((first, second, op.names[0]), (second, first, op.names[1])):
        if isinstance(bias, np.ndarray) and op.builder.used[name] == 1:
            joined = op.builder.biased(product, bias)
            if joined is not None:
                return joined
    return op.builder.pointwise(python.add, first, second)


def _divide(op: Operator) -> Value:
    first, second = _operands(op)
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return op.builder.pointwise(python.truediv, first, second)
    inverse = Value(op.builder.call(torch.reciprocal, second), second.shape)
    return op.builder.pointwise(python.mul, first, inverse)


def sum_of(op: Operator) -> Value:
    """Of any number of operands."""
    total, *others = _operands(op)
    for other in others:
        total = op.builder.pointwise(python.add, total, other)
    return total


def _extreme(sign: int) -> Rule:
    """The largest (sign 1) or smallest of operands: a + relu(b - a), which has a bound for tensors that differ."""

    def rule(op: Operator) -> Value:
        operands = _operands(op)
        numbers = [o for o in operands if isinstance(o, np.ndarray) and o.size == 1]
        first = next(o for o in operands if isinstance(o, Value))
        best, b = first, op.builder
        for other in operands:
            if other is first or any(other is n for n in numbers):
                continue
            above = b.pointwise(python.sub, *((other, best) if sign > 0 else (best, other)))
            excess = b.pointwise(torch.relu, above)
            best = b.pointwise(python.add if sign > 0 else python.sub, best, excess)
        for number in numbers:
            limit = {"min" if sign > 0 else "max": number.reshape(()).item()}
            best = Value(b.call(torch.clamp, best, **limit), best.shape)
        return best

    return rule


def _clip(op: Operator) -> Value:
    limits = {}
    for place, name in ((1, "min"), (2, "max")):
        limit = op.constant(place, name)
        if limit is not None and abs(float(np.reshape(limit, ()))) < np.finfo(np.float32).max:
            limits[name] = float(np.reshape(limit, ()))
    if not limits:
        return op.value()
    return Value(op.builder.call(torch.clamp, op.value(), **limits), op.value().shape)


def _hard_sigmoid(op: Operator) -> Value:
    b, x = op.builder, op.value()
    line = b.call(python.add, b.call(python.mul, x, op.attributes.get("alpha", 0.2)), op.attributes.get("beta", 0.5))
    return Value(b.call(torch.clamp, line, min=0.0, max=1.0), x.shape)


def _selu(op: Operator) -> Value:
    b, x = op.builder, op.value()
    alpha = op.attributes.get("alpha", 1.67326319217681884765625)
    gamma = op.attributes.get("gamma", 1.05070102214813232421875)
    return Value(b.call(python.mul, b.call(F.elu, x, alpha), gamma), x.shape)


def _gelu(op: Operator) -> Value:
    approximate = op.attributes.get("approximate", b"none").decode()
    return Value(op.builder.call(F.gelu, op.value(), approximate=approximate), op.value().shape)


def _prelu(op: Operator) -> Value:
    b, x, slope = op.builder, op.value(), op.constant(1, "slope")
    if slope.size == 1:
        return Value(b.call(F.leaky_relu, x, slope.reshape(()).item()), x.shape)
    positive = b.pointwise(python.mul, Value(b.call(torch.relu, x), x.shape), 1 - slope)
    return b.pointwise(python.add, b.pointwise(python.mul, x, slope), positive)


def _power(op: Operator) -> Value:
    exponent = op.operand(1)
    if not isinstance(exponent, np.ndarray) or exponent.size != 1:
        op.refuse("an exponent that is not one constant number")
    number = exponent.reshape(()).item()
    whole = int(number) if float(number).is_integer() else float(number)
    return Value(op.builder.call(torch.pow, op.value(), whole), op.value().shape)


def _where(op: Operator) -> Value:
    return op.builder.pointwise(torch.where, *_operands(op))


def _same(op: Operator) -> Value:
    return op.value()


def _dropout(op: Operator) -> Value:
    if bool(op.constant(2, "training_mode", False)):
        op.refuse("dropout in training mode")
    if len(op.outputs) > 1 and op.builder.used.get(op.outputs[1]):
        op.refuse("the mask of dropout")
    return op.value()


def _cast(op: Operator) -> Value:
    x = op.value()
    kind = op.builder.onnx.helper.tensor_dtype_to_np_dtype(op.attributes["to"])
    own = x.node.meta["example"].dtype
    if str(own).removeprefix("torch.") != str(kind):
        op.refuse(f"a conversion from {str(own).removeprefix('torch.')} to {kind}")
    return x


# -------------------------------------------------------------------------------------------------------- products


def _linear(op: Operator, x: Value, weight: Constant, bias: Constant | None = None) -> Value:
    """x·weightᵀ + bias over the last dimension."""
    b = op.builder
    shape = (*x.shape[:-1], len(weight))
    if not len(x.shape) or x.shape[-1] != weight.shape[1]:
        op.refuse(f"a product of shapes {x.shape} and {weight.shape[::-1]}, which do not fit,")
    given = [np.ascontiguousarray(a) for a in (weight, bias) if a is not None]
    return Value(b.call(F.linear, x, *given), shape)


def _matmul(op: Operator) -> Value:
    first, second = op.inputs
    if isinstance(second, np.ndarray) and second.ndim == 2:
        return _linear(op, op.value(), second.T)
    if isinstance(second, np.ndarray) and second.ndim == 1:
        product = _linear(op, op.value(), second[None])
        return op.builder.reshaped(product, product.shape[:-1])
    if isinstance(first, np.ndarray) and first.ndim == 2 and len(op.value(1).shape) <= 2:
        return _from_left(op, first, op.value(1))
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        op.refuse("a product with a constant that has a batch dimension")
    assert first is not None and second is not None
    if not (batched(first.shape) and batched(second.shape)) or min(len(first.shape), len(second.shape)) < 3:
        op.refuse(f"a product of two tensors of shapes {first.shape} and {second.shape} that depend on the input")
    shape = (*np.broadcast_shapes(first.shape[:-2], second.shape[:-2]), first.shape[-2], second.shape[-1])
    return Value(op.builder.call(torch.matmul, first, second), shape)


def _from_left(op: Operator, weight: Constant, x: Value) -> Value:
    """weight·x for a vector or a matrix x: what a linear layer does to the columns."""
    if len(x.shape) == 1:
        return _linear(op, x, weight)
    return _transposed(op, _linear(op, _transposed(op, x, (1, 0)), weight), (1, 0))


def _gemm(op: Operator) -> Value:
    alpha, beta = op.attributes.get("alpha", 1.0), op.attributes.get("beta", 1.0)
    first, second, bias = op.operand(0), op.operand(1), op.operand(2)
    b = op.builder
    if isinstance(second, np.ndarray):
        x = op.value(0)
        x = _transposed(op, x, (1, 0)) if op.attributes.get("transA") else x
        weight = second if op.attributes.get("transB") else second.T
        if alpha == beta == 1.0 and isinstance(bias, np.ndarray) and bias.shape[-1:] == (len(weight),) == (bias.size,):
            return _linear(op, x, weight, bias.reshape(-1))
        product = _linear(op, x, weight)
    elif isinstance(first, np.ndarray):
        x = op.value(1)
        x = _transposed(op, x, (1, 0)) if op.attributes.get("transB") else x
        product = _from_left(op, first.T if op.attributes.get("transA") else first, x)
    else:
        op.refuse("a product of two tensors that depend on the input")
    if alpha != 1.0:
        product = Value(b.call(python.mul, product, alpha), product.shape)
    if bias is None or beta == 0.0:
        return product
    if beta != 1.0:
        bias = (
            bias * np.asarray(beta, bias.dtype)
            if isinstance(bias, np.ndarray)
            else b.pointwise(python.mul, bias, np.array(beta))
        )
    return b.pointwise(python.add, product, bias)


# -------------------------------------------------------------------------------------------------------- windows


def _window(op: Operator, x: Value, kernel: list[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, dilations, and padding before and after each dimension."""
    dimensions = len(kernel)
    if not batched(x.shape) or len(x.shape) != dimensions + 2:
        op.refuse(f"an input of shape {x.shape}, which is not (1, channels, ...) with {dimensions} dimensions more,")
    strides = list(op.attributes.get("strides", [1] * dimensions))
    dilations = list(op.attributes.get("dilations", [1] * dimensions))
    automatic = op.attributes.get("auto_pad", b"NOTSET").decode()
    pads = list(op.attributes.get("pads", [0] * 2 * dimensions))
    before, after = pads[:dimensions], pads[dimensions:]
    if automatic.startswith("SAME"):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        sizes = zip(x.shape[2:], strides, reach, strict=True)
        total = [max((math.ceil(n / s) - 1) * s + r - n, 0) for n, s, r in sizes]
        small = [t // 2 for t in total]
        large = [t - s for t, s in zip(total, small, strict=True)]
        before, after = (small, large) if automatic == "SAME_UPPER" else (large, small)
    elif automatic == "VALID":
        before, after = [0] * dimensions, [0] * dimensions
    return strides, dilations, before, after


def _padded(op: Operator, x: Value, before: list[int], after: list[int], number: float = 0.0) -> Value:
    """Constants around the last dimensions."""
    pairs = list(itertools.chain(*zip(reversed(before), reversed(after), strict=True)))
    node = op.builder.call(F.pad, x, pairs, "constant", number)
    return op.builder.result(node, batch=batched(x.shape))


def _convolution(op: Operator) -> Value:
    x, weight = op.value(), op.constant(1, "weight")
    bias = op.constant(2, "bias")
    dimensions = weight.ndim - 2
    functions = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
    if dimensions not in functions:
        op.refuse(f"a convolution over {dimensions} dimensions")
    strides, dilations, before, after = _window(op, x, list(weight.shape[2:]))
    if before != after:
        x, before = _padded(op, x, before, after), [0] * dimensions
    groups = op.attributes.get("group", 1)
    node = op.builder.call(functions[dimensions], x, weight, bias, strides, before, dilations, groups)
    return op.builder.result(node, batch=True)


def _transposed_convolution(op: Operator) -> Value:
    x, weight = op.value(), op.constant(1, "weight")
    dimensions = weight.ndim - 2
    functions = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
    if dimensions not in functions or "output_shape" in op.attributes:
        op.refuse("a transposed convolution with output_shape, or over more than three dimensions,")
    if op.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        op.refuse("automatic padding of a transposed convolution")
    strides, dilations, before, after = _window(op, x, list(weight.shape[2:]))
    if before != after:
        op.refuse(f"a transposed convolution with uneven padding {before}, {after}")
    more = list(op.attributes.get("output_padding", [0] * dimensions))
    groups = op.attributes.get("group", 1)
    bias = op.constant(2, "bias")
    node = op.builder.call(functions[dimensions], x, weight, bias, strides, before, more, groups, dilations)
    return op.builder.result(node, batch=True)


def _batch_norm(op: Operator) -> Value:
    if op.attributes.get("training_mode") or len([o for o in op.outputs if o]) > 1:
        op.refuse("batch normalisation in training mode")
    scale, bias, mean, variance = (op.constant(i, n) for i, n in enumerate(("scale", "B", "mean", "var"), 1))
    x = op.value()
    if not batched(x.shape) or op.attributes.get("spatial", 1) != 1:
        op.refuse(f"batch normalisation of a tensor of shape {x.shape}, or without `spatial`,")
    node = op.builder.call(F.batch_norm, x, mean, variance, scale, bias, False, 0.0, op.attributes.get("epsilon", 1e-5))
    return Value(node, x.shape)


def _max_pool(op: Operator) -> Value:
    x, kernel = op.value(), list(op.attributes["kernel_shape"])
    functions = {1: torch.max_pool1d, 2: torch.max_pool2d, 3: torch.max_pool3d}
    if len(kernel) not in functions or op.attributes.get("storage_order", 0):
        op.refuse("max pooling by columns, or over more than three dimensions,")
    if len(op.outputs) > 1 and op.builder.used.get(op.outputs[1]):
        op.refuse("max pooling whose indices are used")
    strides, dilations, before, after = _window(op, x, kernel)
    if before != after:
        op.refuse(f"max pooling with uneven padding {before}, {after}")
    ceil = bool(op.attributes.get("ceil_mode", 0))
    node = op.builder.call(functions[len(kernel)], x, kernel, strides, before, dilations, ceil)
    return op.builder.result(node, batch=True)


def _average_pool(op: Operator) -> Value:
    x, kernel = op.value(), list(op.attributes["kernel_shape"])
    functions = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
    strides, dilations, before, after = _window(op, x, kernel)
    if len(kernel) not in functions or any(d != 1 for d in dilations):
        op.refuse("average pooling with dilation, or over more than three dimensions,")
    whole = bool(op.attributes.get("count_include_pad", 0))
    if before != after:
        if not whole:
            op.refuse(f"average pooling with uneven padding {before}, {after} that is not counted")
        x, before = _padded(op, x, before, after), [0] * len(kernel)
    ceil = bool(op.attributes.get("ceil_mode", 0))
    node = op.builder.call(functions[len(kernel)], x, kernel, strides, before, ceil, whole)
    return op.builder.result(node, batch=True)


def _global(op: Operator) -> Value:
    x = op.value()
    if not batched(x.shape):
        op.refuse(f"global pooling of a tensor of shape {x.shape}")
    if op.kind == "GlobalAveragePool":
        node = op.builder.call(torch.mean, x, list(range(2, len(x.shape))), keepdim=True)
    else:
        pools = {3: torch.max_pool1d, 4: torch.max_pool2d, 5: torch.max_pool3d}
        node = op.builder.call(pools[len(x.shape)], x, list(x.shape[2:]))
    return op.builder.result(node, batch=True)


# -------------------------------------------------------------------------------------------------------- shapes


def _reshape(op: Operator) -> Value:
    x, wanted = op.value(), op.numbers(1, "shape")
    if wanted is None:
        op.refuse("a reshape without a shape")
    keeps = not op.attributes.get("allowzero", 0)
    shape = [x.shape[i] if n == 0 and keeps else n for i, n in enumerate(wanted)]
    if -1 in shape:
        rest = math.prod(n for n in shape if n != -1)
        shape[shape.index(-1)] = math.prod(x.shape) // max(rest, 1)
    return op.builder.reshaped(x, tuple(shape))


def _flatten(op: Operator) -> Value:
    x = op.value()
    axis = op.attributes.get("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    return op.builder.reshaped(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _squeeze(op: Operator) -> Value:
    x, given = op.value(), op.numbers(1, "axes")
    axes = {i for i, n in enumerate(x.shape) if n == 1} if given is None else {op.axis(x, a) for a in given}
    if any(x.shape[a] != 1 for a in axes):
        op.refuse(f"leaving out dimensions {sorted(axes)} of shape {x.shape}")
    return op.builder.reshaped(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def _unsqueeze(op: Operator) -> Value:
    x, given = op.value(), op.numbers(1, "axes")
    rank = len(x.shape) + len(given or ())
    axes = {a % rank for a in given or ()}
    sizes = iter(x.shape)
    return op.builder.reshaped(x, tuple(1 if i in axes else next(sizes) for i in range(rank)))


def _transposed(op: Operator, x: Value, order: tuple[int, ...]) -> Value:
    """With another order of dimensions; the batch's 1, wherever it goes, moves no number."""
    shape = tuple(x.shape[i] for i in order)
    b = op.builder
    if batched(x.shape):
        inner = [i for i in order if i != 0]
        node = x.node if inner == sorted(inner) else b.call(torch.permute, x, (0, *inner))
        moved = Value(node, (1, *(x.shape[i] for i in inner)))
        return b.reshaped(moved, shape)
    node = b.call(torch.permute, x, (0, *(i + 1 for i in order)))
    return b.stored(node, shape, batch=False)


def _transpose(op: Operator) -> Value:
    x = op.value()
    return _transposed(op, x, tuple(op.attributes.get("perm", range(len(x.shape))[::-1])))


def _concat(op: Operator) -> Value:
    first = next(i for i in op.inputs if i is not None and not isinstance(i, np.ndarray))
    axis, b = op.axis(first, op.attributes["axis"]), op.builder
    size = sum(i.shape[axis] for i in op.inputs if i is not None)
    shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
    if any(isinstance(i, np.ndarray) for i in op.inputs):
        return _spliced(op, first, axis, shape)
    if axis > 0 and batched(first.shape):
        return Value(b.call(torch.cat, list(op.inputs), axis), shape)
    whole = [b.free(i) for i in op.inputs]  # pyright: ignore[reportArgumentType]
    return b.stored(b.call(torch.cat, whole, axis + 1), shape, batch=False)


def _spliced(op: Operator, first: Value, axis: int, shape: Shape) -> Value:
    """Tensors and constants side by side: each tensor with zeros around it, summed, and the constants added."""
    b, total, start = op.builder, None, 0
    constants = np.zeros(shape, dtype=str(first.node.meta["example"].dtype).removeprefix("torch."))
    if axis == 0 and batched(first.shape):
        op.refuse("joining a constant to a tensor along the batch's dimension")
    for given in op.inputs:
        assert given is not None
        end = start + given.shape[axis]
        if isinstance(given, np.ndarray):
            constants[tuple(slice(start, end) if i == axis else slice(None) for i in range(len(shape)))] = given
        else:
            before = [start if i == axis else 0 for i in range(len(shape))]
            after = [shape[axis] - end if i == axis else 0 for i in range(len(shape))]
            inner = slice(1 if batched(given.shape) else 0, None)
            part = Value(_padded(op, given, before[inner], after[inner]).node, shape)
            total = part if total is None else b.pointwise(python.add, total, part)
        start = end
    assert total is not None
    return b.pointwise(python.add, total, constants)


def _cut(op: Operator, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Some places of one dimension, in order."""
    places = range(x.shape[axis])[slice(start, stop, step)]
    if len(places) == x.shape[axis] and places == range(x.shape[axis]):
        return x
    if not places:
        op.refuse("a slice that leaves nothing")
    return _picked(op, x, axis, np.array(places))


def _picked(op: Operator, x: Value, axis: int, places: Constant) -> Value:
    """x at the given places of one dimension."""
    b = op.builder
    shape = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
    if axis == 0 and batched(x.shape):
        if len(places) != 1:
            op.refuse("repeating the batch's dimension")
        return x
    dimension = axis if batched(x.shape) else axis + 1
    steps = np.diff(places)
    if len(places) == 1 or (steps == 1).all():
        node = b.call(torch.narrow, x, dimension, int(places[0]), len(places))
    else:
        node = b.call(torch.index_select, x, dimension, places.astype(np.int64))
    return b.stored(node, shape, batched(x.shape))


def _slice(op: Operator) -> Value:
    x = op.value()
    starts, ends = op.numbers(1, "starts") or [], op.numbers(2, "ends") or []
    axes, steps = op.numbers(3, "axes"), op.numbers(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps, strict=True):
        axis = op.axis(x, axis)
        size = x.shape[axis]
        # A large negative end with a negative step is "to the first"; Python's slice would count it from the back.
        stop = None if step < 0 and end < -size else end
        x = _cut(op, x, axis, start, stop, step)  # pyright: ignore[reportArgumentType]
    return x


def _split(op: Operator) -> list[Value]:
    x = op.value()
    axis = op.axis(x, op.attributes.get("axis", 0))
    sizes = op.numbers(1, "split")
    if sizes is None:
        count = op.attributes.get("num_outputs", len(op.outputs))
        each = math.ceil(x.shape[axis] / count)
        sizes = [min(each, x.shape[axis] - i * each) for i in range(count)]
    ends = list(itertools.accumulate(sizes))
    return [_cut(op, x, axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _gather(op: Operator) -> Value:
    x, indices = op.value(), op.constant(1, "indices")
    axis = op.axis(x, op.attributes.get("axis", 0))
    places = np.asarray(indices, dtype=np.int64)
    if (places < -x.shape[axis]).any() or (places >= x.shape[axis]).any():
        op.refuse(f"indices outside of {x.shape[axis]}")
    picked = _picked(op, x, axis, places.reshape(-1) % x.shape[axis])
    return op.builder.reshaped(picked, (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def _pad(op: Operator) -> Value:
    x, pads = op.value(), op.numbers(1, "pads") or list(op.attributes.get("paddings", ()))
    mode = op.attributes.get("mode", b"constant").decode()
    rank = len(x.shape)
    if mode != "constant":
        op.refuse(f"padding of mode {mode!r}")
    axes = op.numbers(3, "axes")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes or range(rank)):
        before[axis % rank], after[axis % rank] = pads[i], pads[i + len(pads) // 2]
    number = op.constant(2, "value", 0.0)
    return _around(op, x, before, after, float(np.reshape(number, ())))


def _around(op: Operator, x: Value, before: list[int], after: list[int], number: float) -> Value:
    if not any(before) and not any(after):
        return x
    inner = slice(1 if batched(x.shape) else 0, None)
    if any(before[: inner.start]) or any(after[: inner.start]):
        op.refuse("padding of the batch's dimension")
    return _padded(op, x, before[inner], after[inner], number)


def _reduced(function: Callable[..., Any]) -> Rule:
    """A sum or mean over dimensions; over the batch's 1 it changes nothing."""

    def rule(op: Operator) -> Value:
        x, keep = op.value(), bool(op.attributes.get("keepdims", 1))
        given = op.numbers(1, "axes")
        if given == [] and op.attributes.get("noop_with_empty_axes", 0):
            return x
        axes = {op.axis(x, a) for a in given} if given else set(range(len(x.shape)))
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes)
        shift = 0 if batched(x.shape) else 1
        dimensions = [a + shift for a in sorted(axes) if a + shift > 0]
        if not dimensions:
            return op.builder.reshaped(x, shape)
        node = op.builder.call(function, x, dimensions, keepdim=True)
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        return op.builder.reshaped(op.builder.stored(node, kept, batched(x.shape)), shape)

    return rule


def _expand(op: Operator) -> Value:
    x, wanted = op.value(), op.numbers(1, "shape") or []
    shape = tuple(np.broadcast_shapes(x.shape, tuple(wanted)))
    if math.prod(shape) != math.prod(x.shape):
        op.refuse(f"repeating a tensor of shape {x.shape} to {shape}")
    return op.builder.reshaped(x, shape)


def _resize(op: Operator) -> Value:
    """Nearest neighbours: each place of the output is one of the input's."""
    x = op.value()
    mode = op.attributes.get("mode", b"nearest").decode()
    if mode != "nearest":
        op.refuse(f"resizing of mode {mode!r}")
    place = {"Upsample": 1, "Resize": 2 if op.opset >= 11 else 1}[op.kind]
    scales, sizes = op.constant(place, "scales"), op.numbers(3, "sizes") if op.kind == "Resize" else None
    if sizes is None:
        factors = [float(s) for s in np.atleast_1d(scales)]
        sizes = [math.floor(n * s) for n, s in zip(x.shape, factors, strict=True)]
    else:
        factors = [m / n for m, n in zip(sizes, x.shape, strict=True)]
    old = op.kind == "Upsample" or op.opset < 11
    for axis, (size, factor) in enumerate(zip(sizes, factors, strict=True)):
        if size != x.shape[axis]:
            x = _picked(op, x, axis, _nearest(op, x.shape[axis], size, factor, old))
    return x


def _nearest(op: Operator, size: int, wanted: int, factor: float, old: bool) -> Constant:
    frame = "asymmetric" if old else op.attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = "floor" if old else op.attributes.get("nearest_mode", b"round_prefer_floor").decode()
    i = np.arange(wanted, dtype=np.float64)
    frames = {
        "asymmetric": lambda: i / factor,
        "half_pixel": lambda: (i + 0.5) / factor - 0.5,
        "pytorch_half_pixel": lambda: (i + 0.5) / factor - 0.5 if wanted > 1 else 0 * i,
        "align_corners": lambda: i * (size - 1) / max(wanted - 1, 1),
    }
    roundings = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }
    if frame not in frames or rounding not in roundings:
        op.refuse(f"resizing with {frame!r} and {rounding!r}")
    return np.clip(roundings[rounding](frames[frame]()), 0, size - 1).astype(np.int64)


def _softmax(function: Callable[..., Any]) -> Rule:
    def rule(op: Operator) -> Value:
        x = op.value()
        axis = op.axis(x, op.attributes.get("axis", -1 if op.opset >= 13 else 1))
        if op.opset < 13 and math.prod(x.shape[axis + 1 :]) != 1:
            op.refuse("a softmax over several dimensions together, as operator sets before 13 have it,")
        if axis == 0 and batched(x.shape):
            op.refuse("a softmax over the batch's dimension")
        return Value(op.builder.call(function, x, axis if batched(x.shape) else axis + 1), x.shape)

    return rule


def _layer_norm(op: Operator) -> Value:
    x, scale, bias = op.value(), op.constant(1, "Scale"), op.constant(2, "B")
    axis = op.axis(x, op.attributes.get("axis", -1))
    if len([o for o in op.outputs if o]) > 1 or (axis == 0 and batched(x.shape)):
        op.refuse("layer normalisation over the batch's dimension, or with its statistics as outputs,")
    shape = x.shape[axis:]
    given = [None if c is None else np.broadcast_to(c, shape).copy() for c in (scale, bias)]
    eps = op.attributes.get("epsilon", 1e-5)
    return Value(op.builder.call(F.layer_norm, x, shape, *given, eps), x.shape)


def _instance_norm(op: Operator) -> Value:
    x, scale, bias = op.value(), op.constant(1, "scale"), op.constant(2, "B")
    if not batched(x.shape) or len(x.shape) < 3:
        op.refuse(f"instance normalisation of a tensor of shape {x.shape}")
    eps = op.attributes.get("epsilon", 1e-5)
    return Value(op.builder.call(F.group_norm, x, x.shape[1], scale, bias, eps), x.shape)


_TORCH = "Relu Sigmoid Tanh Exp Log Sin Cos Tan Sinh Cosh Asinh Atanh Sqrt Neg Abs Erf Reciprocal Sign Floor Ceil Round"
OPERATORS: dict[str, Rule] = {
    **{name: _unary(getattr(torch, name.lower())) for name in _TORCH.split()},
    "Atan": _unary(torch.atan),
    "Not": _unary(torch.logical_not),
    "Softsign": _unary(F.softsign),
    "Mish": _unary(F.mish),
    "HardSwish": _unary(F.hardswish),
    "LeakyRelu": _unary(F.leaky_relu, negative_slope=("alpha", 0.01)),
    "Elu": _unary(F.elu, alpha=("alpha", 1.0)),
    "Celu": _unary(F.celu, alpha=("alpha", 1.0)),
    "Softplus": _unary(F.softplus, beta=("", 1.0), threshold=("", _SOFTPLUS_THRESHOLD)),
    "ThresholdedRelu": _unary(F.threshold, threshold=("alpha", 1.0), value=("", 0.0)),
    "Selu": _selu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "PRelu": _prelu,
    "Clip": _clip,
    "Pow": _power,
    "Add": _add,
    "Sub": _binary(python.sub),
    "Mul": _binary(python.mul),
    "Div": _divide,
    "Sum": sum_of,
    "Max": _extreme(1),
    "Min": _extreme(-1),
    "Where": _where,
    **{
        name: _binary(function)
        for name, function in {
            "Greater": python.gt,
            "GreaterOrEqual": python.ge,
            "Less": python.lt,
            "LessOrEqual": python.le,
            "Equal": python.eq,
            "And": torch.logical_and,
            "Or": torch.logical_or,
            "Xor": torch.logical_xor,
        }.items()
    },
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "BatchNormalization": _batch_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global,
    "GlobalMaxPool": _global,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "ReduceSum": _reduced(torch.sum),
    "ReduceMean": _reduced(torch.mean),
    "Expand": _expand,
    "Upsample": _resize,
    "Resize": _resize,
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
}
