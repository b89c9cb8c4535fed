"""How a tensor was computed from another by pointwise operations, while code runs or is read.

`x * (x > 0)` is one activation in two steps. Each step is written down as a formula of every tensor it can be said to
be a formula of; the second is then where(x > 0, x, 0) of x.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from varphi.numbers import Expression, evaluate, variable
from varphi.numbers.expression import constant

from .formula import Formula
from .operations import IDENTITIES, POINTWISE, RANDOM, choose, is_truth, name_of
from .pointwise import pointwise

_LARGEST = 32
_FRESH = (IDENTITIES | RANDOM | {"isnan"}) - {"zeros_like"}
_X = variable("x")
CREATED: dict[str, Callable[..., Any]] = {
    "zeros": lambda *_, **__: 0,
    "ones": lambda *_, **__: 1,
    "full": lambda size, fill_value, **_: fill_value if isinstance(fill_value, (int, float)) else None,
}


@dataclass(frozen=True, eq=False)
class _Origin:
    """A tensor is `expression` of the tensor `root`, as that was at `version`."""

    value: Callable[[], Any]
    root: Callable[[], Any]
    expression: Expression
    version: int
    differentiable: bool


def _reference(value: Any) -> Callable[[], Any]:
    return weakref.ref(value) if isinstance(value, Tensor) else lambda: value


def _version(value: Any) -> int:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


@functools.lru_cache(maxsize=8192)
def _expressed(name: str, arguments: tuple[Any, ...], keywords: tuple[tuple[str, Any], ...]) -> Expression | None:
    """The formula of an operation on formulas; None where it has none, or too long a one."""
    operation = _set_by_mask if name == "setitem" else POINTWISE[name]
    try:
        result = constant(operation(*arguments, **dict(keywords)))
    except (NotImplementedError, TypeError, ZeroDivisionError, OverflowError):
        return None
    return result if len(result.nodes()) <= _LARGEST else None


def _set_by_mask(target: Any, mask: Any, value: Any) -> Expression:
    # target[mask] = value
    if not is_truth(mask):
        raise NotImplementedError("by position")
    return choose(mask, value, target)


class Provenance:
    """How tensors were computed from one another by pointwise operations, while a forward runs or is read."""

    def __init__(self) -> None:
        self._origins: dict[int, list[_Origin]] = {}

    def candidates(
        self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[tuple[Any, Expression]]:
        """Each tensor of which a call is a formula, with that formula; the call's own operands first."""
        if function is pointwise:
            return _own_formula(*args)
        name = name_of(function)
        if name in CREATED:
            number = CREATED[name](*args, **kwargs)
            return [] if number is None else [(None, constant(plain(number)))]
        operands = [a for a in (*args, *kwargs.values()) if is_value(a)]
        if not is_watched(name) or not operands or kwargs.get("out") is not None:
            return []
        if name in ("max", "min") and not any(is_value(a) for a in [*args[1:], *kwargs.values()]):
            return []
        if name in IDENTITIES:
            # What a tensor is converted to is no operand.
            args, kwargs, operands = args[:1], {}, operands[:1]
        views = {id(a): self._views(a) for a in operands}
        roots = {id(a): a for a in operands}
        for seen in views.values():
            roots.update({id(root): root for root, _ in seen if root is not None})
        found = []
        for key, root in roots.items():
            substitute = functools.partial(_substituted, views=views, root=key)
            try:
                arguments = tuple(map(substitute, args))
                keywords = tuple((k, substitute(v)) for k, v in kwargs.items() if k not in ("inplace", "out"))
                expression = _expressed(name, arguments, keywords)
            except (_NotOfRoot, TypeError):  # TypeError: an argument that cannot be a key, such as a list
                continue
            if expression is not None and (name not in _FRESH or is_truth(expression)):
                found.append((root, expression))
        return found

    def note(self, result: Any, candidates: list[tuple[Any, Expression]]) -> None:
        """Remember where a result came from."""
        if is_value(result) and (candidates or id(result) in self._origins):
            self._origins[id(result)] = [
                _Origin(_reference(result), _reference(root), e, _version(root), torch.is_grad_enabled())
                for root, e in candidates
                if root is not result
            ]

    def forget(self, value: Any) -> None:
        """Drop what is known about a tensor that was overwritten, and of it."""
        for key, origins in list(self._origins.items()):
            self._origins[key] = [o for o in origins if o.root() is not value and o.value() is not value]

    def _views(self, value: Any) -> list[tuple[Any, Expression]]:
        views: list[tuple[Any, Expression]] = [(value, _X)]
        number = _uniform(value)
        if number is not None:
            views.append((None, constant(number)))
        for origin in self._origins.get(id(value), ()):
            if origin.value() is not value:
                continue
            if not origin.expression.variables:
                views.append((None, origin.expression))
                continue
            root = origin.root()
            # What was computed without gradients is another function to autograd; a truth value has none anyway.
            known = origin.differentiable or not torch.is_grad_enabled() or is_truth(origin.expression)
            if root is not None and known and _version(root) == origin.version:
                views.append((root, origin.expression))
        return views


class _NotOfRoot(Exception):
    pass


def _substituted(argument: Any, views: Mapping[int, list[tuple[Any, Expression]]], root: int) -> Any:
    if not is_value(argument):
        return plain(argument)
    for base, expression in views[id(argument)]:
        if base is None or id(base) == root:
            return expression
    raise _NotOfRoot


def is_watched(name: str) -> bool:
    """Whether an operation may be a step of an activation."""
    return name in POINTWISE or name in CREATED or name == "setitem"


def is_value(value: Any) -> bool:
    """Whether an argument is a tensor: one of a run, or a node of a graph."""
    return isinstance(value, (Tensor, fx.Node))


def _uniform(value: Any) -> Any:
    """The number that all elements of a constant tensor are; None for any other tensor."""
    if isinstance(value, fx.Node):
        return value.meta.get("uniform")
    # Reading a large tensor would cost more than the step it stands in.
    if value.requires_grad or value.numel() != 1 or value.is_meta:
        return None
    try:
        return plain(value.item())
    except RuntimeError:  # under torch.func, where a tensor has no one value
        return None


def plain(number: Any) -> Any:
    """A number as formulas hold it: whole ones as integers."""
    if isinstance(number, bool):
        return int(number)
    whole = isinstance(number, float) and number.is_integer() and abs(number) < 2**53
    return int(number) if whole else number


def _own_formula(formula: Formula, x: Any, *parameters: Any) -> list[tuple[Any, Expression]]:
    if any(formula.orders) or any(isinstance(p, Tensor) for p in parameters):
        return []
    values = dict(zip(formula.parameters, parameters, strict=True))
    return [(x, constant(evaluate([formula.expression], {"x": _X, **values})[0]))]
