"""What torch's pointwise operations mean, in varphi's elementary functions.

One entry serves every spelling of an operation: `torch.exp`, `Tensor.exp`, `Tensor.exp_`. It has torch's parameter
names and order, and takes and gives expressions. A truth value is an expression that is 0 or 1 by pieces, so that
`torch.where`, `x * (x > 0)` and masks all become `where` on a comparison.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

from varphi.numbers import (
    ELEMENTARY,
    Expression,
    clamp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    normal_cdf,
    sigmoid,
    sign,
    sinc,
    softplus,
    sqrt,
    tanh,
    where,
)
from varphi.numbers.expression import constant

# F.softplus is x beyond its threshold; from 20 on the two differ by less than 1e-10 of the value.
_EXACT_SOFTPLUS = 20.0


def is_truth(value: Any) -> bool:
    """Whether an expression is 0 or 1 by pieces."""
    if not isinstance(value, Expression):
        return isinstance(value, bool)
    if value.is_constant:
        return value.value in (0, 1)
    return value.operation == "where" and all(map(is_truth, value.arguments[1:]))


def choose(condition: Any, a: Any, b: Any) -> Expression:
    """`a` where a truth value is 1, `b` where it is 0."""
    node, a, b = (constant(int(v) if isinstance(v, bool) else v) for v in (condition, a, b))
    if not is_truth(node):
        node = _compare(operator.ne)(node, 0)
    if node.is_constant:
        return a if node.value else b
    test, first, second = node.arguments
    return where(test, choose(first, a, b), choose(second, a, b))


def _compare(relation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Expression]:
    def compare(input: Any, other: Any) -> Expression:
        left, right = constant(input), constant(other)
        if "x" in left.variables and "x" in right.variables:
            left, right = left - right, constant(0)
        return where(relation(left, right), 1, 0)

    return compare


def _add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    return input + alpha * other


def _sub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    return input - alpha * other


def _mul(input: Any, other: Any) -> Any:
    for mask, value in ((input, other), (other, input)):
        if isinstance(mask, Expression) and not mask.is_constant and is_truth(mask):
            return choose(mask, value, 0)
    return input * other


def _div(input: Any, other: Any, *, rounding_mode: None = None) -> Any:
    if rounding_mode is not None:
        raise NotImplementedError(f"rounding_mode={rounding_mode!r}")
    return constant(input) / other


def _pow(input: Any, exponent: Any) -> Any:
    return constant(input) ** exponent


def _clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    return clamp(input, min, max)


def _extremum(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def extremum(input: Any, other: Any = None) -> Any:
        if other is None:
            raise NotImplementedError("over all elements")
        return function(input, other)

    return extremum


def _elu(input: Any, alpha: Any = 1.0, scale: Any = 1, input_scale: Any = 1) -> Any:
    return scale * where(input >= 0, input, alpha * expm1(input_scale * minimum(input, 0)))


def _celu(input: Any, alpha: Any = 1.0) -> Any:
    return where(input >= 0, input, alpha * expm1(minimum(input, 0) / alpha))


def _selu(input: Any) -> Any:
    return _elu(input, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def _gelu(input: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return input * sigmoid(2 * math.sqrt(2 / math.pi) * input * (1 + 0.044715 * input * input))
    return input * normal_cdf(input)


def _softplus(input: Any, beta: Any = 1.0, threshold: Any = 20.0) -> Any:
    smooth = softplus(beta * input) / beta
    return smooth if threshold >= _EXACT_SOFTPLUS else where(beta * input > threshold, input, smooth)


def _leaky_relu(input: Any, negative_slope: Any = 0.01) -> Any:
    return where(input > 0, input, negative_slope * input)


def _prelu(input: Any, weight: Any) -> Any:
    return _leaky_relu(input, weight)


def _rrelu(input: Any, lower: Any = 1 / 8, upper: Any = 1 / 3, training: bool = False) -> Any:
    if training:
        raise NotImplementedError("in training mode, where it is random; use .eval()")
    return _leaky_relu(input, 0.5 * (lower + upper))


def _threshold(input: Any, threshold: Any, value: Any) -> Any:
    return where(input > threshold, input, value)


def _hardtanh(input: Any, min_val: Any = -1.0, max_val: Any = 1.0) -> Any:
    return clamp(input, min_val, max_val)


def _hardshrink(input: Any, lambd: Any = 0.5) -> Any:
    return where(input > lambd, input, where(input < -lambd, input, 0))


def _softshrink(input: Any, lambd: Any = 0.5) -> Any:
    return where(input > lambd, input - lambd, where(input < -lambd, input + lambd, 0))


def _heaviside(input: Any, values: Any) -> Any:
    return where(input > 0, 1, where(input < 0, 0, values))


def _where(condition: Any, input: Any = None, other: Any = None) -> Any:
    if input is None:
        raise NotImplementedError("without values")
    return choose(condition, input, other)


def _masked_fill(input: Any, mask: Any, value: Any) -> Any:
    return choose(mask, value, input)


def _addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return input + value * _mul(tensor1, tensor2)


def _addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return input + value * _div(tensor1, tensor2)


def _lerp(input: Any, end: Any, weight: Any) -> Any:
    return input + weight * (end - input)


def _xlogy(input: Any, other: Any) -> Any:
    return where(input == 0, 0, input * log(other))


def _dropout(input: Any, p: float = 0.5, training: bool = True) -> Any:
    # torch.dropout has the same order with `train` for the name.
    if training and p:
        raise NotImplementedError("in training mode, where it is random; use .eval()")
    return input


def _same(input: Any, *_: Any, **__: Any) -> Any:
    return input


def _number(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: constant(value)


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def unary(input: Any) -> Any:
        return function(input)

    return unary


_COMPARISONS = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}
_LONG_NAMES = {"gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal", "ne": "not_equal"}
_SAME_NAMED = "exp expm1 log log1p sqrt sin cos sinh cosh tanh asinh atan sigmoid log_sigmoid erf erfc"
_IDENTITIES = "clone to float double half bfloat16 type type_as contiguous detach requires_grad cpu positive identity"
_RANDOM = "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout"
IDENTITIES, RANDOM = frozenset(_IDENTITIES.split()), frozenset(_RANDOM.split())

POINTWISE: dict[str, Callable[..., Any]] = {
    **{name: _unary(ELEMENTARY[name]) for name in _SAME_NAMED.split()},
    **{name: _compare(relation) for name, relation in _COMPARISONS.items()},
    **{long: _compare(_COMPARISONS[name]) for name, long in _LONG_NAMES.items()},
    **dict.fromkeys(IDENTITIES, _same),
    **dict.fromkeys(RANDOM, _dropout),
    "add": _add,
    "sub": _sub,
    "rsub": lambda input, other, *, alpha=1: _sub(other, input, alpha=alpha),
    "mul": _mul,
    "div": _div,
    "rdiv": lambda input, other: constant(other) / input,
    "pow": _pow,
    "float_power": _pow,
    "rpow": lambda input, other: constant(other) ** input,
    "neg": _unary(operator.neg),
    "abs": _unary(operator.abs),
    "sign": _unary(sign),
    "square": _unary(lambda x: x * x),
    "rsqrt": _unary(lambda x: 1 / sqrt(x)),
    "reciprocal": _unary(lambda x: 1 / x),
    "exp2": _unary(lambda x: constant(2) ** x),
    "log2": _unary(lambda x: log(x) / math.log(2)),
    "log10": _unary(lambda x: log(x) / math.log(10)),
    "tan": _unary(lambda x: ELEMENTARY["sin"](x) / ELEMENTARY["cos"](x)),
    "atanh": _unary(lambda x: (log1p(x) - log1p(-x)) / 2),
    "logit": _unary(lambda x: log(x) - log1p(-x)),
    "ndtr": _unary(normal_cdf),
    "sinc": _unary(lambda x: sinc(math.pi * x)),
    "deg2rad": _unary(lambda x: x * (math.pi / 180)),
    "rad2deg": _unary(lambda x: x * (180 / math.pi)),
    "logaddexp": lambda input, other: other + softplus(input - other),
    "hypot": lambda input, other: sqrt(input * input + other * other),
    "clamp": _clamp,
    "clamp_min": lambda input, min: maximum(input, min),
    "clamp_max": lambda input, max: minimum(input, max),
    "maximum": _extremum(maximum),
    "minimum": _extremum(minimum),
    "relu": _unary(lambda x: maximum(x, 0)),
    "relu6": _unary(lambda x: clamp(x, 0, 6)),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "rrelu": _rrelu,
    "threshold": _threshold,
    "hardtanh": _hardtanh,
    "hardsigmoid": _unary(lambda x: clamp(x + 3, 0, 6) / 6),
    "hardswish": _unary(lambda x: x * (clamp(x + 3, 0, 6) / 6)),
    "hardshrink": _hardshrink,
    "softshrink": _softshrink,
    "tanhshrink": _unary(lambda x: x - tanh(x)),
    "softsign": _unary(lambda x: x / (1 + abs(x))),
    "silu": _unary(lambda x: x * sigmoid(x)),
    "mish": _unary(lambda x: x * tanh(softplus(x))),
    "gelu": _gelu,
    "elu": _elu,
    "celu": _celu,
    "selu": _selu,
    "softplus": _softplus,
    "heaviside": _heaviside,
    "where": _where,
    "masked_fill": _masked_fill,
    "addcmul": _addcmul,
    "addcdiv": _addcdiv,
    "lerp": _lerp,
    "xlogy": _xlogy,
    "logical_and": lambda input, other: choose(input, choose(other, 1, 0), 0),
    "logical_or": lambda input, other: choose(input, 1, choose(other, 1, 0)),
    "logical_xor": lambda input, other: choose(input, choose(other, 0, 1), choose(other, 1, 0)),
    "logical_not": lambda input: choose(input, 0, 1),
    "isnan": _number(0),
    "zeros_like": _number(0),
    "ones_like": _number(1),
    "new_zeros": _number(0),
    "new_ones": _number(1),
    "zero": _number(0),
    "full_like": lambda input, fill_value, **_: constant(fill_value),
    "new_full": lambda input, size, fill_value, **_: constant(fill_value),
    "new_tensor": lambda input, data, **_: constant(data),
    "fill": lambda input, value: constant(value),
    "copy": lambda input, src, non_blocking=False: constant(src),
}
_ALIASES = {
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "truediv": "div",
    "rtruediv": "rdiv",
    "negative": "neg",
    "absolute": "abs",
    "sgn": "sign",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctanh": "atanh",
    "expit": "sigmoid",
    "logsigmoid": "log_sigmoid",
    "clip": "clamp",
    "max": "maximum",
    "min": "minimum",
    "fmax": "maximum",
    "fmin": "minimum",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
    "invert": "logical_not",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "bitwise_not": "logical_not",
}
POINTWISE |= {alias: POINTWISE[name] for alias, name in _ALIASES.items()}
# Reflected and in-place operators, which Python's `operator` and torch.fx keep apart.
_OPERATORS = {
    **{f"r{name}": name for name in ("and", "or", "xor")},
    **{f"i{name}": name for name in ("add", "sub", "mul", "truediv", "pow", "and", "or", "xor")},
}


@functools.lru_cache(maxsize=4096)
def name_of(function: Any) -> str:
    """The key of a torch function or method in `POINTWISE`: "exp" for `Tensor.exp_`, "erf" for `torch.special.erf`.

    A method may be given by its name, as torch.fx does.
    """
    name = _written(function).strip("_").removeprefix("special_")
    return _OPERATORS.get(name, name)


def is_in_place(function: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call overwrites its first argument."""
    name = _written(function)
    if name.startswith("__"):
        return name == "__setitem__"
    if name == "setitem" or (name in _OPERATORS and name.startswith("i")):
        return True
    return bool(kwargs.get("inplace")) or name.endswith("_")


def _written(function: Any) -> str:
    return function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
