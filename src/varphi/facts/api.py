"""`vp.facts(f)`: what is proved or measured about an activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from varphi.activation.definition import Definition
from varphi.numbers import Expression

from .facts import Facts

if TYPE_CHECKING:
    from varphi.activation.lookup import ActivationLike


def facts(f: ActivationLike | Definition | Expression, **parameters: Any) -> Facts:
    """The facts about an activation.

    Args:
        f: a name, a formula in x, an Activation, a torch callable or module; also a Definition or an Expression.
        parameters: values of its parameters, `beta=2.0`.

    Raises:
        UnknownActivation, TypeError, ValueError: for what cannot be read as an activation, or its parameters.
        UndecidedPieces: when facts are asked for, where a condition in the formula cannot be decided.
    """
    if isinstance(f, Expression):
        if parameters:
            raise TypeError(f"an expression has no parameters; got {', '.join(parameters)}")
        return Facts(f)
    if isinstance(f, Definition):
        values = f.values(parameters)
        return Facts(f.expression(values), None, f.name, values)
    from varphi.activation.lookup import as_activation

    activation = as_activation(f, **parameters)
    values = activation.numbers()
    return Facts(activation.definition.expression(values), activation, activation.name, values)
