"""`varphi circuit`: gene circuits from a text or by name: simulate, sweep parameters, prove, and motifs of networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import Json, Seed, check_figure, grouped, parsed_parameters, save_figure
from .console import console, print_json, say

if TYPE_CHECKING:
    from varphi.systems.circuits.circuit import Circuit
    from varphi.systems.circuits.measures import Response
    from varphi.systems.circuits.model import Model
    from varphi.systems.circuits.sampling import Range

circuits = typer.Typer(no_args_is_help=True, help="Gene circuits: pulses, sweeps of parameters, proofs, motifs.")

What = Annotated[
    str,
    typer.Argument(
        metavar="CIRCUIT",
        help="C1 to C4, I1 to I4, simple, autoregulation, toggle, repressilator; or a file: SBML or Antimony text.",
        show_default=False,
    ),
]
Gate = Annotated[str, typer.Option(metavar="AND|OR|SUM", help="How X and Y act together, for C1 to I4.")]
Step = Annotated[str, typer.Option(metavar="NAME=FROM:TO", help="Which input steps, from where to where.")]
Output = Annotated[str | None, typer.Option("--of", metavar="NAME", help="The output; the last gene if not given.")]
Horizon = Annotated[float | None, typer.Option(metavar="TIME", help="How long to follow; 20 lifetimes if not given.")]
Values = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter's value. Repeatable.")
]
Figure = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE.svg|png|pdf", help="Also draw it, with units.")
]


Ranges = Annotated[
    list[str] | None,
    typer.Option("--range", "-r", metavar="NAME=LOW:HIGH", help="A parameter's range, logarithmic. Repeatable."),
]
Measure = Annotated[
    str,
    typer.Option(
        "--measure",
        metavar="NAME",
        help="peak, amplitude, peak/final, time of peak, width, response time, precision, sensitivity, last, ...",
    ),
]


# Circuits by name, and what is given to the function that makes them.
_NAMED: dict[str, tuple[Any, ...]] = {"simple": (), "autoregulation": (1,), "toggle": (), "repressilator": ()}


@dataclass(frozen=True)
class Subject:
    """The circuit that a command is about."""

    circuit: What
    gate: Gate = "AND"
    parameter: Values = None

    def made(self) -> Circuit | Model:
        from varphi.systems.circuits import Circuit
        from varphi.systems.circuits.circuit import FFL

        what = self.circuit
        given: dict[str, Any] = dict(parsed_parameters(self.parameter or ()))
        for name, value in given.items():
            if isinstance(value, str):
                raise ValueError(f"the parameter {name} must be a number, got {value!r}")
        if what in FFL:
            return Circuit.ffl(what, self.gate).with_parameters(**given)  # pyright: ignore[reportArgumentType]
        if what in _NAMED:
            made: Circuit = getattr(Circuit, what)(*_NAMED[what])
            return made.with_parameters(**given)
        path = Path(what)
        if not path.is_file():
            raise ValueError(f"{what!r} is neither a file nor one of {', '.join([*FFL, *_NAMED])}")
        if given:
            raise ValueError("values of a model's parameters stand in its file; -p is for circuits by name")
        read = path.read_text("utf-8", "replace")
        if path.suffix.lower() in (".xml", ".sbml") or read.lstrip().startswith("<"):
            return Circuit.from_sbml(path)
        return Circuit.from_antimony(read)


@dataclass(frozen=True)
class Experiment:
    """What steps, and what is watched."""

    step: Step = "X=0:1"
    output: Output = None
    horizon: Horizon = None

    def answer(self, circuit: Circuit | Model, parameters: Any = None, *, progress: bool = True) -> Response:
        step = _step(self.step)
        return circuit.respond(step, self.output, self.horizon, parameters=parameters, progress=progress)


def _step(text: str) -> tuple[str, float, float]:
    name, equals, levels = text.partition("=")
    first, colon, last = levels.partition(":")
    try:
        change = name.strip(), float(first), float(last)
    except ValueError:
        equals = ""
        change = "", 0.0, 0.0
    if not (equals and colon):
        raise ValueError(f"a step is NAME=FROM:TO, as in X=0:1; got {text!r}")
    return change


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
@grouped
def simulate(
    subject: Subject,
    experiment: Experiment,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """The answer to a step of an input: pulse, response time, adaptation."""
    check_figure(figure)
    answer = experiment.answer(subject.made())
    found = _told(answer)
    if figure is not None:
        from varphi.systems.circuits.figures import time_course

        save_figure(figure, lambda: time_course(answer))
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
@grouped
def sweep(
    subject: Subject,
    experiment: Experiment,
    ranges: Ranges = None,
    measure: Measure = "amplitude",
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="How many random parameter sets.")] = 10_000,
    seed: Seed = 0,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """A measure over random parameter sets: how many have it, how large; with -o a map over the first two ranges."""
    import numpy as np

    from varphi.systems.circuits import sampled

    check_figure(figure)
    found = _ranges(ranges)
    if figure is not None and len(found) < 2:
        raise ValueError("a map needs two ranges")
    given = sampled(found, samples, seed)
    made = subject.made()
    answer = experiment.answer(made, given)
    values = answer.measure(measure)
    there = values[np.isfinite(values)]
    quantiles = np.quantile(there, [0.05, 0.5, 0.95]).tolist() if there.size else [None] * 3
    unit = _unit(measure, answer)
    told = {
        "samples": samples,
        "settled": int(answer.settled.sum()),
        "pulses": int(answer.prominent()[0].sum()),
        "monotone": int(answer.monotone().sum()),
        "measure": measure,
        "unit": unit,
        "present": int(there.size),
        "quantiles": dict(zip(("5 %", "median", "95 %"), quantiles, strict=True)),
    }
    if figure is not None:
        from varphi.systems.circuits.figures import parameter_map

        (x, y), units = list(given.items())[:2], _units(made, found, answer)
        label = measure if unit == "1" else f"{measure} ({unit})"
        save_figure(figure, lambda: parameter_map(x, y, values, label, units, failed=~answer.settled))
    if as_json:
        return print_json(told)
    out = console()
    out.print(f"{told['pulses']} of {samples} parameter sets make a pulse, {told['monotone']} are monotone")
    if told["settled"] < samples:
        say(f"{samples - told['settled']} came to no rest before or after the step and count as neither", "yellow")
    if there.size:
        of = "" if there.size == samples else f", of the {there.size} that have it"
        out.print(f"{measure}{_space(unit)}: " + ", ".join(f"{k} {v:.4g}" for k, v in told["quantiles"].items()) + of)


@circuits.command()
@grouped
def sensitivity(
    subject: Subject,
    experiment: Experiment,
    ranges: Ranges = None,
    measure: Measure = "last",
    method: Annotated[str, typer.Option(metavar="sobol|morris", help="Shares of variance, or mean effects.")] = "sobol",
    size: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="Base samples (a power of two), or paths.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Which parameter decides a measure: Sobol's indices or Morris' elementary effects, with 95 % intervals."""
    from dataclasses import asdict

    from rich.table import Table

    from varphi.systems.circuits import morris, sobol

    if method not in ("sobol", "morris"):
        raise ValueError(f"the method is sobol or morris, got {method!r}")
    made, found = subject.made(), _ranges(ranges)
    units: dict[str, str] = {}

    def measured(given: Any) -> Any:
        answer = experiment.answer(made, given)
        units.update(_units(made, found, answer))
        units["measure"] = _unit(measure, answer)
        return answer.measure(measure)

    if method == "sobol":
        result = sobol(measured, found, base=size or 512, seed=seed)
    else:
        result = morris(measured, found, paths=size or 64, seed=seed)
    if as_json:
        return print_json({"measure": measure, "unit": units["measure"], "method": method, **asdict(result)})
    told = asdict(result)
    if method == "sobol":
        table = Table("parameter", "alone", "with interactions")
        for n in found:
            alone, total = (f"{told[k][n]:.3f} ± {told[k + '_error'][n]:.3f}" for k in ("first", "total"))
            table.add_row(n + _space(units.get(n, "1")), alone, total)
    else:
        table = Table("parameter", f"mean effect{_space(units['measure'])}", f"deviation{_space(units['measure'])}")
        for n in found:
            mean = f"{told['mean'][n]:.4g} ± {told['error'][n]:.2g}"
            table.add_row(n + _space(units.get(n, "1")), mean, f"{told['deviation'][n]:.4g}")
    out = console()
    out.print(f"{measure}{_space(units['measure'])}, {method}, 95 % intervals")
    out.print(table)


