"""From what a person writes to an activation: a name, a formula, a callable, a module."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor

from .formula import Formula
from .layer import Activation
from .registry import definition, find

# Wherever an activation is taken: a name, a formula in x, an Activation, a torch callable or module.
ActivationLike: TypeAlias = "str | Activation | Callable[..., Any]"


def get(name: str, *, learn: Iterable[str] = (), **parameters: Any) -> Activation:
    """The activation called `name`, as a layer.

    Args:
        name: a name or alias of the catalogue (`vp.names()`).
        learn: which parameters are trained.
        parameters: values of its parameters, `beta=2.0`.

    Raises:
        UnknownActivation: with the nearest names.
        TypeError, ValueError: for an unknown parameter or a value it cannot take.
    """
    if not isinstance(name, str):
        raise TypeError(f"vp.get takes a name, got {type(name).__name__}; vp.trace takes callables and modules")
    return Activation(definition(name), parameters, learn)


def as_activation(what: ActivationLike, **parameters: Any) -> Activation:
    """The activation meant by a name, a formula string such as "x*tanh(exp(x))", a torch callable or a module."""
    if isinstance(what, Activation):
        if parameters:
            raise TypeError(f"{what.name} already has its parameters; got {', '.join(parameters)} again")
        return what
    if isinstance(what, str):
        if find(what) is not None or _is_name(what):
            return get(what, **parameters)
        from .parsing import parse

        return Activation(parse(what), parameters)
    from .tracing import trace

    traced = trace(what)
    return Activation(traced.definition, parameters) if parameters else traced


def _is_name(text: str) -> bool:
    """Whether `text` is meant as a name, "hard-swish", rather than as a formula, "gelu(x)" or "-x"."""
    words = re.split(r"[- _]", text.strip())
    return all(map(str.isidentifier, words)) and not {"x", "pi", "e"} & set(words)


def derivatives(f: ActivationLike, x: Float[Tensor, "..."], order: int) -> Float[Tensor, "order+1 ..."]:
    """f, f', ..., f^(order) at every element of x, in one pass.

    Args:
        f: a name, a formula, an activation, a torch callable or module.
        x: a floating-point tensor.
        order: the highest derivative, >= 0.
    """
    _check_order("order", order)
    return as_activation(f).derivatives(x, order)


def scalar(f: ActivationLike, *, derivative: int = 0, **parameters: Any) -> Callable[[float], float]:
    """f, or a derivative of it, as a function of one number that numba code can call and inline.

    Args:
        f: a name, a formula, an activation, a torch callable or module.
        derivative: which one, 0 for f itself.
        parameters: values of its parameters, for a name or a formula.
    """
    from varphi.numbers.kernel.scalar import compile_scalar

    _check_order("derivative", derivative)
    activation = as_activation(f, **parameters)
    formula = Formula(activation.definition.expression(activation.numbers()))
    return compile_scalar(formula.tower(derivative)[derivative], ("x",))


def _check_order(name: str, order: int) -> None:
    if isinstance(order, bool) or not isinstance(order, int) or order < 0:
        raise ValueError(f"{name} must be a whole number >= 0, got {order!r}")
