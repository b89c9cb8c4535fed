"""Membranes as SBML: written, and read where gates and currents are recognised in the equations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from varphi.dynamics.mathml import UnsupportedModel, sbml_formula
from varphi.dynamics.sbml import SbmlModel, libsbml, read_sbml
from varphi.numbers import Expression, variable
from varphi.numbers.expression import build, constant
from varphi.numbers.jet import partial

from .assembly import Equations, Range, assembled
from .equilibria import equilibria
from .gates import VOLTAGE
from .model import Model
from .recognise import joined, product, replaced, shared_factor, terms
from .units import CAPACITANCE, CONDUCTANCE, CURRENT, POTENTIAL, RATE, TIME

# Units as libsbml prints them.
_PLAIN = "(1 dimensionless)^1"
_PRINTED = {
    "(0.001 volt)^1": POTENTIAL,
    "(0.001 second)^1": TIME,
    "(0.001 second)^-1": RATE,
    _PLAIN: "",
}
_POTENTIALS = ("V", "v", "Vm", "V_m", "V_membrane", "Vmem")


def from_sbml(
    source: str | Path,
    *,
    voltage: str | None = None,
    applied: str | None = None,
    ranges: Mapping[str, Range] | None = None,
    window: tuple[float, float] | None = None,
) -> Model:
    """A membrane from SBML.

    Its potential must be in mV and its time in ms. What the file adds to the currents without a gate or V, such as a
    stimulus, becomes the model's applied current I: its value in the file stands in `notes`.

    Args:
        source: a file, or the SBML text itself.
        voltage: the potential's name there; found by what depends on what where it is not given.
        applied: the applied current's name there, where it is made by a rule (a pulse in time, say): it becomes I.
        ranges: from a gate to what its steady state lies in, where that is not 0 to 1.
        window: as of `Model`.

    Raises:
        ImportError: the package python-libsbml is missing.
        FileNotFoundError, ValueError: no such file, no SBML.
        UnsupportedModel: what is no membrane with gates, by name.
    """
    found = read_sbml(source)
    if found.happenings:
        raise UnsupportedModel(
            f"the model has an event ({found.happenings[0].name!r}), which a membrane cannot have: take it out; "
            "an applied current is given to what you compute"
        )
    name = _potential(found, voltage)
    _check_units(found, name)
    rates, values = dict(found.rates), dict(found.parameters)
    if applied is not None:
        rates = _without(found, applied, rates)
        values.pop(applied, None)
    if name != VOLTAGE:
        if VOLTAGE in (*rates, *values):
            raise UnsupportedModel(f"the potential is {name!r}, and {VOLTAGE!r} is the name of something else")
        rates = {n: replaced(e, {name: variable(VOLTAGE)}) for n, e in rates.items()}
    flow = rates.pop(name)
    states = {VOLTAGE, *rates}
    flows, capacitance, constant_part = _currents(flow, states, values)
    told = f"the file applies I = {constant_part:.10g} µA/cm²" if constant_part else ""
    return assembled(
        Equations(
            currents=[(None, f) for f in flows],
            rates=rates,
            values=values,
            C=capacitance,
            name=found.name,
            source=_told(source),
            notes=told,
            ranges=ranges or {},
            window=window,
            dimensionless=found.declared.get(name) == _PLAIN,
            units={n: _PRINTED[u] for n, u in found.declared.items() if u in _PRINTED},
        )
    )


def _told(source: str | Path) -> str:
    return "SBML text" if isinstance(source, str) and "<" in source else f"SBML, {Path(source).name}"


def _potential(found: SbmlModel, given: str | None) -> str:
    states = list(found.rates)
    if given is not None:
        if given not in states:
            raise ValueError(f"voltage={given!r} changes in no equation; {', '.join(states)} do")
        return given
    fits = [
        v for v in states if all(not (found.rates[x].variables & set(states)) - {v, x} for x in states if x != v)
    ]  # fmt: skip
    if len(fits) > 1:
        fits = [v for v in fits if v in _POTENTIALS]
    if len(fits) != 1:
        raise UnsupportedModel(
            f"which of {', '.join(states)} is the membrane potential? Every other one must follow it and itself alone; "
            "name it: voltage='...'"
        )
    return fits[0]


def _check_units(found: SbmlModel, name: str) -> None:
    for what, told, word, wanted in ((name, f"the potential {name}", "volt", "mV"), ("t", "time", "second", "ms")):
        unit = found.declared.get(what, "")
        if word in unit and unit != f"(0.001 {word})^1":
            raise UnsupportedModel(f"{told} is in {unit}; {wanted} is needed: rescale the model first")


def _without(found: SbmlModel, applied: str, rates: dict[str, Expression]) -> dict[str, Expression]:
    """The rates with the named quantity set to 0: I takes its place."""
    zero = {applied: constant(0)}
    if applied in found.parameters:
        return {n: replaced(e, zero) for n, e in rates.items()}
    if applied not in found.derived:
        raise ValueError(
            f"applied={applied!r} is no parameter and no rule; there are "
            f"{', '.join([*found.parameters, *found.derived])}"
        )
    gone = found.derived[applied]
    return {n: _set_zero(e, gone) for n, e in rates.items()}


def _set_zero(e: Expression, gone: Expression) -> Expression:
    known: dict[int, Expression] = {}
    for node in e.nodes():
        if node is gone:
            known[id(node)] = constant(0)
        elif node.operation in ("variable", "constant"):
            known[id(node)] = node
        else:
            known[id(node)] = build(node.operation, *(known[id(a)] for a in node.arguments))
    return known[id(e)]


def _currents(flow: Expression, states: set[str], values: Mapping[str, float]) -> tuple[list[Expression], float, float]:
    """dV/dt as outward currents, C, and the constant inward one."""
    parts = _spread(flow, states)
    scale = shared_factor([term for _, term in parts], states)
    outward, inward = [], 0.0
    for sign, term in parts:
        left = product(term)
        for base, by in scale.items():
            left[base] = left[base] - by
        plain = joined({b: n for b, n in left.items() if n})
        if not plain.variables & states:
            if "t" in plain.variables and "t" not in values:
                raise UnsupportedModel(
                    f"the current {plain!r} depends on time; name the applied current, applied='...', and it becomes I"
                )
            inward += sign * float(plain.evaluate(**{n: values[n] for n in plain.variables}))
        else:
            outward.append(plain if sign < 0 else constant(-plain))
    if not outward:
        raise UnsupportedModel("the potential has no current that depends on it")
    over = joined({b: -n for b, n in scale.items()})
    return outward, float(over.evaluate(**{n: values[n] for n in over.variables})), inward


def _spread(flow: Expression, states: set[str]) -> list[tuple[int, Expression]]:
    """A rate as a sum, with factors free of states multiplied in."""
    found = []
    for sign, term in terms(flow):
        factors = product(term)
        sums = [b for b, n in factors.items() if n == 1 and b.operation in ("add", "sub") and b.variables & states]
        inner = terms(sums[0]) if len(sums) == 1 else []
        rest = {b: n for b, n in factors.items() if not sums or b is not sums[0]}
        # g·x·(V - E) is one term; only what multiplies a whole sum of currents is multiplied in.
        if len(inner) < 2 or any(b.variables & states for b in rest) or _is_force(sums[0], states):
            found.append((sign, term))
            continue
        for own, part in _spread(sums[0], states):
            both = dict(rest)
            for b, n in product(part).items():
                both[b] = both.get(b, 0) + n
            found.append((sign * own, joined({b: n for b, n in both.items() if n})))
    return found


def _is_force(e: Expression, states: set[str]) -> bool:
    """V - E and the like: straight in V, and in nothing else that changes."""
    if e.variables & states != {VOLTAGE}:
        return False
    return not constant(partial(e, VOLTAGE)).variables & states and all(
        not term.variables & states or term.operation in ("variable", "mul", "div") for _, term in terms(e)
    )


# Writing --------------------------------------------------------------------------------------------------------------

# Each unit of a membrane: (kind, exponent, scale), as SBML multiplies them.
_UNITS: dict[str, tuple[str, tuple[tuple[str, int, int], ...]]] = {
    POTENTIAL: ("mV", (("VOLT", 1, -3),)),
    TIME: ("ms", (("SECOND", 1, -3),)),
    RATE: ("per_ms", (("SECOND", -1, -3),)),
    CURRENT: ("uA_per_cm2", (("AMPERE", 1, -6), ("METRE", -2, -2))),
    CONDUCTANCE: ("mS_per_cm2", (("SIEMENS", 1, -3), ("METRE", -2, -2))),
    CAPACITANCE: ("uF_per_cm2", (("FARAD", 1, -6), ("METRE", -2, -2))),
}


def to_sbml(model: Model, I: float | str = 0.0, start: Mapping[str, float] | None = None) -> str:  # noqa: E741
    """A membrane as SBML, level 3 version 2: V and each gate a parameter with a rate rule, the numbers beside them.

    Args:
        I: applied current, µA/cm²: the parameter `I`.
        start: V and the gates at time 0; by default the first stable equilibrium without a current, or the middle
            of the window with the gates at rest there.

    Raises:
        ImportError: the package python-libsbml is missing.
        ValueError: a start that does not name every state.
        UnsupportedModel: a function that SBML's mathematics cannot say.
    """
    library = libsbml()
    system = model.system(I)
    begin = system.named(start) if start is not None else rest_state(model)
    document = library.SBMLDocument(3, 2)
    written = document.createModel()
    written.setId("".join(c if c.isascii() and c.isalnum() else "_" for c in model.name).strip("_") or "membrane")
    written.setName(model.name)
    for unit in sorted({u for u in model.units.values() if u in _UNITS}):
        _define(library, written, *_UNITS[unit])
    if model.units["t"]:
        written.setTimeUnits(_UNITS[model.units["t"]][0])
    numbers: dict[str, Any] = {**dict.fromkeys(system.states), **system.parameters}
    for name in numbers:
        moving = name in system.states
        p = written.createParameter()
        p.setId(name)
        p.setValue(float(begin[name] if moving else numbers[name]))
        p.setConstant(not moving)
        unit = model.units.get(name, "")
        p.setUnits(_UNITS[unit][0] if unit in _UNITS else "dimensionless")
    for name, rate in zip(system.states, system.rates, strict=True):
        rule = written.createRateRule()
        rule.setVariable(name)
        parsed = library.parseL3Formula(sbml_formula(rate))
        assert parsed is not None, library.getLastParseL3Error()
        rule.setMath(parsed)
    return library.writeSBMLToString(document)


def _define(library: Any, written: Any, name: str, parts: tuple[tuple[str, int, int], ...]) -> None:
    definition = written.createUnitDefinition()
    definition.setId(name)
    for kind, exponent, scale in parts:
        unit = definition.createUnit()
        unit.setKind(getattr(library, f"UNIT_KIND_{kind}"))
        unit.setExponent(exponent)
        unit.setScale(scale)
        unit.setMultiplier(1.0)


def rest_state(model: Model) -> dict[str, float]:
    """The first stable equilibrium without a current, or the middle of the window with the gates at rest there."""
    low, high = model.span
    try:
        found = equilibria(model, 0.0).stable
    except ValueError:
        found = ()
    if found:
        return dict(found[0].state)
    v = 0.5 * (low + high)
    gates = {n: model.motions[n].steady for n in model.states[1:]}
    return {VOLTAGE: v} | {
        n: float(e.evaluate(**{k: v if k == VOLTAGE else model.values[k] for k in e.variables}))
        for n, e in gates.items()
    }
