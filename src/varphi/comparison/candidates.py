"""What competes in a comparison: activations under the names that tables show."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from varphi.activation.layer import Activation
from varphi.activation.lookup import ActivationLike, as_activation, get
from varphi.activation.registry import find
from varphi.activation.uses import catalogued

# What is compared where nothing else is asked for: the usual choices, one of each kind.
USUAL: tuple[str, ...] = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh")


@dataclass(frozen=True)
class Candidate:
    """One competitor.

    Attributes:
        label: as tables show it: its name, with the parameters that differ from their defaults.
        activation: what is put into the model; None leaves the model's own where it is.
    """

    label: str
    activation: Activation | None = None

    @property
    def identity(self) -> str:
        """What it computes, as text: two candidates of one label may differ in it from one run to the next."""
        if self.activation is None:
            return self.label
        formula = self.activation.definition.expression(self.activation.numbers())
        return f"{self.label}: {formula!r}, learning {self.activation.learn}"


def candidates(given: Iterable[ActivationLike], own: str) -> tuple[Candidate, ...]:
    """The model's own activation first, then the others in the order given.

    Args:
        given: names, "softplus(beta=3)", formulas, activations, torch callables or modules. One that means the model's
            own activation is left out, as that takes part anyway.
        own: the label of the model's own activation.

    Raises:
        UnknownActivation, TypeError, ValueError: for what is no activation.
        ValueError: for one that is given twice, or none besides the model's own.
    """
    if isinstance(given, str):
        raise TypeError(f"activations is a list of activations, got the text {given!r}; write [{given!r}]")
    others: dict[str, Candidate] = {}
    for what in given:
        activation = _read(what)
        label = labelled(activation)
        if label in others:
            raise ValueError(f"the activation {label!r} is given twice")
        if label != own:
            others[label] = Candidate(label, activation)
    if not others:
        raise ValueError(f"there is nothing to compare the model's own {own!r} with; name other activations")
    return (Candidate(own), *others.values())


def _read(what: ActivationLike) -> Activation:
    called = _call(what) if isinstance(what, str) else None
    if called is not None:
        return get(called[0], **called[1])
    activation = as_activation(what)
    if isinstance(what, str | Activation):
        return activation
    # nn.GELU() is the catalogue's gelu.
    known = catalogued(activation.definition.expression())
    return activation if known is None else get(known)


def _call(text: str) -> tuple[str, dict[str, Any]] | None:
    """ "softplus(beta=3)" as a name and its parameters; None for what is not written so."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args or not tree.keywords:
        return None
    if find(tree.func.id) is None:
        return None
    try:
        return tree.func.id, {keyword.arg or "**": ast.literal_eval(keyword.value) for keyword in tree.keywords}
    except ValueError:
        raise ValueError(f"the parameters of an activation are numbers, as in softplus(beta=3); got {text!r}") from None


def labelled(activation: Activation) -> str:
    """Its name, with the parameters that differ from their defaults and those that are learned."""
    defaults = {p.name: p.default for p in activation.definition.parameters}
    told = [f"{name}={value:g}" for name, value in activation.values.items() if value != defaults[name]]
    told += [f"learn={'+'.join(activation.learn)}"] if activation.learn else []
    return f"{activation.name}({', '.join(told)})" if told else activation.name
