"""`varphi compare`: which activation does a model of your own do best with?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from varphi.files import check_writable

from .arguments import Jobs, Json, Storage
from .console import console, print_json, say

if TYPE_CHECKING:
    from varphi.comparison.result import Comparison


def compare(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A module, or a function that makes one, as module:attribute or file.py:attribute.",
            show_default=False,
        ),
    ],
    fit: Annotated[
        str,
        typer.Option(
            metavar="FIT",
            help="The training, fit(model) -> number or mapping of measures, written in the same way.",
            show_default=False,
        ),
    ],
    activations: Annotated[
        str | None,
        typer.Option(
            "--activations", "-a", metavar="A,B,...", help='What to compare, as in "gelu,tanh,softplus(beta=3)".'
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="How many paired seeds; if not given, the fewest that could tell.")
    ] = None,
    measure: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="The measure that decides, then others to be shown.")
    ] = None,
    best: Annotated[str, typer.Option(metavar="lowest|highest", help="Which values of it win.")] = "lowest",
    replace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which activation is exchanged, where the model has several.")
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LOW:HIGH", help="A number that fit takes, to be tuned. Repeatable."),
    ] = None,
    points: Annotated[int, typer.Option(metavar="N", min=1, help="How many points each activation tries.")] = 8,
    tune_by: Annotated[str | None, typer.Option(metavar="NAME", help="The measure that chooses the point.")] = None,
    storage: Storage = None,
    jobs: Jobs = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Also write a self-contained page.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train your own model with one activation after another, over paired seeds, and rank them."""
    if output is not None:
        check_writable(output, (".html", ".htm"))
    if best not in ("lowest", "highest"):
        raise ValueError(f"--best is lowest or highest, got {best!r}")
    tuned = parsed_ranges(tune or ())
    from varphi.comparison.api import compare
    from varphi.comparison.candidates import USUAL
    from varphi.study import registry

    others = USUAL if activations is None else parsed_list(activations)
    measures = None if measure is None else parsed_list(measure)
    try:
        found = compare(
            registry.attribute(model),
            registry.attribute(fit),
            others,
            seeds=seeds,
            measure=measures,
            best=best,
            replace=replace,
            tune=tuned,
            points=points,
            tune_by=tune_by,
            storage=storage,
            jobs=jobs,
        )
    except TypeError as refusal:  # a model, training or activation of the wrong kind
        raise ValueError(str(refusal)) from refusal
    _show(found, as_json)
    if output is not None:
        found.report(output)
        say(f"wrote {output}", "dim")
    if found.failures:
        raise typer.Exit(1)


def _show(found: Comparison, as_json: bool) -> None:
    if as_json:
        return print_json(found.to_dict())
    console().print(found)


def parsed_list(text: str) -> list[str]:
    """ "gelu, leaky_relu(alpha=0.2)" at the commas outside parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise ValueError(f"a list is written as A,B,C, got {text!r}")
    return parts


def parsed_ranges(given: list[str] | tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """["learning rate=1e-4:1e-1"] as {"learning rate": (1e-4, 1e-1)}."""
    ranges: dict[str, tuple[float, float]] = {}
    for text in given:
        name, _, ends = text.rpartition("=")
        low, colon, high = ends.partition(":")
        try:
            if not (name.strip() and colon):
                raise ValueError
            ranges[name.strip()] = (float(low), float(high))
        except ValueError:
            raise ValueError(f"a range is given as NAME=LOW:HIGH, as in lr=1e-4:1e-1; got {text!r}") from None
    return ranges
