"""The one place that chooses how a formula is computed on a tensor: a compiled kernel, or torch operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from varphi.numbers import Expression, evaluate

from .formula import Formula, hides_nan

_HALVES = (torch.float16, torch.bfloat16)


def run(formula: Formula, x: Tensor, parameters: Sequence[Any]) -> Tensor:
    return by_operations(formula, x, parameters)


def run_times(formula: Formula, grad: Tensor, x: Tensor, parameters: Sequence[Any]) -> Tensor:
    """grad · formula."""
    return grad * run(formula, x, parameters)


def run_tower(formula: Formula, x: Tensor, parameters: Sequence[Any], order: int) -> Tensor:
    """The formula and its derivatives by x up to `order`, stacked."""
    return torch.stack(_operations(formula.tower(order), formula, x, parameters))


def by_operations(formula: Formula, x: Any, parameters: Sequence[Any]) -> Any:
    """The formula by torch operations: any device, any dtype, traceable."""
    return _operations([formula.expression], formula, x, parameters)[0]


def _operations(expressions: Sequence[Expression], formula: Formula, x: Any, parameters: Sequence[Any]) -> list[Any]:
    # Half precision holds the result, not the steps to it.
    half = isinstance(x, Tensor) and x.dtype in _HALVES
    wide = x.float() if half else x
    results = evaluate(expressions, dict(zip(formula.variables, (wide, *parameters), strict=True)))
    results = [
        torch.where(torch.isnan(wide), wide, r) if hides_nan(e) else r
        for e, r in zip(expressions, results, strict=True)
    ]
    return [r.to(x.dtype) for r in results] if half else results
