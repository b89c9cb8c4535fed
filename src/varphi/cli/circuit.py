"""`varphi circuit`: gene circuits from a text or by name: simulate, sweep parameters, prove, and motifs of networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varphi.files import check_writable

from .arguments import Json, parsed_parameters
from .console import console, print_json, say

if TYPE_CHECKING:
    from varphi.systems.circuits.circuit import Circuit
    from varphi.systems.circuits.measures import Response
    from varphi.systems.circuits.model import Model

circuits = typer.Typer(no_args_is_help=True, help="Gene circuits: pulses, sweeps of parameters, proofs, motifs.")

What = Annotated[
    str,
    typer.Argument(
        metavar="CIRCUIT",
        help="C1 to C4, I1 to I4, simple; or a file: SBML (.xml, .sbml) or Antimony text.",
        show_default=False,
    ),
]
Gate = Annotated[str, typer.Option(metavar="AND|OR|SUM", help="How X and Y act together, for C1 to I4.")]
Step = Annotated[str, typer.Option(metavar="NAME=FROM:TO", help="Which input steps, from where to where.")]
Output = Annotated[str | None, typer.Option("--of", metavar="NAME", help="The output; the last gene if not given.")]
Horizon = Annotated[float | None, typer.Option(metavar="TIME", help="How long to follow; needed for a file.")]
Values = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter's value. Repeatable.")
]
Figure = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE.svg|png|pdf", help="Also draw it, with units.")
]


def _circuit(what: str, gate: str, values: list[str] | None) -> Circuit | Model:
    from varphi.systems.circuits import Circuit
    from varphi.systems.circuits.circuit import FFL

    given: dict[str, Any] = dict(parsed_parameters(values or ()))
    for name, value in given.items():
        if isinstance(value, str):
            raise ValueError(f"the parameter {name} must be a number, got {value!r}")
    if what == "simple" or what in FFL:
        made = Circuit.simple() if what == "simple" else Circuit.ffl(what, gate)  # pyright: ignore[reportArgumentType]
        return made.with_parameters(**given)
    path = Path(what)
    if not path.is_file():
        raise ValueError(f"{what!r} is neither a file nor one of {', '.join(FFL)}, simple")
    if given:
        raise ValueError("values of a model's parameters stand in its file; -p is for C1 to I4 and simple")
    read = path.read_text("utf-8", "replace")
    if path.suffix.lower() in (".xml", ".sbml") or read.lstrip().startswith("<"):
        return Circuit.from_sbml(path)
    return Circuit.from_antimony(read)


def _answer(
    circuit: Circuit | Model, step: str, output: str | None, horizon: float | None, parameters: Any = None
) -> Response:
    name, equals, levels = step.partition("=")
    first, colon, last = levels.partition(":")
    try:
        change = name.strip(), float(first), float(last)
    except ValueError:
        equals = ""
        change = "", 0.0, 0.0
    if not (equals and colon):
        raise ValueError(f"a step is NAME=FROM:TO, as in X=0:1; got {step!r}")
    return circuit.respond(change, output, horizon, parameters=parameters)


def _told(answer: Response) -> dict[str, Any]:
    """One sample's measures with plain keys."""
    from dataclasses import asdict

    from varphi.systems.circuits import Pulse

    pulse, times, adaptation = answer.pulses()[0], answer.response(), answer.adaptation()
    units = answer.system.units
    return {
        "output": answer.output,
        "units": {"amount": units.get(answer.output, "1"), "time": units.get("t", "1")},
        "before": float(answer.first[0]),
        "after": float(answer.last[0]),
        "pulse": asdict(pulse) if isinstance(pulse, Pulse) else None,
        "no_pulse": None if isinstance(pulse, Pulse) else pulse.reason,
        "response_time": float(times.time[0]),
        "acceleration": float(times.acceleration[0]),
        "delay": float(times.delay[0]),
        "sensitivity": float(adaptation.sensitivity[0]),
        "precision": float(adaptation.precision[0]),
    }


