"""The one place that chooses how a formula is computed on a tensor: a compiled kernel, or torch operations.

Kernels serve plain dense CPU tensors; torch operations serve everything else (CUDA, traced, transformed or subclassed
tensors, parameters that vary over the elements). Both agree to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx import Proxy

from varphi.numbers import Expression
from varphi.numbers.kernel.build import STORAGE, Signature
from varphi.numbers.kernel.compile import SERIAL_BELOW, Kernel, available, kernel

from .formula import Formula, hides_nan, torch_program

_HALVES = (torch.float16, torch.bfloat16)
_STORAGE = {getattr(torch, name): name for name in STORAGE}
_PLAIN = (Tensor, torch.nn.Parameter)
_ENABLED = available()


def _dense_cpu() -> frozenset[int]:
    """To whom torch dispatches the operations of a dense CPU tensor, made in or out of inference mode."""
    with torch.inference_mode(False):
        keys = [torch._C._dispatch_keys(torch.empty(0)).raw_repr()]
    with torch.inference_mode():
        keys.append(torch._C._dispatch_keys(torch.empty(0)).raw_repr())
    return frozenset(keys)


_DENSE_CPU = _dense_cpu()


@dataclass(frozen=True)
class Native:
    """torch's own operation of an activation, where it is right and the fastest way.

    Attributes:
        function: within 2 ulp of the definition at every float32 (the judge of `varphi.facts.accuracy`).
        exact: whether its slopes of all orders are there and right, so that autograd may be left to torch. Such an
            operation moves bytes and no more, and its C++ node costs less than ours in Python. Only at NaN does its
            slope differ: torch gives a number, our definition NaN.
        up_to: otherwise it serves tensors of at most so many elements, without a gradient: where the call costs more
            than the arithmetic, or torch's arithmetic is the faster one at any size.
    """

    function: Callable[[Tensor], Tensor]
    exact: bool = False
    up_to: float = 1024


def _hard(function: Callable[[Tensor], Tensor]) -> Native:
    return Native(function, exact=True)


def _itself(x: Tensor) -> Tensor:
    return x


NATIVE: dict[str, Native] = {
    "celu": Native(F.celu),
    "elu": Native(F.elu),
    "hard_shrink": _hard(F.hardshrink),
    "hard_sigmoid": Native(F.hardsigmoid, up_to=math.inf),
    "hard_tanh": _hard(F.hardtanh),
    "identity": _hard(_itself),
    "leaky_relu": _hard(F.leaky_relu),
    "log_sigmoid": Native(F.logsigmoid),
    "relu": _hard(torch.relu),
    "relu6": _hard(F.relu6),
    "selu": Native(F.selu),
    "soft_shrink": _hard(F.softshrink),
    "softplus": Native(F.softplus),
    "tanh": Native(torch.tanh, up_to=math.inf),
}
# Up to here a kernel takes less than a tenth of the interval in which Python's threads take turns.
_SHORT = 2**18


def suits(native: Native, x: Tensor) -> bool:
    """Whether torch's own operation is to be used on x."""
    if type(x) not in _PLAIN or x.dtype is not torch.float32:
        return False
    if torch._C._is_torch_function_mode_enabled() or torch._C._are_functorch_transforms_active():
        return False
    return native.exact or (x.numel() <= native.up_to and not x.requires_grad and _is_dense_cpu(x))


def is_ordinary(x: Tensor) -> bool:
    """Whether x is what nearly every call brings: a contiguous tensor that `is_for_kernels`."""
    return is_for_kernels(x) and x.is_contiguous()


def is_for_kernels(x: Tensor) -> bool:
    """Whether x is a dense CPU tensor, to be computed now and by nobody else."""
    return (
        type(x) in _PLAIN
        and x.dtype in _STORAGE
        and _is_dense_cpu(x)
        and forward_ad._current_level < 0
        and _ENABLED
        and not torch._C._is_torch_function_mode_enabled()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._get_tracing_state()
        and x.numel() > 0
    )


def run(formula: Formula, x: Tensor, parameters: Sequence[Any]) -> Tensor:
    """The formula at every element of x."""
    if not _fits_kernel(x, parameters):
        return by_operations(formula, x, parameters)
    x = _dense(x)
    result = torch.empty_like(x)
    _call(_kernel(formula, x.dtype, "value"), [x.data_ptr(), result.data_ptr()], parameters, x)
    return result


def run_ordinary(formula: Formula, x: Tensor) -> Tensor:
    """The formula, which has no parameters, at every element of an `is_ordinary` x."""
    found = formula.kernels.get((x.dtype, "value")) or _kernel(formula, x.dtype, "value")
    result = torch.empty_like(x)
    elements = x.numel()
    if elements < SERIAL_BELOW:
        found.serial(x.data_ptr(), result.data_ptr(), elements)
    else:
        found((x.data_ptr(), result.data_ptr()), (), elements, torch.get_num_threads())
    return result


def run_times(formula: Formula, grad: Tensor, x: Tensor, parameters: Sequence[Any]) -> Tensor:
    """grad · formula, in one pass."""
    if not _fits_kernel(x, parameters) or not is_plain(grad) or grad.dtype is not x.dtype:
        return grad * run(formula, x, parameters)
    x = _dense(x)
    if grad.stride() != x.stride():
        grad = torch.empty_like(x).copy_(grad)
    result = torch.empty_like(x)
    addresses = [x.data_ptr(), grad.data_ptr(), result.data_ptr()]
    _call(_kernel(formula, x.dtype, "product"), addresses, parameters, x)
    return result


