"""Evaluating a formula on tensors, differentiable to any order.

Each derivative of a formula is again a formula, so one autograd function serves them all: its backward multiplies by
the next one. It saves its inputs and nothing else.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.overrides import handle_torch_function, has_torch_function

from varphi.numbers import tensor as _tensor  # noqa: F401  (registers the system of tensors)
from varphi.numbers import variable

from . import backend
from .formula import Formula

_X = variable("x")


def pointwise(formula: Formula, x: Tensor, *parameters: Any) -> Tensor:
    """`formula` at every element of x.

    Args:
        formula: what to compute, in `x` and its parameters.
        x: a floating-point tensor of any shape.
        parameters: numbers or tensors that broadcast with x, one for each of `formula.parameters`.

    Returns:
        A tensor of the shape, dtype and device of x.

    Raises:
        TypeError: x is not of a floating-point dtype.
        ValueError: a parameter has more elements than x along some dimension.
    """
    _check(formula, x, parameters)
    if torch.compiler.is_compiling() or not isinstance(x, Tensor):
        return backend.by_operations(formula, x, parameters)
    if formula.expression is _X:
        return x
    if torch._C._is_torch_function_mode_enabled() and type(x) in (Tensor, Parameter):
        # To a mode (a default device, a swap) an activation is one operation, not the many it is made of.
        return handle_torch_function(pointwise, (x,), formula, x, *parameters)
    if has_torch_function((x,)):
        # A subclass may know activations as one operation; to others they are the operations they are made of.
        rule = getattr(type(x), "__pointwise__", None)
        return rule(formula, x, parameters) if rule else backend.by_operations(formula, x, parameters)
    if torch._C._are_functorch_transforms_active():
        if _is_nested_forward_mode():
            return backend.by_operations(formula, x, parameters)
        return _Transformed.apply(formula, x, *parameters)
    if _may_be_dual() or _requires_grad(x, *parameters):
        return _Pointwise.apply(formula, x, *parameters)
    return backend.run(formula, x, parameters)


def ordinary(formula: Formula, x: Tensor) -> Tensor:
    """The same as `pointwise` for what nearly every call brings (`backend.is_ordinary`), with fewer questions asked."""
    if formula.expression is _X:
        return x
    if x.requires_grad and torch.is_grad_enabled():
        return _Ordinary.apply(x, formula)
    return backend.run_ordinary(formula, x)


def _check(formula: Formula, x: Any, parameters: tuple[Any, ...]) -> None:
    if not isinstance(x, Tensor):
        return
    if not x.is_floating_point():
        raise TypeError(f"activations take floating-point tensors, got {x.dtype}; convert with x.float()")
    for name, parameter in zip(formula.parameters, parameters, strict=True):
        if isinstance(parameter, Tensor) and not _broadcasts(parameter, x):
            shapes = f"{tuple(parameter.shape)} does not broadcast to x of shape {tuple(x.shape)}"
            raise ValueError(f"the parameter {name} of shape {shapes}")


def _broadcasts(parameter: Tensor, x: Tensor) -> bool:
    """Whether the parameter has a value for each element of x, and x an element for each value."""
    missing = x.dim() - parameter.dim()
    return missing >= 0 and all(n in (1, m) for n, m in zip(parameter.shape, x.shape[missing:], strict=True))


def _is_nested_forward_mode() -> bool:
    # torch switches forward mode off inside an autograd function's jvp: the outer of two tangents would be zero.
    stack = get_interpreter_stack() or []
    return sum(level.key() == TransformType.Jvp for level in stack) > 1


def _requires_grad(*inputs: Any) -> bool:
    return torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in inputs)


def _may_be_dual() -> bool:
    """Whether tensors may carry tangents of forward-mode autograd."""
    return forward_ad._current_level >= 0


def _forward(formula: Formula, x: Tensor, parameters: tuple[Any, ...]) -> Tensor:
    result = backend.run(formula, x, parameters)
    # The identity gives x itself back, which autograd does not take for an output.
    return x.view_as(x) if result is x else result


def _save(ctx: Any, formula: Formula, x: Tensor, parameters: tuple[Any, ...]) -> None:
    ctx.formula = formula
    if not parameters:
        ctx.numbers = ()
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return
    ctx.numbers = [None if isinstance(p, Tensor) else p for p in parameters]
    tensors = (x, *[p for p in parameters if isinstance(p, Tensor)])
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


class _Rules(torch.autograd.Function):
    """The derivatives, for both forms of the function below."""

    @staticmethod
    def _inputs(ctx: Any) -> tuple[Formula, Tensor, list[Any]]:
        x, *tensors = ctx.saved_tensors
        rest = iter(tensors)
        return ctx.formula, x, [next(rest) if p is None else p for p in ctx.numbers]

    @staticmethod
    def backward(ctx: Any, *grads_out: Any) -> tuple[Any, ...]:
        (grad,) = grads_out
        if not ctx.numbers:
            (x,) = ctx.saved_tensors
            return None, times_derivative(ctx.formula, grad, x, [])
        formula, x, parameters = _Rules._inputs(ctx)
        needed = ctx.needs_input_grad[1:]
        grads: list[Tensor | None] = [None] * len(needed)
        if needed[0]:
            grads[0] = times_derivative(formula, grad, x, parameters)
        for i, parameter in enumerate(parameters, start=1):
            if needed[i]:
                partial = grad * pointwise(formula.derivative(i), x, *parameters)
                grads[i] = partial.sum_to_size(parameter.shape)
        return (None, *grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        formula, x, parameters = _Rules._inputs(ctx)
        terms = [
            tangent * pointwise(formula.derivative(i), x, *parameters)
            for i, tangent in enumerate(tangents[1:])
            if tangent is not None
        ]
        return functools.reduce(torch.add, terms)


class _Pointwise(_Rules):
    """As ordinary autograd calls it. (A separate setup_context costs 20 µs a call: torch inspects the signature.)"""

    @staticmethod
    def forward(ctx: Any, formula: Formula, x: Tensor, *parameters: Any) -> Tensor:
        _save(ctx, formula, x, parameters)
        return _forward(formula, x, parameters)


class _Ordinary(torch.autograd.Function):
    """A formula without parameters on a plain tensor, which is most of all calls: the least work in Python."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, formula: Formula) -> Tensor:
        ctx.formula = formula
        ctx.save_for_backward(x)
        return backend.run_ordinary(formula, x)

    @staticmethod
    def backward(ctx: Any, *grads_out: Any) -> tuple[Any, ...]:
        (grad,), (x,) = grads_out, ctx.saved_tensors
        # x has been asked already, and autograd sees to it that the gradient has its shape, dtype and device.
        if torch.is_grad_enabled() or not backend.is_ordinary(grad):
            return times_derivative(ctx.formula, grad, x, []), None
        return backend.run_times_ordinary(ctx.formula.derivative(0), grad, x), None


