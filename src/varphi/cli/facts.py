"""`varphi facts` and `varphi list`: what is proved about one activation, and the catalogue sifted by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import Json, Parameters, What, activation_of, check_figure
from .console import console, print_json, progress, say, waiting

if TYPE_CHECKING:
    from varphi.activation.layer import Activation
    from varphi.facts.facts import Facts
    from varphi.report.listing import Entry


def facts(
    what: What,
    parameters: Parameters = None,
    on: Annotated[
        tuple[float, float] | None,
        typer.Option("--on", metavar="LO HI", help="Facts on [LO, HI] instead of the whole line."),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw f, f′ and f″ into an .svg, .png or .pdf file.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also measure accuracy (in ulp) and time; takes a minute.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What is proved about an activation: range, slopes, smoothness, shape, limits, and what follows from them."""
    check_figure(figure)
    found = _facts(activation_of(what, parameters or ()), on)
    if as_json:
        from varphi.report.data import facts_data

        print_json(facts_data(found, gaussian=on is None, measure=measure))
    else:
        _print_card(found, gaussian=on is None, measure=measure)
    if figure is not None:
        _draw(found, figure)
        say(f"wrote {figure}", "dim")


def _facts(activation: Activation, on: tuple[float, float] | None) -> Facts:
    from varphi.facts.api import facts as find

    found = find(activation)
    return found if on is None else found.on(*on)


def _print_card(found: Facts, *, gaussian: bool, measure: bool) -> None:
    from varphi.report.portrait import card

    with waiting(f"certifying {found.name} ..."):
        drawn = card(found, gaussian=gaussian, measure=measure)
    console().print(drawn)


def _draw(found: Facts, path: Path) -> None:
    from varphi.report import figure
    from varphi.report.portrait import portrait

    figure.save(portrait(found), path)


def list_catalogue(
    range_: Annotated[
        str | None,
        typer.Option(
            "--range", metavar="nonnegative|positive|bounded|unit|symmetric|LO,HI", help="Values that f takes."
        ),
    ] = None,
    smooth: Annotated[
        str | None, typer.Option(metavar="K|inf", help="At least K continuous derivatives; inf for all.")
    ] = None,
    lipschitz: Annotated[float | None, typer.Option(metavar="L", help="|f′| at most L everywhere.")] = None,
    monotone: Annotated[
        bool, typer.Option("--monotone", help="Never rising in one place and falling in another.")
    ] = False,
    parity: Annotated[str | None, typer.Option(metavar="odd|even", help="Odd or even.")] = None,
    family: Annotated[str | None, typer.Option(metavar="NAME", help="One family of the catalogue.")] = None,
    as_json: Json = False,
) -> None:
    """The catalogue, sifted by proved facts at default parameters; what is undecided is listed apart."""
    from varphi.report import listing

    criteria = [
        *([] if range_ is None else [listing.by_range(range_)]),
        *([] if smooth is None else [listing.by_smoothness(smooth)]),
        *([] if lipschitz is None else [listing.by_lipschitz(lipschitz)]),
        *([] if parity is None else [listing.by_parity(parity)]),
        *([listing.by_monotony()] if monotone else []),
    ]
    candidates = listing.definitions(family)
    entries = [e for e in progress(listing.sift(candidates, criteria), len(candidates)) if e is not None]
    certain, undecided = [e for e in entries if not e.undecided], [e for e in entries if e.undecided]
    if as_json:
        return print_json(
            {"matches": [listing.data(e) for e in certain], "undecided": [listing.data(e) for e in undecided]}
        )
    _print_table(certain)
    for entry in undecided:
        print(f"undecided: {entry.definition.name} ({', '.join(entry.undecided)})")
    say(
        f"{len(certain)} of {len(candidates)} activations" + (f", {len(undecided)} undecided" if undecided else ""),
        "dim",
    )


def _print_table(entries: Sequence[Entry]) -> None:
    from varphi.report import listing

    if entries:
        out = console()
        out.print(listing.table(entries, out.width))