def run_times_ordinary(formula: Formula, grad: Tensor, x: Tensor) -> Tensor:
    """grad · formula, where both are `is_ordinary`, of one shape and dtype."""
    found = formula.kernels.get((x.dtype, "product")) or _kernel(formula, x.dtype, "product")
    result = torch.empty_like(x)
    elements = x.numel()
    if elements < SERIAL_BELOW:
        found.serial(x.data_ptr(), grad.data_ptr(), result.data_ptr(), elements)
    else:
        found((x.data_ptr(), grad.data_ptr(), result.data_ptr()), (), elements, torch.get_num_threads())
    return result


def run_tower(formula: Formula, x: Tensor, parameters: Sequence[Any], order: int) -> Tensor:
    """The formula and its derivatives by x up to `order`, stacked, in one pass."""
    if not _fits_kernel(x, parameters):
        rows, wide = formula.tower(order), _wide(x)
        results = torch_program(rows, formula.variables)(wide, *parameters)
        return torch.stack([_as_input(r, x, wide, hides_nan(e)) for e, r in zip(rows, results, strict=True)])
    x = x.contiguous()
    result = x.new_empty((order + 1, *x.shape))
    row = x.numel() * x.element_size()
    rows = [result.data_ptr() + k * row for k in range(order + 1)]
    _call(_kernel(formula, x.dtype, order), [x.data_ptr(), *rows], parameters, x)
    return result


def run_tower_into(formula: Formula, x: Tensor, rows: Sequence[Tensor]) -> None:
    """The formula, which has no parameters, and its derivatives by x, one into each of `rows`, in one pass.

    All are contiguous, of one shape and dtype; x is one that `is_ordinary`.
    """
    what = len(rows) - 1
    found = formula.kernels.get((x.dtype, what)) or _kernel(formula, x.dtype, what)
    addresses, elements, threads = [x.data_ptr(), *(r.data_ptr() for r in rows)], x.numel(), torch.get_num_threads()
    if elements < SERIAL_BELOW or (threads == 1 and elements < _SHORT):
        found.serial(*addresses, elements)
    else:
        found(addresses, (), elements, threads)


def tower_address(formula: Formula, order: int) -> int:
    """Where the machine code of `run_tower` in float64 is, of a formula without parameters, which keeps it alive."""
    return _kernel(formula, torch.float64, order).address


def by_operations(formula: Formula, x: Any, parameters: Sequence[Any]) -> Any:
    """The formula by torch operations: any device, any dtype, traceable."""
    wide = _wide(x)
    if type(x) in _PLAIN:
        (result,) = formula.program(wide, *parameters)
    else:  # a subclass may be a number system of its own
        result = formula.expression.evaluate(**dict(zip(formula.variables, (wide, *parameters), strict=True)))
    return _as_input(result, x, wide, formula.hides_nan)


def enabled() -> bool:
    """Whether kernels may be used here and now."""
    return _ENABLED and not torch._C._len_torch_dispatch_stack() and not torch._C._get_tracing_state()


def _fits_kernel(x: Tensor, parameters: Sequence[Any]) -> bool:
    return (
        enabled()
        and is_plain(x)
        and x.dtype in _STORAGE
        and x.numel() > 0
        and (not parameters or all(map(_is_number, parameters)))
    )


def is_plain(x: Tensor) -> bool:
    """Whether the numbers of x lie in CPU memory as they are: no wrapper, no lazy sign, no unstored zeros."""
    return type(x) in _PLAIN and _is_dense_cpu(x)


def _is_dense_cpu(x: Tensor) -> bool:
    return torch._C._dispatch_keys(x).raw_repr() in _DENSE_CPU


def _is_number(parameter: Any) -> bool:
    if not isinstance(parameter, Tensor):
        return True
    return parameter.numel() == 1 and is_plain(parameter)


def _dense(x: Tensor) -> Tensor:
    """x with its elements side by side, in whatever order of dimensions it has."""
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x
    return x.contiguous()


def _kernel(formula: Formula, dtype: torch.dtype, what: str | int) -> Kernel:
    """The kernel of a formula: its "value", its "product" with a gradient, or its tower up to an order."""
    found = formula.kernels.get((dtype, what))
    if found is None:
        outputs, inputs = _outputs(formula, what)
        guarded = tuple(hides_nan(o) for o in outputs)
        signature = Signature(tuple(outputs), inputs, formula.parameters, _STORAGE[dtype], guarded)
        found = formula.kernels[dtype, what] = kernel(signature)
    return found


def _outputs(formula: Formula, what: str | int) -> tuple[list[Expression], tuple[str, ...]]:
    if what == "value":
        return [formula.expression], ("x",)
    if what == "product":
        return [formula.times("grad")], ("x", "grad")
    assert isinstance(what, int)
    return formula.tower(what), ("x",)


def _call(run_kernel: Kernel, addresses: Sequence[int], parameters: Sequence[Any], x: Tensor) -> None:
    run_kernel(
        addresses,
        [p.item() if isinstance(p, Tensor) else float(p) for p in parameters],
        x.numel(),
        torch.get_num_threads(),
    )


def _wide(x: Any) -> Any:
    """x in the precision of the steps: half precision holds only the result."""
    return x.float() if isinstance(x, Tensor) and x.dtype in _HALVES else x


def _as_input(result: Any, x: Any, wide: Any, keep_nan: bool) -> Any:
    """The result in the shape and dtype of x, NaN where x is."""
    if keep_nan:
        result = torch.where(torch.isnan(wide), wide, result)
    # A choice between two numbers widens a result to float64 where x has no dtype yet.
    return result.to(x.dtype) if isinstance(x, (Tensor, Proxy)) else result