@circuits.command("design")
@grouped
def design_(
    subject: Subject,
    experiment: Experiment,
    want: Annotated[
        list[str] | None,
        typer.Option(
            "--want", "-w", metavar="MEASURE=VALUE", help='As "peak=2", "precision=10:" (at least), "peak=1:2".'
        ),
    ] = None,
    ranges: Ranges = None,
    method: Annotated[str, typer.Option(metavar="global|gradient|both", help="How to search.")] = "both",
    seconds: Annotated[float, typer.Option(metavar="S", help="Processor time for each method.")] = 10.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Parameters with which a circuit does what is wanted, found by global search and by gradients, and verified."""
    from rich.table import Table

    from varphi.systems.circuits import design

    spec = dict(_wanted(text) for text in want or ())
    made = subject.made()
    found = design(
        made, spec, _ranges(ranges), _step(experiment.step), experiment.output, horizon=experiment.horizon,
        method=method, seconds=seconds, seed=seed,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    answer = experiment.answer(made, dict(found.parameters), progress=False)
    units = {m: _unit(m, answer) for m in spec}
    if as_json:
        return print_json(
            {
                "meets": found.meets(), "parameters": dict(found.parameters), "achieved": dict(found.achieved),
                "verified": dict(found.verified), "units": units, "winner": found.winner,
                "contenders": [
                    {"method": c.method, "loss": c.loss, "seconds": c.seconds, "samples": c.samples}
                    for c in found.contenders
                ],
            }
        )  # fmt: skip
    table = Table("measure", "wanted", "found", "verified")
    for m, wanted in spec.items():
        asked = f"{wanted[0]:g} to {wanted[1]:g}" if isinstance(wanted, tuple) else f"{wanted:g}"
        table.add_row(m + _space(units[m]), asked, f"{found.achieved[m]:.6g}", f"{found.verified[m]:.6g}")
    out = console()
    out.print("meets the specification" if found.meets() else "does not meet the specification")
    out.print(table)
    for c in found.contenders:
        won = ", and won" if len(found.contenders) > 1 and c.method == found.winner else ""
        out.print(f"{c.method}: loss {c.loss:.3g} in {c.seconds:.1f} s, {c.samples} parameter sets{won}")
    own = _units(made, found.parameters, answer)
    for name, value in found.parameters.items():
        out.print(f"{name} = {value:.6g}{_space(own[name])}")


def _wanted(text: str) -> tuple[str, float | tuple[float, float]]:
    name, equals, value = text.partition("=")
    low, colon, high = value.partition(":")
    try:
        if not equals:
            raise ValueError
        target = (float(low or 0), float(high or "inf")) if colon else float(low)
    except ValueError:
        raise ValueError(f"what is wanted is MEASURE=VALUE or MEASURE=LOW:HIGH, as in peak=2; got {text!r}") from None
    return name.strip(), target


def _ranges(texts: list[str] | None) -> dict[str, Range]:
    from varphi.systems.circuits import Range

    found: dict[str, Range] = {}
    for text in texts or ():
        name, equals, range_ = text.partition("=")
        if not equals:
            raise ValueError(f"a range is NAME=LOW:HIGH, as in K_Y_Z=0.1:10; got {text!r}")
        found[name.strip()] = Range.read(range_)
    return found


def _unit(measure: str, answer: Response) -> str:
    """The unit of a measure."""
    kind = {"first": answer.output, "last": answer.output, "peak": answer.output, "amplitude": answer.output}
    times = ("time of peak", "response time", "width", "return time", "delay")
    return answer.system.units.get(kind.get(measure, "t" if measure in times else ""), "1")


def _units(made: Circuit | Model, names: Iterable[str], answer: Response) -> dict[str, str]:
    """The units of parameters by the names that they were given by."""
    known = answer.system.units
    return {n: known.get(next(iter(made.resolved({n: 1.0}))), "1") for n in names}


def _space(unit: str) -> str:
    return "" if unit == "1" else f" ({unit})"


@circuits.command()
@grouped
def classify(subject: Subject, as_json: Json = False) -> None:
    """What a circuit is made of: its Hill functions with K, n and sign, its graph, its feed-forward loops."""
    from varphi.systems.circuits import Circuit, Network

    made = subject.made()
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
@grouped
def prove(
    subject: Subject,
    claim: Annotated[str, typer.Argument(metavar="monostable|bistable", help="What is to be proved.")],
    ranges: Ranges = None,
    boxes: Annotated[int, typer.Option(metavar="N", min=1, help="Into how many boxes parameters may be cut.")] = 400,
    as_json: Json = False,
) -> None:
    """Prove or refute that a circuit has one steady state, or two stable ones, for all parameters of a box."""
    from dataclasses import asdict

    box = {name: (r.low, r.high) for name, r in _ranges(ranges).items()}
    found = subject.made().certify(claim, box, most_boxes=boxes)  # pyright: ignore[reportArgumentType]
    if as_json:
        return print_json(asdict(found))
    out = console()
    out.print(f"{found.verdict}: {found.reason}")
    if found.witness:
        out.print("witness: " + ", ".join(f"{k} = {v:.6g}" for k, v in found.witness.items()))


@circuits.command()
def motifs(
    network: Annotated[Path, typer.Argument(metavar="FILE", help="A list of edges, GraphML, or SBML.")],
    samples: Annotated[int, typer.Option(metavar="N", min=2, help="How many random networks.")] = 1000,
    seed: Seed = 0,
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
