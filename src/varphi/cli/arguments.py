"""What several commands take, each option defined once; and groups of options that sibling commands share."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from varphi.files import check_writable
from varphi.numbers import UnsupportedOperation

from .console import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="VARPHI_STORAGE",
        show_envvar=True,
        help="Where trials live: a SQLite file (default varphi.db), postgresql://USER@HOST/NAME, grpc://HOST:PORT.",
    ),
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", metavar="N", min=1, help="How many processes of this machine work on it.")
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of the random numbers.")]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command some of whose parameters are groups, dataclasses of options: it takes their options instead."""
    groups: dict[str, Any] = {}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if dataclasses.is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            options += _options(parameter.annotation)
        else:
            options.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{f.name: given.pop(f.name) for f in dataclasses.fields(group)})
        command(**given)

    # What typer reads.
    vars(run)["__signature__"] = inspect.Signature(options)
    run.__annotations__ = {o.name: o.annotation for o in options}
    return run


def _options(group: Any) -> list[inspect.Parameter]:
    kinds = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=kinds[field.name],
        )
        for field in dataclasses.fields(group)
    ]


def check_figure(path: Path | None) -> None:
    """Refuse a figure that could not be written, before any work."""
    if path is not None:
        from varphi.report.figure import FORMATS

        check_writable(path, FORMATS)


def save_figure(path: Path, draw: Callable[[], Axes | Figure]) -> None:
    """Draw in the style of all figures, save, and say so."""
    from varphi.report import figure

    with figure.style():
        drawn: Any = draw()
    # Of axes, the figure that they stand on.
    figure.save(getattr(drawn, "figure", drawn), path)
    say(f"wrote {path}", "dim")


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
