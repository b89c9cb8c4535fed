"""`varphi neuron`: the class of a membrane's excitability, its special points, f–I curve, plane and diagram."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varphi.files import check_writable, whole

from .arguments import Json, check_figure, grouped, save_figure
from .console import print_json, say, waiting, warn

if TYPE_CHECKING:
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
        help="A model of the library (`varphi neuron list`), or a file of NMODL (.mod), NeuroML or SBML.",
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
Given = Annotated[
    list[str] | None,
    typer.Option(
        "--given",
        metavar="NAME=VALUE",
        help="What a file leaves open: --given ena=50 (.mod), --given temperature=6.3 (NeuroML). Repeatable.",
    ),
]
Applied = Annotated[
    float, typer.Option("--current", "-I", metavar="I", help="Applied current, µA/cm².", show_default=False)
]
FigureFile = Annotated[Path | None, typer.Option("--figure", metavar="FILE", help="Also draw it (.svg, .png, .pdf).")]


@dataclass(frozen=True)
class Chosen:
    """A model, and what is to be changed of it."""

    name: Name
    variant: Variant = None
    class_: Class = None
    changes: Set = None
    given: Given = None

    def load(self) -> Model:
        from varphi.systems.neurons import load
        from varphi.systems.neurons.reading import FORMATS, from_file

        name, variant, class_ = self.name, self.variant, self.class_
        if class_ is not None and variant is not None:
            raise ValueError("give --class or --variant, not both")
        told = _pairs("--given", self.given)
        if Path(name).suffix.lower() in FORMATS:
            if class_ is not None or variant is not None:
                raise ValueError(f"{name} is a file and has no variants")
            model = from_file(name, told)
        elif told:
            raise ValueError(f"--given is for files; a number of {name} is changed by --set")
        else:
            model = load(name, variant if class_ is None else f"class {class_}")
        wanted = _pairs("--set", self.changes)
        return model.with_(wanted) if wanted else model


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
@grouped
def points(chosen: Chosen, figure: FigureFile = None, as_json: Json = False) -> None:
    """Every fold and Hopf point, with proof that there are no others."""
    check_figure(figure)
    model = chosen.load()
    from varphi.systems.neurons import special_points

    with waiting(f"enclosing the special points of {model.name} ..."):
        found = special_points(model)
    if as_json:
        print_json(
            {
                "model": model.name,
                "units": {"I": model.units["I"], "V": model.units["V"], "period": model.units["t"]},
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

        save_figure(figure, lambda: draw_steady_current(model))


@neurons.command()
@grouped
def classify(chosen: Chosen, as_json: Json = False) -> None:
    """Type I or type II, with the evidence: how rest is lost, and how firing begins."""
    model = chosen.load()
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
            "units": {"I": model.units["I"], "V": model.units["V"], "frequency": model.frequency[1]},
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
@grouped
def fi(
    chosen: Chosen,
    currents: Annotated[
        tuple[float, float] | None,
        typer.Option("--currents", metavar="LOW HIGH", help="Range of the current; by default around its onset."),
    ] = None,
    points: Annotated[int, typer.Option(metavar="N", min=1, help="How many currents.")] = 60,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Frequency against current, with rest, firing and the coexistence of both told apart."""
    check_figure(figure)
    model = chosen.load()
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

        save_figure(figure, lambda: draw_fi(found))


