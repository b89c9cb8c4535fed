"""The one place that chooses how a formula is computed on a tensor: a compiled kernel, or torch operations.

Kernels serve plain dense CPU tensors; torch operations serve everything else (CUDA, traced, transformed or subclassed
tensors, parameters that vary over the elements). Both agree to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from varphi.numbers import Expression, evaluate
from varphi.numbers.kernel.build import STORAGE, Signature
from varphi.numbers.kernel.compile import Kernel, available, kernel

from .formula import Formula, hides_nan

_HALVES = (torch.float16, torch.bfloat16)
_STORAGE = {getattr(torch, name): name for name in STORAGE}
_PLAIN = (Tensor, torch.nn.Parameter)
_ENABLED = available()


def run(formula: Formula, x: Tensor, parameters: Sequence[Any]) -> Tensor:
    """The formula at every element of x."""
    if not _fits_kernel(x, parameters):
        return by_operations(formula, x, parameters)
    x = _dense(x)
    result = torch.empty_like(x)
    _call(_kernel(formula, x.dtype, "value"), [x, result], parameters)
    return result


def run_times(formula: Formula, grad: Tensor, x: Tensor, parameters: Sequence[Any]) -> Tensor:
    """grad · formula, in one pass."""
    if not _fits_kernel(x, parameters) or type(grad) not in _PLAIN or grad.dtype is not x.dtype:
        return grad * run(formula, x, parameters)
    x = _dense(x)
    if grad.stride() != x.stride():
        grad = torch.empty_like(x).copy_(grad)
    result = torch.empty_like(x)
    _call(_kernel(formula, x.dtype, "product"), [x, grad, result], parameters)
    return result


def run_tower(formula: Formula, x: Tensor, parameters: Sequence[Any], order: int) -> Tensor:
    """The formula and its derivatives by x up to `order`, stacked, in one pass."""
    if not _fits_kernel(x, parameters):
        return torch.stack(_operations(formula.tower(order), formula, x, parameters))
    x = x.contiguous()
    result = x.new_empty((order + 1, *x.shape))
    _call(_kernel(formula, x.dtype, order), [x, *result], parameters)
    return result


def by_operations(formula: Formula, x: Any, parameters: Sequence[Any]) -> Any:
    """The formula by torch operations: any device, any dtype, traceable."""
    return _operations([formula.expression], formula, x, parameters)[0]


def _fits_kernel(x: Tensor, parameters: Sequence[Any]) -> bool:
    return (
        _ENABLED
        and type(x) in _PLAIN
        and x.device.type == "cpu"
        and x.dtype in _STORAGE
        and x.layout is torch.strided
        and x.numel() > 0
        and not any(isinstance(p, Tensor) and (p.numel() != 1 or type(p) not in _PLAIN) for p in parameters)
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._get_tracing_state()
        and not any(_is_wrapped(t) for t in (x, *parameters) if isinstance(t, Tensor))
    )


_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


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


def _call(run_kernel: Kernel, tensors: Sequence[Tensor], parameters: Sequence[Any]) -> None:
    run_kernel(
        [t.data_ptr() for t in tensors], [float(p) for p in parameters], tensors[0].numel(), torch.get_num_threads()
    )


def _operations(expressions: Sequence[Expression], formula: Formula, x: Any, parameters: Sequence[Any]) -> list[Any]:
    # Half precision holds the result, not the steps to it.
    half = isinstance(x, Tensor) and x.dtype in _HALVES
    wide = x.float() if half else x
    results = evaluate(expressions, dict(zip(formula.variables, (wide, *parameters), strict=True)))
    results = [
        torch.where(torch.isnan(wide), wide, r) if hides_nan(e) else r
        for e, r in zip(expressions, results, strict=True)
    ]
    # Numbers that float32 cannot hold widen a result to float64.
    return [r.to(x.dtype) for r in results] if isinstance(x, Tensor) else results
