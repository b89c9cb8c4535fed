"""What torch's operations do to channels.

Linear operations act on each channel by itself; bilinear ones follow the algebra's product; pointwise functions of one
argument act by their Taylor series, from the formulas of `activation.operations`, so that every spelling is known once.
Norms and softmax are written out in these.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from varphi.activation.formula import Formula
from varphi.activation.operations import POINTWISE, RANDOM
from varphi.numbers import UnsupportedOperation, variable
from varphi.numbers.expression import constant

from . import attention
from .algebra import is_zero
from .channels import Channels, MissingRule, shown

_REMEDY = 'ask for fallback="autograd", which is slower, or write the model with other operations'


def apply(name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a torch function some of whose arguments are channels.

    Args:
        name: its key, as `activation.operations.name_of` gives it.
        func: the function itself.

    Raises:
        MissingRule: there is no rule for it, or for these arguments.
    """
    if getattr(func, "__name__", "") in _PYTHON or name in _TAKEN_OUT:
        raise MissingRule(f"{shown(func)} takes values out of the tensor, and their derivatives are lost: use torch's")
    if name in _VALUES:
        return func(*_values(args), **_values(kwargs))
    rule = _RULES.get(name)
    if rule is not None:
        return rule(func, *args, **kwargs)
    if name in _LINEAR:
        return _linearly(func, args, kwargs)
    if name in POINTWISE:
        return _pointwise(name, func, args, kwargs)
    raise MissingRule(f"derivatives cannot be carried through {shown(func)}: {_REMEDY}")


def _values(what: Any) -> Any:
    """Channels replaced by the quantities themselves."""
    return _mapped(what, lambda channels: channels.value)


def _mapped(what: Any, change: Callable[[Channels], Any]) -> Any:
    """Channels inside arguments, lists and dictionaries replaced."""
    if isinstance(what, Channels):
        return change(what)
    if type(what) in (list, tuple):
        return type(what)(_mapped(w, change) for w in what)
    if type(what) is dict:
        return {k: _mapped(w, change) for k, w in what.items()}
    return what


def _found(what: Any) -> list[Channels]:
    found: list[Channels] = []
    _mapped(what, found.append)
    return found


# What leads out of torch.
_PYTHON = frozenset(("__float__", "__int__", "__bool__", "__index__", "__complex__", "__array__"))
_TAKEN_OUT = frozenset(("item", "numpy", "tolist"))

# Whose results have no derivative: they are those of the value.
_VALUES_WRITTEN = """
    gt ge lt le eq ne greater greater_equal less less_equal not_equal isnan isfinite isinf zeros_like ones_like
    full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor detach data sign sgn
    floor ceil round trunc argmax argmin argsort equal allclose isclose any all logical_not logical_and logical_or
    """
_VALUES = frozenset(_VALUES_WRITTEN.split())

# Linear in one argument, the rest constant; one channel's rule is every channel's.
_LINEAR_WRITTEN = """
    view reshape flatten unflatten ravel permute transpose t T mT adjoint squeeze unsqueeze expand expand_as
    broadcast_to movedim moveaxis swapaxes swapdims getitem select narrow chunk split split_with_sizes tensor_split
    unbind sum mean cumsum roll flip fliplr flipud repeat repeat_interleave tile contiguous clone to float double type
    type_as cpu cuda pad avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    interpolate upsample pixel_shuffle pixel_unshuffle unfold fold diff index_select gather take_along_dim tril triu
    diagonal trace nansum view_as reshape_as neg positive identity stack cat concat concatenate hstack vstack dstack
    rot90 kron channel_shuffle narrow_copy as_strided masked_select take
    """
_LINEAR = frozenset(_LINEAR_WRITTEN.split())