class _Transformed(_Rules):
    """As torch.func's transforms call it."""

    @staticmethod
    def forward(formula: Formula, x: Tensor, *parameters: Any) -> Tensor:
        return _forward(formula, x, parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        formula, x, *parameters = inputs
        _save(ctx, formula, x, tuple(parameters))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        formula, x, *parameters = inputs
        _, x_dim, *dims = in_dims
        x = x.movedim(x_dim, 0) if x_dim is not None else x.expand(info.batch_size, *x.shape)
        aligned = [
            p if dim is None else p.movedim(dim, 0).reshape(info.batch_size, *[1] * (x.dim() - p.dim()), *_rest(p, dim))
            for p, dim in zip(parameters, dims, strict=True)
        ]
        return pointwise(formula, x, *aligned), 0


def _rest(parameter: Tensor, dim: int) -> list[int]:
    return [n for i, n in enumerate(parameter.shape) if i != dim % parameter.dim()]


def times_derivative(formula: Formula, grad: Tensor, x: Tensor, parameters: list[Any]) -> Tensor:
    """grad · ∂formula/∂x: one fused pass where nothing will differentiate it again."""
    slope = formula.derivative(0)
    differentiable = torch.is_grad_enabled() or _may_be_dual()
    if differentiable or has_torch_function((grad, x)) or torch._C._are_functorch_transforms_active():
        return grad * pointwise(slope, x, *parameters)
    return backend.run_times(slope, grad, x, parameters)


def derivatives(formula: Formula, x: Tensor, parameters: tuple[Any, ...], order: int) -> Tensor:
    """f, f', ..., f^(order) at every element of x, stacked: shape (order + 1, *x.shape)."""
    if not isinstance(x, Tensor):
        raise TypeError(f"derivatives are taken at a floating-point tensor, got {type(x).__name__}")
    _check(formula, x, parameters)
    differentiable = _may_be_dual() or _requires_grad(x, *parameters)
    if differentiable or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        rows = [formula]
        for _ in range(order):
            rows.append(rows[-1].derivative(0))
        return torch.stack([pointwise(row, x, *parameters) for row in rows])
    return backend.run_tower(formula, x, parameters, order)
