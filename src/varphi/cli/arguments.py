"""What commands take: activations, parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from varphi.numbers import UnsupportedOperation

if TYPE_CHECKING:
    from varphi.activation.layer import Activation


def _known_names(incomplete: str) -> list[str]:
    from varphi.activation.registry import names

    return [name for name in names() if name.startswith(incomplete)]


What = Annotated[
    str,
    typer.Argument(
        metavar="NAME_OR_FORMULA",
        help='A name (`varphi list`) or a formula in x: "x*tanh(exp(x))". One that begins with - goes after --.',
        autocompletion=_known_names,
        show_default=False,
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter's value: -p beta=2.0. Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]


def parsed_parameters(given: Iterable[str]) -> dict[str, float | int | str]:
    """["beta=2.0"] as {"beta": 2.0}. What is no number is left for the definition to refuse in its own words."""
    values: dict[str, float | int | str] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ValueError(f"a parameter is given as NAME=VALUE, as in -p beta=2.0; got {text!r}")
        if name in values:
            raise ValueError(f"the parameter {name!r} is given twice")
        values[name] = _number(value)
    return values


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def activation_of(what: str, parameters: Iterable[str]) -> Activation:
    """The activation that a person names."""
    from varphi.activation.lookup import as_activation

    values = parsed_parameters(parameters)
    try:
        return as_activation(what, **values)
    except UnsupportedOperation:
        raise
    except TypeError as refusal:  # an unknown parameter, or a value that is no number
        raise ValueError(str(refusal)) from None