def _linearly(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = _found([args, kwargs])
    algebra = given[0].algebra
    results: list[Any] = []
    for channel in range(len(algebra)):
        if all(is_zero(g.quantity.parts[channel]) for g in given):
            results.append(0)
            continue
        change = functools.partial(_mapped, change=lambda g, c=channel: g.quantity.part(c))
        # A constant among the joined ones is constant in the value's channel and zero in the others.
        arguments = change(args) if channel == 0 else change(_without_constants(args))
        results.append(func(*arguments, **change(kwargs)))
    return _regrouped(algebra, results)


def _without_constants(what: Any) -> Any:
    """Tensors beside channels in a list, as in cat([x, t]), replaced by zeros."""
    if type(what) in (list, tuple) and any(isinstance(w, Channels) for w in what):
        return type(what)(torch.zeros_like(w) if type(w) is Tensor and w.is_floating_point() else w for w in what)
    if type(what) in (list, tuple):
        return type(what)(_without_constants(w) for w in what)
    return what


def _regrouped(algebra: Any, results: list[Any]) -> Any:
    """One result for each channel, each a tensor or several, as channels or several of them."""
    first = results[0]
    if isinstance(first, Tensor):
        return Channels.of_parts(algebra, results, first.shape)
    several = [Channels.of_parts(algebra, [0 if is_zero(r) else r[i] for r in results]) for i in range(len(first))]
    return type(first)(several) if type(first) in (list, tuple) else tuple(several)


_X = variable("x")


@functools.lru_cache(maxsize=1024)
def _formula(name: str, before: tuple[Any, ...], after: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> Formula:
    return Formula(constant(POINTWISE[name](*before, _X, *after, **dict(named))))


def _pointwise(name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of one quantity and plain numbers."""
    kwargs = {k: v for k, v in kwargs.items() if k not in ("inplace", "out")}
    first = next(iter(kwargs)) if not args else None
    if first is not None:  # F.gelu(input=x)
        args = (kwargs.pop(first),)
    places = [i for i, a in enumerate(args) if isinstance(a, Channels)]
    rest = [*args[: places[0]], *args[places[0] + 1 :], *kwargs.values()] if places else []
    plain = [_number(r) for r in rest]
    if len(places) != 1 or any(p is None for p in plain):
        raise MissingRule(f"derivatives cannot be carried through {shown(func)} of several tensors: {_REMEDY}")
    place = places[0]
    before, after = plain[:place], plain[place : len(args) - 1]
    named = tuple(zip(kwargs, plain[len(args) - 1 :], strict=True))
    try:
        formula = _formula(name, tuple(before), tuple(after), named)
    except (NotImplementedError, UnsupportedOperation) as error:
        raise MissingRule(f"derivatives cannot be carried through {shown(func)} ({error}): {_REMEDY}") from None
    channels: Channels = args[place]
    return channels if formula.expression is _X else channels.activated(formula)


def _number(value: Any) -> Any:
    """A setting of a pointwise function: a number, a word or a truth value; None for anything else."""
    if isinstance(value, (numbers.Real, str, bool)):
        return value
    if isinstance(value, Tensor) and not isinstance(value, Channels) and value.numel() == 1:
        return None if value.requires_grad else value.item()
    return None


def _applied(name: str, x: Channels) -> Channels:
    formula = _formula(name, (), (), ())
    return x.activated(formula)


def _is_constant(value: Any) -> bool:
    return not isinstance(value, Channels)


def _add(func: Any, input: Any, other: Any, *, alpha: Any = 1) -> Any:
    if not _is_constant(other) and alpha != 1:
        other = _scaled(other, alpha)
    elif alpha != 1:
        other = other * alpha
    if _is_constant(input):
        input, other = other, input
    if not _is_constant(other):
        return _sum_of(input, other)
    shape = torch.broadcast_shapes(input.shape, getattr(other, "shape", ()))
    return Channels.of_parts(input.algebra, [input.quantity.parts[0] + other, *input.quantity.parts[1:]], shape)


def _sum_of(a: Channels, b: Channels) -> Channels:
    u, v = a.quantity, b.quantity
    if u.is_packed and v.is_packed and u.shape == v.shape and u.packed[1] == v.packed[1]:
        return Channels.of_packed(a.algebra, u.packed[0] + v.packed[0], u.packed[1])
    parts = [q if is_zero(p) else p if is_zero(q) else p + q for p, q in zip(u.parts, v.parts, strict=True)]
    return Channels.of_parts(a.algebra, parts, torch.broadcast_shapes(a.shape, b.shape))


def _scaled(x: Channels, factor: Any) -> Channels:
    """Times a constant: a number, or a tensor that broadcasts."""
    if isinstance(factor, (int, float)) and x.quantity.is_packed:
        return Channels.of_packed(x.algebra, x.quantity.packed[0] * factor, x.quantity.packed[1])
    shape = torch.broadcast_shapes(x.shape, getattr(factor, "shape", ()))
    return Channels.of_parts(x.algebra, [0 if is_zero(p) else p * factor for p in x.quantity.parts], shape)


def _sub(func: Any, input: Any, other: Any, *, alpha: Any = 1) -> Any:
    return _add(func, input, _negated(other), alpha=alpha)


def _negated(x: Any) -> Any:
    return _scaled(x, -1) if isinstance(x, Channels) else -x


def _rsub(func: Any, input: Any, other: Any, *, alpha: Any = 1) -> Any:
    return _sub(func, other, input, alpha=alpha)


def _mul(func: Any, input: Any, other: Any) -> Any:
    if _is_constant(input):
        input, other = other, input
    if _is_constant(other):
        return _scaled(input, other)
    shape = torch.broadcast_shapes(input.shape, other.shape)
    return Channels.of_parts(input.algebra, input.algebra.multiply(input.quantity.parts, other.quantity.parts), shape)


def _div(func: Any, input: Any, other: Any, *, rounding_mode: Any = None) -> Any:
    if rounding_mode is not None:
        raise MissingRule(f"{shown(func)} with rounding has no derivative")
    if not _is_constant(other):
        return _mul(func, input, _applied("reciprocal", other))
    return _scaled(input, 1 / other)


def _rdiv(func: Any, input: Any, other: Any) -> Any:
    return _div(func, other, input)


def _pow(func: Any, input: Any, exponent: Any) -> Any:
    if _is_constant(exponent):
        return _pointwise("pow", func, (input, exponent), {})
    base = input if isinstance(input, Tensor) else torch.tensor(input, dtype=exponent.dtype)
    log = _applied("log", base) if isinstance(base, Channels) else base.log()
    return _applied("exp", _mul(func, exponent, log))


def _square(func: Any, input: Any) -> Any:
    return _mul(func, input, input)


def _addcmul(func: Any, input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return input + value * (tensor1 * tensor2)


def _addcdiv(func: Any, input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return input + value * (tensor1 / tensor2)


def _lerp(func: Any, input: Any, end: Any, weight: Any) -> Any:
    return input + weight * (end - input)


def _where(func: Any, condition: Any, input: Any, other: Any) -> Any:
    condition = _values(condition)
    algebra = _found([input, other])[0].algebra

    def side(x: Any, channel: int) -> Any:
        if isinstance(x, Channels):
            return x.quantity.part(channel)
        return x if channel == 0 else 0.0

    results = [torch.where(condition, side(input, c), side(other, c)) for c in range(len(algebra))]
    return Channels.of_parts(algebra, results)


def _masked_fill(func: Any, input: Any, mask: Any, value: Any) -> Any:
    return _where(func, mask, value, input)


def _extremum(greater: bool) -> Callable[..., Any]:
    def rule(func: Any, input: Any, other: Any = None, keepdim: bool = False, *, dim: Any = None) -> Any:
        if isinstance(other, int):  # max(x, dim) and max(x, y) are written alike
            dim, other = other, None
        if other is not None:
            a, b = _values(input), _values(other)
            return _where(func, a > b if greater else a < b, input, other)
        pick = torch.Tensor.argmax if greater else torch.Tensor.argmin
        if dim is None:
            return _gathered(input.reshape(-1), pick(input.value).reshape(1), 0).reshape(())
        places = pick(input.value, dim=dim, keepdim=True)
        chosen = _gathered(input, places, dim)
        return _like_max(func, chosen if keepdim else chosen.squeeze(dim), places if keepdim else places.squeeze(dim))

    return rule


def _gathered(x: Any, places: Tensor, dim: int) -> Any:
    return torch.gather(x, dim, places)


def _like_max(func: Any, values: Any, places: Tensor) -> Any:
    """`max` gives values and places, `amax` values alone."""
    if getattr(func, "__name__", "").startswith("a"):
        return values
    return torch.return_types.max((values, places))


def _linear(func: Any, input: Any, weight: Any, bias: Any = None) -> Any:
    if not _is_constant(weight) or not _is_constant(bias):
        return _plus_bias(_matmul(func, input, weight.mT), bias)
    if weight.dim() == 3:
        return _linear_each(input, weight, bias)
    together = input.quantity.then_linear(weight, bias)
    if together is not None:
        return Channels.of(together)
    if input.quantity.is_packed and input.quantity.packed[1] < input.dim():
        packed, axis = input.quantity.packed
        result = F.linear(packed, weight)
        if bias is not None:
            result = _add_to_value(result, bias, axis)
        return Channels.of_packed(input.algebra, result, axis)
    parts = [
        0 if is_zero(p) else F.linear(p, weight, bias if c == 0 else None) for c, p in enumerate(input.quantity.parts)
    ]
    return Channels.of_parts(input.algebra, parts, (*input.shape[:-1], weight.shape[0]))


def _add_to_value(packed: Tensor, bias: Tensor, axis: int) -> Tensor:
    """A packed tensor with a bias added to the value alone."""
    unit = torch.zeros(packed.shape[axis], dtype=packed.dtype, device=packed.device)
    unit[0] = 1
    return packed + unit.view(-1, *[1] * (packed.dim() - axis - 1)) * bias


def _linear_each(input: Any, weight: Tensor, bias: Any) -> Any:
    """A linear layer with weights of its own for each sample: input (samples, in), weight (samples, out, in)."""
    packed, axis = input.quantity.packed
    if axis != 1 or packed.dim() != 3:
        raise MissingRule(f"weights for each sample take an input (samples, features), got {tuple(input.shape)}")
    result = torch.bmm(packed, weight.mT)
    if bias is not None:
        result = torch.cat([result[:, :1] + bias[:, None], result[:, 1:]], 1)
    return Channels.of_packed(input.algebra, result, 1)


def _plus_bias(x: Any, bias: Any) -> Any:
    return x if bias is None else x + bias


def _bilinear(combine: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An operation that is linear in each of two arguments."""

    def rule(func: Any, input: Any, other: Any) -> Any:
        if _is_constant(input):
            return _linearly(functools.partial(combine, input), (other,), {})
        if _is_constant(other):
            return _linearly(lambda x: combine(x, other), (input,), {})
        u, v = (_factors(g, combine) for g in (input, other))
        results = [r.tensor if isinstance(r, _Factor) else r for r in input.algebra.multiply(u, v)]
        return Channels.of_parts(input.algebra, results, results[0].shape)

    return rule


def _factors(x: Channels, combine: Callable[[Any, Any], Any]) -> list[Any]:
    return [p if is_zero(p) else _Factor(x.quantity.part(c), combine) for c, p in enumerate(x.quantity.parts)]


class _Factor:
    """A tensor whose `*` is another bilinear operation."""

    def __init__(self, tensor: Tensor, combine: Callable[[Any, Any], Any]) -> None:
        self.tensor, self.combine = tensor, combine

    def __mul__(self, other: _Factor) -> _Sum:
        return _Sum(self.combine(self.tensor, other.tensor))


class _Sum(_Factor):
    """A result of such an operation: summed and scaled as tensors are."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __add__(self, other: _Sum) -> _Sum:
        return _Sum(self.tensor + other.tensor)

    def __rmul__(self, factor: float) -> _Sum:
        return _Sum(self.tensor * factor)


_matmul = _bilinear(torch.matmul)


def _rmatmul(func: Any, input: Any, other: Any) -> Any:
    return _matmul(func, other, input)


def _addmm(func: Any, input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return beta * input + alpha * torch.matmul(mat1, mat2)


def _einsum(func: Any, equation: str, *operands: Any) -> Any:
    operands = tuple(operands[0]) if len(operands) == 1 and type(operands[0]) in (list, tuple) else operands
    given = [i for i, o in enumerate(operands) if isinstance(o, Channels)]
    if len(given) == 1:
        place = given[0]
        return _linearly(lambda x: torch.einsum(equation, *operands[:place], x, *operands[place + 1 :]),
                         (operands[place],), {})  # fmt: skip
    if len(given) == 2 == len(operands):
        return _bilinear(lambda a, b: torch.einsum(equation, a, b))(func, *operands)
    raise MissingRule(
        f"einsum of {len(operands)} tensors of which {len(given)} depend on the input: take two at a time"
    )


def _bilinear_layer(func: Any, input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    return _plus_bias((torch.einsum("...i,oij->...oj", input1, weight) * input2.unsqueeze(-2)).sum(-1), bias)


def _convolution(func: Any, input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
    if not _is_constant(weight):
        raise MissingRule(f"{shown(func)} with a weight that depends on the model's input: {_REMEDY}")
    unbatched = input.dim() < weight.dim()
    packed, axis = _packed_at(input, 0 if unbatched else 1)
    result = func(packed if unbatched else packed.flatten(0, 1), weight, None, *args, **kwargs)
    result = result if unbatched else result.unflatten(0, packed.shape[:2])
    if bias is not None:
        result = _add_to_value(result, bias.view(-1, *[1] * (weight.dim() - 2)), axis)
    return Channels.of_packed(input.algebra, result, axis)


def _packed_at(x: Any, axis: int) -> tuple[Tensor, int]:
    packed, there = x.quantity.packed
    return (packed if there == axis else packed.movedim(there, axis)), axis


def _max_pool(dims: int) -> Callable[..., Any]:
    pool = getattr(F, f"max_pool{dims}d")

    def rule(
        func: Any, input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False, return_indices: bool = False,
    ) -> Any:  # fmt: skip
        if return_indices:
            raise MissingRule(f"{shown(func)} with indices: {_REMEDY}")
        pooled, places = pool(input.value, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
        chosen = input.flatten(-dims).gather(-1, places.flatten(-dims))
        return chosen.unflatten(-1, pooled.shape[-dims:])

    return rule


def _softmax(func: Any, input: Any, dim: Any = None, *_: Any, **__: Any) -> Any:
    weights = torch.exp(input - input.value.detach().amax(dim, keepdim=True))
    return weights / weights.sum(dim, keepdim=True)


def _log_softmax(func: Any, input: Any, dim: Any = None, *_: Any, **__: Any) -> Any:
    return input - torch.logsumexp(input, dim, keepdim=True)


def _logsumexp(func: Any, input: Any, dim: Any, keepdim: bool = False) -> Any:
    highest = input.value.detach().amax(dim, keepdim=True)
    total = torch.log(torch.exp(input - highest).sum(dim, keepdim=True)) + highest
    return total if keepdim else total.squeeze(dim)


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _standardised(x: Any, dims: list[int], eps: float) -> Any:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt(torch.square(centred).mean(dims, keepdim=True) + eps)


def _layer_norm(
    func: Any, input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5,
    *_: Any,
) -> Any:  # fmt: skip
    dims = list(range(-len(normalized_shape), 0))
    return _affine(_standardised(input, dims, eps), weight, bias)


def _rms_norm(func: Any, input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: Any = None) -> Any:
    dims = list(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(input * torch.rsqrt(torch.square(input).mean(dims, keepdim=True) + eps), weight, None)


def _per_channel(x: Any, weight: Any) -> Any:
    return None if weight is None else weight.view(-1, *[1] * (x.dim() - 2))


def _group_norm(
    func: Any, input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    grouped = input.reshape(input.shape[0], num_groups, -1)
    result = _standardised(grouped, [-1], eps).reshape(input.shape)
    return _affine(result, _per_channel(input, weight), _per_channel(input, bias))


def _batch_norm(
    func: Any, input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5, *_: Any,
) -> Any:  # fmt: skip
    if training or running_mean is None:
        raise MissingRule(
            "batch normalisation in training mode mixes the samples: none has a derivative by its own input alone; "
            "call model.eval(), or use LayerNorm"
        )
    scale = torch.rsqrt(running_var + eps)
    result = (input - _per_channel(input, running_mean)) * _per_channel(input, scale)
    return _affine(result, _per_channel(input, weight), _per_channel(input, bias))


def _dropout(func: Any, input: Any, p: float = 0.5, training: bool = True, *_: Any, **__: Any) -> Any:
    if not training or p == 0:
        return input
    # One mask for the value and its derivatives: a fixed network is differentiated.
    return _scaled(input, func(torch.ones_like(input.value), p, training))


def _variance(func: Any, input: Any, dim: Any = None, *, correction: Any = 1, unbiased: Any = None,
              keepdim: bool = False) -> Any:  # fmt: skip
    dims = list(range(input.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    correction = correction if unbiased is None else int(unbiased)
    count = math.prod(input.shape[d] for d in dims) - correction
    return torch.square(input - input.mean(dims, keepdim=True)).sum(dims, keepdim=keepdim) / count


def _deviation(func: Any, *args: Any, **kwargs: Any) -> Any:
    return torch.sqrt(_variance(func, *args, **kwargs))


def _norm(func: Any, input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, *_: Any, **named: Any) -> Any:
    order = named.get("ord", p)
    if order not in (2, 2.0, "fro", None):
        raise MissingRule(f"{shown(func)} of order {order!r}: only the Euclidean norm is known; {_REMEDY}")
    squares = torch.square(input)
    return torch.sqrt(squares.sum() if dim is None else squares.sum(dim, keepdim=keepdim))


def _normalize(func: Any, input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, **_: Any) -> Any:
    return input / torch.clamp_min(_norm(func, input, p, dim, True), eps)


def _product_over(func: Any, input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    x = input.reshape(-1) if dim is None else input
    axis = 0 if dim is None else dim
    result = functools.reduce(lambda a, b: a * b, x.unbind(axis))
    return result.unsqueeze(axis) if keepdim and dim is not None else result


def _set_item(func: Any, *_: Any) -> Any:
    raise MissingRule("assigning to part of a tensor (x[...] = y) that depends on the input: use cat, stack or where")


def _same(func: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
    if any(isinstance(a, torch.dtype) for a in (*args, *kwargs.values())):
        return _linearly(func, (input, *args), kwargs)
    return input


_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(RANDOM, _dropout),
    **dict.fromkeys(("contiguous", "clone", "identity", "positive", "requires_grad"), _same),
    "add": _add, "sub": _sub, "subtract": _sub, "rsub": _rsub, "mul": _mul, "multiply": _mul, "rmul": _mul,
    "radd": _add, "div": _div, "divide": _div, "true_divide": _div, "truediv": _div, "rdiv": _rdiv, "rtruediv": _rdiv,
    "neg": lambda func, input: _negated(input), "negative": lambda func, input: _negated(input),
    "pow": _pow, "rpow": lambda func, input, other: _pow(func, other, input), "square": _square,
    "addcmul": _addcmul, "addcdiv": _addcdiv, "lerp": _lerp,
    "where": _where, "masked_fill": _masked_fill,
    "maximum": _extremum(True), "max": _extremum(True), "amax": _extremum(True), "fmax": _extremum(True),
    "minimum": _extremum(False), "min": _extremum(False), "amin": _extremum(False), "fmin": _extremum(False),
    "linear": _linear, "matmul": _matmul, "rmatmul": _rmatmul, "mm": _matmul, "bmm": _matmul, "mv": _matmul,
    "dot": _bilinear(torch.dot), "inner": _bilinear(torch.inner), "outer": _bilinear(torch.outer),
    "addmm": _addmm, "baddbmm": _addmm, "addmv": _addmm, "einsum": _einsum,
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution
    ),
    **{f"max_pool{dims}d": _max_pool(dims) for dims in (1, 2, 3)},
    "bilinear": _bilinear_layer,
    "softmax": _softmax, "log_softmax": _log_softmax, "logsumexp": _logsumexp,
    "scaled_dot_product_attention": attention.scaled_dot_product, "multi_head_attention_forward": attention.multi_head,
    "layer_norm": _layer_norm, "rms_norm": _rms_norm, "group_norm": _group_norm, "batch_norm": _batch_norm,
    "var": _variance, "std": _deviation, "norm": _norm, "vector_norm": _norm, "linalg_vector_norm": _norm,
    "linalg_norm": _norm, "normalize": _normalize, "prod": _product_over,
    "setitem": _set_item,
}  # fmt: skip
