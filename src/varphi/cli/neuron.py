"""`varphi neuron`: the class of a membrane's excitability, its special points, its f–I curve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varphi.files import check_writable

from .arguments import Json
from .console import print_json, say, waiting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from varphi.systems.neurons import Model
    from varphi.systems.neurons.equilibria import Special

neurons = typer.Typer(no_args_is_help=True, help="Conductance-based neurons: how they begin to fire, proved.")


def _known_models(incomplete: str) -> list[str]:
    from varphi.systems.neurons.library import MODELS

    return [name for name in MODELS if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model of the library: `varphi neuron list`.",
        autocompletion=_known_models,
        show_default=False,
    ),
]
Variant = Annotated[
    str | None,
    typer.Option("--variant", metavar="NAME", help='One of a model\'s sets of numbers: --variant "class 2".'),
]
Class = Annotated[
    int | None, typer.Option("--class", metavar="1|2", help="Short for --variant 'class 1' or 'class 2'.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help='Another number: --set V3=10, --set gK="0.04 S/cm2". Repeatable.'),
]
FigureFile = Annotated[Path | None, typer.Option("--figure", metavar="FILE", help="Also draw it (.svg, .png, .pdf).")]


@neurons.command("list")
def list_models(as_json: Json = False) -> None:
    """The models of the library, their sets, their numbers and sources."""
    from varphi.systems.neurons.library import MODELS, SETS, load

    found = [(name, SETS.get(name, ()), load(name)) for name in MODELS]
    if as_json:
        return print_json(
            [
                {"name": n, "variants": list(sets), "numbers": m.values, "source": m.source, "notes": m.notes}
                for n, sets, m in found
            ]
        )
    for name, sets, model in found:
        print(name + (f"   variants: {', '.join(sets)}" if sets else ""))
        print("    " + ", ".join(f"{k} = {v:g}" for k, v in model.values.items()))
        print(f"    {model.source}" + (f"\n    {model.notes}" if model.notes else ""))


@neurons.command()
def points(
    name: Name, variant: Variant = None, class_: Class = None, changes: Set = None, figure: FigureFile = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Every fold and Hopf point, with proof that there are no others."""
    _check(figure)
    model = _model(name, variant, class_, changes)
    from varphi.systems.neurons import special_points

    with waiting(f"enclosing the special points of {model.name} ..."):
        found = special_points(model)
    if as_json:
        print_json(
            {
                "model": model.name,
                "window": list(model.span),
                "complete": found.complete,
                "points": [_point(p) for p in found.points],
                "undecided": [{"kind": k, "low": a, "high": b} for k, a, b in found.undecided],
            }
        )
    else:
        print(found)
    if figure is not None:
        from varphi.systems.neurons.figures import draw_steady_current

        _draw(figure, lambda: draw_steady_current(model))


@neurons.command()
def classify(
    name: Name, variant: Variant = None, class_: Class = None, changes: Set = None, as_json: Json = False
) -> None:
    """Type I or type II, with the evidence: how rest is lost, and how firing begins."""
    model = _model(name, variant, class_, changes)
    from varphi.systems.neurons import excitability, special_points

    with waiting(f"classifying {model.name} ..."):
        found = excitability(model)
    if not as_json:
        print(found)
        if model.notes:
            say(f"note: {model.notes}", "dim")
        return
    onset = found.onset
    print_json(
        {
            "model": model.name,
            "source": model.source,
            "notes": model.notes,
            "numbers": model.values,
            "type": found.type,
            "mechanism": found.mechanism,
            "rest_is_lost_at": None if found.loss is None else _point(found.loss),
            "onset_frequency": found.onset_frequency,
            "distances": found.distances,
            "frequencies": found.frequencies,
            "exponent": found.exponent,
            "period_over_saddle_node_law": found.ratio,
            "firing_ends": None if onset is None else {"kind": onset.kind, "I": onset.I, "frequency": onset.frequency},
            "coexistence": found.coexistence,
            "special_points_complete": special_points(model).complete,
        }
    )