@neurons.command("curves")
@grouped
def bifurcation_curves(
    chosen: Chosen,
    parameter: Annotated[
        str,
        typer.Option("--parameter", metavar="NAME", help="The other parameter: --parameter V3.", show_default=False),
    ],
    span: Annotated[
        tuple[float, float], typer.Option("--range", metavar="LOW HIGH", help="Its range.", show_default=False)
    ],
    cycles: Annotated[
        bool, typer.Option(help="Also folds and doublings of cycles and homoclinic orbits, which takes seconds.")
    ] = True,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Bifurcations over the current and another parameter, and the points at which they meet."""
    check_figure(figure)
    model = chosen.load()
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

        save_figure(figure, lambda: draw_curves(found))


@neurons.command()
@grouped
def plane(chosen: Chosen, current: Applied, figure: FigureFile = None, as_json: Json = False) -> None:
    """The phase plane of a model with two variables: nullclines, equilibria, separatrices, orbits."""
    check_figure(figure)
    model = chosen.load()
    from varphi.systems.neurons import phase_plane

    with waiting(f"drawing the plane of {model.name} ..."):
        found = phase_plane(model, current)
    gate, per_time = model.states[1], _per(model.units["t"])
    rows = [
        {
            "kind": e.kind,
            "V": e.V,
            gate: e.state[gate],
            "directions": [{"eigenvalue": value, "vector": vector} for value, vector in found.directions(e)],
        }
        for e in found.equilibria
    ]
    if as_json:
        nullclines = {
            "V": found.V, "dV/dt = 0": found.voltage_nullcline, f"d{gate}/dt = 0": found.gate_nullcline,
        }  # fmt: skip
        print_json(
            {
                "model": model.name,
                "units": {"I": model.units["I"], "V": model.units["V"], "eigenvalue": per_time},
                "I": current,
                "equilibria": rows,
                "nullclines": nullclines,
                "separatrices": [
                    {"saddle": b.saddle.V, "stable": b.stable, "V": b.path[0], gate: b.path[1]}
                    for b in found.separatrices
                ],
                "orbits": [{"V": o[0], gate: o[1]} for o in found.orbits],
                "failures": found.failures,
            }
        )
    else:
        print(f"{model.name}, I = {current:g} {model.units['I']}".rstrip())
        for row in rows:
            print(f"  {row['kind']} at V = {row['V']:.9g} {model.units['V']}, {gate} = {row[gate]:.9g}")
            for d in row["directions"]:
                v, x = d["vector"]
                print(f"    eigenvalue {d['eigenvalue']:.6g} {per_time} along ({v:.4g}, {x:.4g})")
        for reason, count in found.failures.items():
            warn(f"{count} of {len(found.orbits)} orbits {reason}")
    if figure is not None:
        from varphi.systems.neurons.figures import draw_phase_plane

        save_figure(figure, lambda: draw_phase_plane(found))


@neurons.command()
@grouped
def diagram(
    chosen: Chosen,
    currents: Annotated[
        tuple[float, float] | None,
        typer.Option("--currents", metavar="LOW HIGH", help="The range that the figure shows; by default all."),
    ] = None,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """The bifurcation diagram: equilibria, cycles stable and unstable, and where they change."""
    check_figure(figure)
    if currents is not None and not currents[0] < currents[1]:
        raise ValueError(f"--currents takes the lower end first, got {currents[0]:g} {currents[1]:g}")
    model = chosen.load()
    from varphi.systems.neurons import bifurcation_diagram

    with waiting(f"following the equilibria and cycles of {model.name} ..."):
        found = bifurcation_diagram(model)
    if as_json:
        print_json(
            {
                "model": model.name,
                "units": {"I": model.units["I"], "V": model.units["V"], "period": model.units["t"]},
                "points": [_point(p) for p in found.special],
                "marks": [vars(m) for m in found.marks],
                "equilibria": {"I": found.I, "V": found.V, "stable": found.stable},
                "cycles": [vars(c) for c in found.cycles],
            }
        )
    else:
        print(found)
    if figure is not None:
        from varphi.systems.neurons.figures import draw_diagram

        save_figure(figure, lambda: draw_diagram(found, currents=currents)[0])


@neurons.command()
@grouped
def phase(chosen: Chosen, current: Applied, figure: FigureFile = None, as_json: Json = False) -> None:
    """The phase response: how far a small kick at each phase moves the next spikes."""
    check_figure(figure)
    model = chosen.load()
    from varphi.systems.neurons import phase_response

    with waiting(f"following the cycle of {model.name} ..."):
        found = phase_response(model, current)
    if as_json:
        time = model.units["t"]
        print_json(
            {
                "model": model.name,
                "units": {
                    "I": model.units["I"],
                    "V": model.units["V"],
                    "period": time,
                    "advance": f"{time}/mV" if time else "",
                },
                "I": current,
                "type": found.type,
                "period": found.period,
                "error": found.closing,
                "phase": found.phase,
                "V": found.V,
                "advance": found.advance,
            }
        )
    else:
        print(found)
    if figure is not None:
        from varphi.systems.neurons.figures import draw_phase_response

        save_figure(figure, lambda: draw_phase_response(found))


@neurons.command()
@grouped
def pulses(
    chosen: Chosen,
    durations: Annotated[
        tuple[float, float], typer.Option("--durations", metavar="SHORT LONG", help="Shortest and longest pulse, ms.")
    ] = (0.1, 50.0),
    points: Annotated[int, typer.Option(metavar="N", min=3, help="How many pulses.")] = 16,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """The thresholds of single pulses: rheobase, chronaxie, and the laws of Weiss and Lapicque."""
    check_figure(figure)
    short, long = durations
    if not 0 < short < long:
        raise ValueError(f"--durations takes two positive times, the shorter first, got {short:g} {long:g}")
    model = chosen.load()
    import numpy as np

    from varphi.systems.neurons import strength_duration

    with waiting(f"finding thresholds of {model.name} ..."):
        found = strength_duration(model, np.geomspace(short, long, points))
    if as_json:
        print_json(
            {
                "model": model.name,
                "units": {"I": model.units["I"], "time": model.units["t"]},
                "durations": found.durations,
                "threshold": found.threshold,
                "rheobase": found.rheobase,
                "chronaxie": found.chronaxie,
                "laws": [vars(law) for law in found.laws()],
            }
        )
    else:
        print(found)
    if figure is not None:
        from varphi.systems.neurons.figures import draw_strength_duration

        save_figure(figure, lambda: draw_strength_duration(found))


@neurons.command()
@grouped
def export(
    chosen: Chosen,
    to: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="An SBML file (.xml, .sbml) or a NeuroML one (.nml).")
    ],
    current: Annotated[float, typer.Option("--current", "-I", metavar="I", help="Applied current, µA/cm².")] = 0.0,
) -> None:
    """Write a model as SBML, or as NeuroML, which has no applied current."""
    check_writable(to, (".xml", ".sbml", ".nml"))
    if to.suffix.lower() == ".nml" and current:
        raise ValueError("a NeuroML cell has no applied current: leave --current out")
    model = chosen.load()
    from varphi.systems.neurons import to_neuroml, to_sbml

    text = to_neuroml(model) if to.suffix.lower() == ".nml" else to_sbml(model, current)
    with whole(to) as part:
        part.write_text(text, "utf-8")
    say(f"wrote {to}", "dim")


def _per(unit: str) -> str:
    return f"1/{unit}" if unit else ""


def _pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise ValueError(f"{option} takes NAME=VALUE, as in {option} V3=10; got {text!r}")
        if key in found:
            raise ValueError(f"{option} gives {key!r} twice")
        found[key] = value
    return found


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