@circuits.command()
def simulate(
    circuit: What,
    gate: Gate = "AND",
    step: Step = "X=0:1",
    output: Output = None,
    horizon: Horizon = None,
    parameter: Values = None,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """The answer to a step of an input: pulse, response time, adaptation."""
    if figure is not None:
        check_writable(figure, (".svg", ".png", ".pdf"))
    answer = _answer(_circuit(circuit, gate, parameter), step, output, horizon)
    found = _told(answer)
    if figure is not None:
        from varphi.systems.circuits.figures import time_course

        time_course(answer).savefig(figure)
    if as_json:
        return print_json(found)
    out = console()
    amount, time = (f" {u}" if u != "1" else "" for u in found["units"].values())
    out.print(f"{found['output']}: {found['before']:.6g} → {found['after']:.6g}{amount}")
    pulse = found["pulse"]
    if pulse is None:
        out.print(f"no pulse: {found['no_pulse']}")
    else:
        out.print(
            f"pulse: peak {pulse['peak']:.6g}{amount} at {pulse['time']:.6g}{time}, "
            f"amplitude {pulse['amplitude']:.6g}, width {pulse['width']:.6g}, back at {pulse['back']:.6g}"
        )
    out.print(
        f"half-time {found['response_time']:.6g}{time}, {found['acceleration']:.4g} × as fast as simple regulation"
    )


@circuits.command()
def sweep(
    circuit: What,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", "-r", metavar="NAME=LOW:HIGH", help="A parameter's range, logarithmic. Repeatable."),
    ] = None,
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="How many random parameter sets.")] = 10_000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the random numbers.")] = 0,
    gate: Gate = "AND",
    step: Step = "X=0:1",
    output: Output = None,
    horizon: Horizon = None,
    parameter: Values = None,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """Pulses over random parameter sets: how many, how large; with -o a map over the first two ranges."""
    import numpy as np

    from varphi.systems.circuits import Range, sampled

    if figure is not None:
        check_writable(figure, (".svg", ".png", ".pdf"))
    found: dict[str, Range] = {}
    for text in ranges or ():
        name, equals, range_ = text.partition("=")
        if not equals:
            raise ValueError(f"a range is NAME=LOW:HIGH, as in K_Y_Z=0.1:10; got {text!r}")
        found[name.strip()] = Range.read(range_)
    if figure is not None and len(found) < 2:
        raise ValueError("a map needs two ranges")
    given = sampled(found, samples, seed)
    answer = _answer(_circuit(circuit, gate, parameter), step, output, horizon, given)
    pulses = answer.pulses()
    amplitudes = np.abs(pulses.amplitude[pulses.present])
    quantiles = np.quantile(amplitudes, [0.05, 0.5, 0.95]).tolist() if amplitudes.size else [None] * 3
    told = {
        "samples": samples,
        "settled": int(answer.settled.sum()),
        "pulses": int(pulses.present.sum()),
        "amplitude": dict(zip(("5 %", "median", "95 %"), quantiles, strict=True)),
        "monotone": int(answer.monotone().sum()),
    }
    if figure is not None:
        from varphi.systems.circuits.figures import parameter_map

        (x, y), units = list(given.items())[:2], answer.system.units
        parameter_map(x, y, np.abs(pulses.amplitude), "pulse amplitude", units).savefig(figure)
    if as_json:
        return print_json(told)
    out = console()
    out.print(f"{told['pulses']} of {samples} parameter sets make a pulse, {told['monotone']} are monotone")
    if told["settled"] < samples:
        say(f"{samples - told['settled']} came to no rest before or after the step and count as neither", "yellow")
    if amplitudes.size:
        out.print("amplitude: " + ", ".join(f"{k} {v:.4g}" for k, v in told["amplitude"].items()))


@circuits.command()
def classify(
    circuit: What, gate: Gate = "AND", parameter: Values = None, as_json: Json = False
) -> None:  # fmt: skip
    """What a circuit is made of: its Hill functions with K, n and sign, its graph, its feed-forward loops."""
    from varphi.systems.circuits import Circuit, Network

    made = _circuit(circuit, gate, parameter)
    if isinstance(made, Circuit):
        values = made.parameters
        laws = [
            {"species": s, "target": t, "sign": sign, "K": values[f"K_{s}_{t}"], "n": values[f"n_{s}_{t}"]}
            for s, t, sign in made.edges
        ]
    else:
        laws = [
            {"species": h.species, "name": h.name, "sign": h.sign, "K": repr(h.K), "n": repr(h.n)}
            for h in made.hill_laws
        ]
    network = Network.of(made.edges)
    loops = [list(loop) for loop in network.loops()]
    if as_json:
        return print_json({"laws": laws, "edges": [list(e) for e in made.edges], "loops": loops})
    out = console()
    for law in laws:
        told = law.get("name") or ("Hill activator" if law["sign"] == 1 else "Hill repressor")
        target = f" on {law['target']}" if "target" in law else ""
        K, n = (f"{v:g}" if isinstance(v, float) else v for v in (law["K"], law["n"]))
        out.print(f"{told} of {law['species']}{target}: K = {K}, n = {n}")
    for source, target, sign in made.edges:
        out.print(f"{source} {({1: '→', -1: '⊣', 0: '?'})[sign]} {target}")
    for x, y, z, kind in loops:
        out.print(f"feed-forward loop {kind}: {x}, {y}, {z}")


@circuits.command()
def motifs(
    network: Annotated[Path, typer.Argument(metavar="FILE", help="A list of edges, GraphML, or SBML.")],
    samples: Annotated[int, typer.Option(metavar="N", min=2, help="How many random networks.")] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the random numbers.")] = 0,
    target_first: Annotated[bool, typer.Option("--target-first", help="The list gives the target first.")] = False,
    induced: Annotated[bool, typer.Option("--induced", help="Only loops without further edges.")] = False,
    as_json: Json = False,
) -> None:
    """Feed-forward loops of a regulatory network by signed type, beside random networks."""
    from rich.table import Table

    from varphi.systems.circuits import Network

    read = Network.read(network, target_first=target_first)
    found = read.feed_forward(samples=samples, seed=seed, induced=induced)
    if as_json:
        counts = {
            m.name: {"count": m.count, "mean": m.mean, "deviation": m.deviation, "z": m.z, "p": m.p} for m in found
        }
        return print_json({"genes": len(read.genes), "edges": len(read.edges), "types": counts})
    table = Table("type", "count", "random", "z", "p")
    for m in found:
        table.add_row(m.name, str(m.count), f"{m.mean:.2f} ± {m.deviation:.2f}", f"{m.z:.2f}", f"{m.p:.3g}")
    out = console()
    out.print(f"{len(read.genes)} genes, {len(read.edges)} edges, {read.autoregulated} autoregulated")
    out.print(table)