@neurons.command()
def fi(
    name: Name,
    variant: Variant = None,
    class_: Class = None,
    changes: Set = None,
    currents: Annotated[
        tuple[float, float] | None,
        typer.Option("--currents", metavar="LOW HIGH", help="Range of the current; by default around its onset."),
    ] = None,
    points: Annotated[int, typer.Option(metavar="N", min=1, help="How many currents.")] = 60,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Frequency against current, with rest, firing and the coexistence of both told apart."""
    _check(figure)
    model = _model(name, variant, class_, changes)
    import numpy as np

    from varphi.systems.neurons import fi_curve
    from varphi.systems.neurons.firing import usual_currents

    low, high = usual_currents(model) if currents is None else currents
    if not low < high and points > 1:
        raise ValueError(f"--currents takes the lower end first, got {low:g} {high:g}")
    with waiting(f"simulating {model.name} ..."):
        found = fi_curve(model, np.linspace(low, high, points))
    if as_json:
        names = ("I", "frequency", "error", "minima", "status", "reason", "rest")
        columns = ("currents", "frequency", "error", "minima", "status", "reasons", "rest")
        rows = zip(*(getattr(found, c) for c in columns), strict=True)
        print_json(
            {
                "model": model.name,
                "units": {"I": model.units["I"], "frequency": model.frequency[1]},
                "curve": [dict(zip(names, row, strict=True)) for row in rows],
            }
        )
    else:
        print(found)
    if figure is not None:
        from varphi.systems.neurons.figures import draw_fi

        _draw(figure, lambda: draw_fi(found))


@neurons.command("curves")
def bifurcation_curves(
    name: Name,
    parameter: Annotated[
        str,
        typer.Option("--parameter", metavar="NAME", help="The other parameter: --parameter V3.", show_default=False),
    ],
    span: Annotated[
        tuple[float, float], typer.Option("--range", metavar="LOW HIGH", help="Its range.", show_default=False)
    ],
    variant: Variant = None,
    class_: Class = None,
    changes: Set = None,
    cycles: Annotated[
        bool, typer.Option(help="Also folds and doublings of cycles and homoclinic orbits, which takes seconds.")
    ] = True,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Bifurcations over the current and another parameter, and the points at which they meet."""
    _check(figure)
    model = _model(name, variant, class_, changes)
    from varphi.systems.neurons import curves

    with waiting(f"following the bifurcations of {model.name} ..."):
        found = curves(model, parameter, *span, cycles=cycles)
    if as_json:
        print_json(
            {
                "model": model.name,
                "parameter": found.parameter,
                "units": {"I": model.units["I"], found.parameter: model.units.get(found.parameter, "")},
                "curves": [
                    {"kind": c.kind, "I": c.I, found.parameter: c.value, "V": c.V, "period": c.period}
                    for c in found.lines
                ],
                "points": [
                    {"kind": p.kind, "I": p.I, found.parameter: p.value, "certified": p.certified} for p in found.points
                ],
            }
        )
    else:
        print(found)
    if figure is not None:
        from varphi.systems.neurons.figures import draw_curves

        _draw(figure, lambda: draw_curves(found))


def _model(name: str, variant: str | None, class_: int | None, changes: list[str] | None) -> Model:
    from varphi.systems.neurons import load

    if class_ is not None and variant is not None:
        raise ValueError("give --class or --variant, not both")
    model = load(name, variant if class_ is None else f"class {class_}")
    given: dict[str, str] = {}
    for text in changes or ():
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise ValueError(f"--set takes NAME=VALUE, as in --set V3=10; got {text!r}")
        if key in given:
            raise ValueError(f"--set gives {key!r} twice")
        given[key] = value
    return model.with_(given) if given else model


def _point(point: Special) -> dict[str, Any]:
    return {
        "kind": point.kind,
        "type": point.type,
        "I": point.I,
        "V": point.V,
        "state": point.state,
        "period": point.period,
        "lyapunov": point.lyapunov,
        "certified": point.certified,
    }


def _check(figure: Path | None) -> None:
    if figure is not None:
        from varphi.report.figure import FORMATS

        check_writable(figure, FORMATS)


def _draw(path: Path, draw: Any) -> None:
    from varphi.report import figure

    with figure.style():
        axes: Axes = draw()
    drawing: Any = axes.figure
    figure.save(drawing, path)
    say(f"wrote {path}", "dim")
