"""Membranes to NeuroML 2: a cell of one segment with its channels.

A rate, steady state or time constant that is one of NeuroML's shapes (HHExp, HHSigmoid, HHExpLinear, a fixed time) is
written as that; any other as a type of the file's own, with its formula in v.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

from varphi.dynamics.mathml import UnsupportedModel, sbml_formula
from varphi.numbers import Expression, cosh, variable
from varphi.numbers.expression import build, constant, without_slopes
from varphi.numbers.jet import partial

from .gates import VOLTAGE, Gate
from .model import Model
from .recognise import is_line, joined, product, replaced, stable
from .sbml import rest_state

_NAMESPACE = "http://www.neuroml.org/schema/neuroml2"
# What a formula may be: its kind, the unit of its values, the type that one of the file's own extends, what it exposes.
_Kind = tuple[str, str, str, str, str, str]
_RATE: _Kind = ("Rate", "per_ms", "baseVoltageDepRate", "r", "per_time", "/ TIME_SCALE")
_TIME: _Kind = ("Time", "ms", "baseVoltageDepTime", "t", "time", "* TIME_SCALE")
_STEADY: _Kind = ("Variable", "", "baseVoltageDepVariable", "x", "none", "")
# What LEMS has words for, beside what is rewritten here.
_WORDS = frozenset({
    "add", "sub", "mul", "div", "neg", "pow", "exp", "log", "sqrt", "sin", "cos", "sinh", "cosh", "tanh", "abs",
    "sigmoid", "softplus", "expm1", "log1p",
})  # fmt: skip


def to_neuroml(model: Model) -> str:
    """A membrane as NeuroML 2: a cell of one segment, a channel for each current.

    Raises:
        UnsupportedModel: a current that is no conductance, numbers without units, a formula with a branch.
    """
    if model.dimensionless:
        raise UnsupportedModel(f"{model.name} has no units, and NeuroML needs them")
    odd = [c.name for c in model.currents if c.formula is not None]
    if odd:
        raise UnsupportedModel(f"the current {odd[0]} is a formula, and NeuroML's channels are g·x·(V - E)")
    root = ElementTree.Element("neuroml", xmlns=_NAMESPACE, id=_identifier(model.name))
    writing = _Writing(model, root)
    for current in model.currents:
        channel = ElementTree.SubElement(root, "ionChannelHH", id=f"{current.name}Channel", conductance="10pS")
        for gate in current.gates:
            writing.gate(channel, gate)
    _cell(model, root)
    root.extend(writing.types)  # the schema wants them last
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _cell(model: Model, root: ElementTree.Element) -> None:
    sub = ElementTree.SubElement
    cell = sub(root, "cell", id=_identifier(model.name))
    segment = sub(sub(cell, "morphology", id="one_segment"), "segment", id="0", name="soma")
    for end, x in (("proximal", "0"), ("distal", "10")):
        sub(segment, end, x=x, y="0", z="0", diameter="10")
    membrane = sub(sub(cell, "biophysicalProperties", id="membrane"), "membraneProperties")
    for current in model.currents:
        sub(
            membrane, "channelDensity", id=current.name, ionChannel=f"{current.name}Channel", ion="non_specific",
            condDensity=f"{model.values['g' + current.name]!r} mS_per_cm2",
            erev=f"{model.values['E' + current.name]!r} mV",
        )  # fmt: skip
    sub(membrane, "spikeThresh", value="0 mV")
    sub(membrane, "specificCapacitance", value=f"{model.values['C']!r} uF_per_cm2")
    sub(membrane, "initMembPotential", value=f"{rest_state(model)[VOLTAGE]!r} mV")


@dataclass
class _Writing:
    model: Model
    root: ElementTree.Element
    types: list[ElementTree.Element] = field(default_factory=list)

    def gate(self, channel: ElementTree.Element, gate: Gate) -> None:
        moves = self.model.motions[gate.name]
        parts: dict[str, tuple[Expression, _Kind]] = {}
        if moves.nonnegative and not gate.instantaneous:
            kind = "gateHHrates"
            parts = {
                "forwardRate": (moves.nonnegative["alpha"], _RATE),
                "reverseRate": (moves.nonnegative["beta"], _RATE),
            }
        elif moves.speed is None:
            kind, parts = "gateHHInstantaneous", {"steadyState": (moves.steady, _STEADY)}
        else:
            kind = "gateHHtauInf"
            parts = {
                "timeCourse": (joined({base: -by for base, by in product(moves.speed).items()}), _TIME),
                "steadyState": (moves.steady, _STEADY),
            }
        element = ElementTree.SubElement(channel, kind, id=gate.name, instances=str(gate.power))
        for tag, (formula, what) in parts.items():
            element.append(self.shape(tag, formula, what, f"{channel.get('id')}_{gate.name}_{tag}"))

    def shape(self, tag: str, formula: Expression, what: _Kind, name: str) -> ElementTree.Element:
        numbers = {n: constant(v) for n, v in self.model.values.items()}
        e = without_slopes(stable(replaced(formula, numbers), {}))
        kind, unit = what[:2]
        if VOLTAGE not in e.variables and what is _TIME:
            return ElementTree.Element(tag, type="fixedTimeCourse", tau=f"{float(e.evaluate())!r} ms")
        known = None if what is _TIME else _known(e)
        if known is None:
            self.types.append(_own_type(name, e, what))
            return ElementTree.Element(tag, type=name)
        shape, amount, middle, scale = known
        return ElementTree.Element(
            tag,
            type=f"{shape}{kind}",
            rate=f"{amount!r} {unit}".strip(),
            midpoint=f"{middle!r} mV",
            scale=f"{scale!r} mV",
        )


def _known(e: Expression) -> tuple[str, float, float, float] | None:
    """(shape, rate, midpoint, scale) of rate·shape((V - midpoint)/scale); None where it is no such function."""
    amount, found = 1.0, None
    for base, by in product(e).items():
        if VOLTAGE not in base.variables:
            amount *= float(base.evaluate()) ** by
        elif found is not None or not base.arguments or not isinstance(base.arguments[0], Expression):
            return None
        else:
            found = base.operation, by, base.arguments[0]
    shapes = {("exp", 1): ("HHExp", 1), ("exp", -1): ("HHExp", -1), ("sigmoid", 1): ("HHSigmoid", 1),
              ("exprel", -1): ("HHExpLinear", -1)}  # fmt: skip
    if found is None or found[:2] not in shapes or not is_line(found[2]):
        return None
    shape, sign = shapes[found[:2]]
    slope = sign * float(constant(partial(found[2], VOLTAGE)).evaluate())
    middle = -sign * float(found[2].evaluate(**{VOLTAGE: 0.0})) / slope
    if not (math.isfinite(middle) and math.isfinite(amount)):
        return None
    return shape, amount, middle, 1 / slope


def _own_type(name: str, e: Expression, what: _Kind) -> ElementTree.Element:
    _, _, extends, exposed, dimension, scaled = what
    own = ElementTree.Element("ComponentType", name=name, extends=extends)
    for unit, size, told in (("VOLT_SCALE", "voltage", "1 mV"), ("TIME_SCALE", "time", "1 ms")):
        ElementTree.SubElement(own, "Constant", name=unit, dimension=size, value=told)
    dynamics, add = ElementTree.SubElement(own, "Dynamics"), ElementTree.SubElement
    add(dynamics, "DerivedVariable", name=VOLTAGE, dimension="none", value="v / VOLT_SCALE")
    plain, quotients = _without_holes(e)
    for quotient, u in quotients.items():
        half = f"(({_lems(u)})/2)"
        element = add(dynamics, "ConditionalDerivedVariable", name=quotient, dimension="none")
        add(element, "Case", condition=f"{half} .eq. 0", value="1")
        add(element, "Case", value=f"exp({half})*sinh({half})/{half}")
    text = _lems(plain)
    add(
        dynamics,
        "DerivedVariable",
        name=exposed,
        exposure=exposed,
        dimension=dimension,
        value=f"({text}) {scaled}".strip(),
    )
    return own


def _lems(e: Expression) -> str:
    """As SBML's infix notation, but for the natural logarithm."""
    return re.sub(r"\bln\(", "log(", sbml_formula(e))


def _without_holes(e: Expression) -> tuple[Expression, dict[str, Expression]]:
    """The expression with a name for each (e^u - 1)/u, and the u of each; 1/cosh for sech.

    Raises:
        UnsupportedModel: a function that LEMS does not have.
    """
    known: dict[int, Expression] = {}
    quotients: dict[str, Expression] = {}
    for node in e.nodes():
        if node.operation in ("variable", "constant"):
            known[id(node)] = node
            continue
        arguments = [known[id(a)] for a in node.arguments]
        if node.operation == "exprel" and arguments[1].is_constant and arguments[1].value == 0:
            name = f"quotient{len(quotients) + 1}"
            quotients[name] = arguments[0]
            known[id(node)] = variable(name)
        elif node.operation == "sech":
            known[id(node)] = constant(1 / cosh(arguments[0]))
        elif node.operation in _WORDS:
            known[id(node)] = build(node.operation, *arguments)
        else:
            raise UnsupportedModel(f"NeuroML's formulas have no {node.operation}, which {e!r} needs")
    return known[id(e)], quotients


def _identifier(name: str) -> str:
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).strip("_")
    return plain if plain[:1].isalpha() else f"membrane_{plain}"
