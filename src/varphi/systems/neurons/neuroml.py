"""Membranes from NeuroML 2: a cell of one compartment, its channel densities, and channels of Hodgkin–Huxley type.

Rates and time courses are NeuroML's own (HHExpRate, HHSigmoidRate, HHExpLinearRate, ...Variable, fixedTimeCourse) or
types of the file's own, whose formulas in v are read. Includes beside the file are followed. What is more than that
(several segments, kinetic schemes, concentrations) is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from varphi.activation.parsing import FormulaError, read
from varphi.numbers import Expression, exp, explinear, sigmoid, variable, where
from varphi.numbers.expression import constant

from .assembly import Range, UnsupportedModel
from .gates import VOLTAGE, Gate, Kinetics
from .model import Current, Model
from .recognise import stable
from .units import CAPACITANCE, CONDUCTANCE, POTENTIAL, RATE, TIME, quantity

_LINK = "include"
# What each shape is of its (v - midpoint)/scale.
_SHAPES = {"HHExp": exp, "HHSigmoid": sigmoid, "HHExpLinear": explinear}
_GATES = {
    "gateHHrates": ("forwardRate", "reverseRate"),
    "gateHHratesTau": ("forwardRate", "reverseRate", "timeCourse"),
    "gateHHratesInf": ("forwardRate", "reverseRate", "steadyState"),
    "gateHHratesTauInf": ("forwardRate", "reverseRate", "timeCourse", "steadyState"),
    "gateHHtauInf": ("timeCourse", "steadyState"),
    "gateHHInstantaneous": ("steadyState",),
}
_DIMENSIONS = {"voltage": POTENTIAL, "time": TIME, "per_time": RATE, "none": "", "": ""}
_RELATIONS = {".lt.": "<", ".leq.": "<=", ".gt.": ">", ".geq.": ">=", ".eq.": "==", ".neq.": "!="}
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\w*)\s*$")
_CONDITION = re.compile(r"(.*?)(\.\w+\.)(.*)$")
_HIDDEN = ("notes", "annotation", "property", "properties")


def from_neuroml(
    source: str | Path,
    *,
    cell: str | None = None,
    temperature: float | str | None = None,
    ranges: Mapping[str, Range] | None = None,
    window: tuple[float, float] | None = None,
) -> Model:
    """A membrane from NeuroML 2.

    Numbers of a gate keep NeuroML's words: `forward_midpoint_m`, `steady_scale_m`, `q10_m`; a channel density named
    `naChans` gives `gnaChans` and `EnaChans`.

    Args:
        source: a file, or the NeuroML text itself.
        cell: the id of one, where there are several.
        temperature: °C, or "20 degC": for Q10 settings; by default a network's in the same file.
        ranges: from a gate to what its steady state lies in, where that is not 0 to 1.
        window: as of `Model`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no XML, no cell, a wrong unit.
        UnsupportedModel: something that is not supported, by name.
    """
    document = _Document(source)
    chosen = document.cell(cell)
    return _Cell(document, chosen, document.temperature(temperature), ranges or {}).model(window)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _named(element: ElementTree.Element) -> str:
    return f"{_tag(element)} {element.get('id')!r}" if element.get("id") else _tag(element)


class _Document:
    """The elements of a file and of what it includes."""

    def __init__(self, source: str | Path) -> None:
        is_text = isinstance(source, str) and "<" in source
        self.told = "the text" if is_text else Path(source).name
        self.elements: list[ElementTree.Element] = []
        self.seen: set[Path] = set()
        if is_text:
            self.take(str(source), None)
        else:
            self.load(Path(source))

    def load(self, path: Path) -> None:
        if path.resolve() not in self.seen:
            self.seen.add(path.resolve())
            self.take(path.read_text("utf-8", "replace"), path)

    def take(self, text: str, path: Path | None) -> None:
        told = "the text" if path is None else path.name
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise UnsupportedModel(f"{told} declares XML entities, which NeuroML does not need; they are not read")
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise ValueError(f"{told} is no XML: {error}") from None
        if _tag(root) not in ("neuroml", "Lems"):
            raise ValueError(f"{told} is not NeuroML: its root is <{_tag(root)}>, not <neuroml>")
        for element in root:
            if _tag(element).lower() != _LINK:
                self.elements.append(element)
                continue
            link = element.get("href") or element.get("file") or ""
            if path is None:
                raise UnsupportedModel(f"the text includes {link!r}: give the file, so that it is found beside it")
            if not (path.parent / link).exists():
                raise FileNotFoundError(f"{path.name} includes {link!r}, which is not beside it")
            self.load(path.parent / link)

    def find(self, kinds: Iterable[str], name: str) -> ElementTree.Element | None:
        wanted = set(kinds)
        return next((e for e in self.elements if _tag(e) in wanted and e.get("id") == name), None)

    def cell(self, name: str | None) -> ElementTree.Element:
        found = [e for e in self.elements if _tag(e) == "cell"]
        told = ", ".join(repr(e.get("id")) for e in found)
        if not found:
            kinds = sorted({_tag(e) for e in self.elements if "cell" in _tag(e).lower()})
            raise UnsupportedModel(f"{self.told} has no <cell>" + (f", only {', '.join(kinds)}" if kinds else ""))
        if name is None and len(found) > 1:
            raise ValueError(f"{self.told} has the cells {told}: choose one, cell='...'")
        chosen = found[0] if name is None else next((e for e in found if e.get("id") == name), None)
        if chosen is None:
            raise ValueError(f"{self.told} has no cell {name!r}; it has {told}")
        return chosen

    def temperature(self, given: float | str | None) -> float | None:
        if given is not None:
            return _celsius(str(given), "temperature")
        for e in self.elements:
            told = e.get("temperature")
            if _tag(e) == "network" and told:
                return _celsius(told, "the network's temperature")
        return None

    def own_type(self, name: str) -> ElementTree.Element | None:
        return next((e for e in self.elements if _tag(e) == "ComponentType" and e.get("name") == name), None)


def _celsius(text: str, name: str) -> float:
    match = _QUANTITY.match(text)
    if match is None or match[2] not in ("", "degC", "K"):
        raise ValueError(f"{name} is given in degC, got {text!r}")
    return float(match[1]) - (273.15 if match[2] == "K" else 0.0)


def _quantity(element: ElementTree.Element, name: str, unit: str) -> float:
    """An attribute in the unit of a membrane: "120.0 mS_per_cm2" as 120."""
    told = f"{name} of {_named(element)}"
    text = element.get(name)
    if text is None:
        raise UnsupportedModel(f"{_named(element)} has no {name}")
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(f"{told}: {text!r} is no quantity of NeuroML, such as '1.5 mV'")
    word = {"Hz": "1/s", "": ""}.get(match[2], re.sub(r"^per_", "1/", match[2]).replace("_per_", "/"))
    return quantity(f"{match[1]} {word}".strip(), unit, told)


def _children(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    return (e for e in element if _tag(e) not in _HIDDEN)


def _only(element: ElementTree.Element, tag: str) -> ElementTree.Element | None:
    found = [e for e in element if _tag(e) == tag]
    if len(found) > 1:
        raise UnsupportedModel(f"{_named(element)} has {len(found)} {tag}; one is read")
    return found[0] if found else None


@dataclass(frozen=True)
class _Rate:
    """A rate, time course or steady state: its expression, and the numbers in it with their units."""

    value: Expression
    numbers: Mapping[str, float]
    units: Mapping[str, str]


class _Cell:
    def __init__(
        self, document: _Document, cell: ElementTree.Element, temperature: float | None, ranges: Mapping[str, Range]
    ) -> None:
        self.document, self.cell, self.temperature, self.ranges = document, cell, temperature, ranges
        self.channels: dict[str, list[Gate]] = {}

    def part(self, tag: str) -> ElementTree.Element | None:
        """A part of the cell, inside it or named by an attribute."""
        inside = _only(self.cell, tag)
        name = self.cell.get(tag)
        return inside if inside is not None or name is None else self.document.find((tag,), name)

    def model(self, window: tuple[float, float] | None) -> Model:
        self.check_shape()
        physics = self.part("biophysicalProperties")
        membrane = None if physics is None else _only(physics, "membraneProperties")
        if membrane is None:
            raise UnsupportedModel(f"{_named(self.cell)} has no biophysicalProperties with membraneProperties")
        currents, capacitance = [], None
        for element in _children(membrane):
            tag = _tag(element)
            if tag in ("channelDensity", "channelDensityVShift"):
                currents.append(self.density(element))
            elif tag == "specificCapacitance":
                if capacitance is not None:
                    raise UnsupportedModel(f"{_named(self.cell)} has more than one specificCapacitance")
                capacitance = _quantity(element, "value", CAPACITANCE)
            elif tag not in ("spikeThresh", "initMembPotential"):
                raise UnsupportedModel(f"{_named(element)} is not supported; channelDensity with a fixed erev is")
        if capacitance is None:
            raise UnsupportedModel(f"{_named(self.cell)} has no specificCapacitance")
        known = {g.name for gates in self.channels.values() for g in gates}
        if odd := sorted(set(self.ranges) - known):
            raise ValueError(f"ranges names {odd[0]!r}, which is no gate; there are {', '.join(sorted(known))}")
        name = self.cell.get("id") or "cell"
        told = f"NeuroML, {self.document.told}"
        return Model(currents, C=capacitance, name=name, source=told, window=window)

    def check_shape(self) -> None:
        shape = self.part("morphology")
        segments = [] if shape is None else [e for e in shape if _tag(e) == "segment"]
        if len(segments) > 1:
            raise UnsupportedModel(
                f"{_named(self.cell)} has {len(segments)} segments: a membrane at one potential has one"
            )

    def density(self, element: ElementTree.Element) -> Current:
        channel = element.get("ionChannel") or ""
        shift = _quantity(element, "vShift", POTENTIAL) if _tag(element) == "channelDensityVShift" else 0.0
        gates, factor = self.channel(channel, shift)
        g = _quantity(element, "condDensity", CONDUCTANCE) * factor
        return Current(_identifier(element.get("id") or channel), g, _quantity(element, "erev", POTENTIAL), gates)

    # Channels -------------------------------------------------------------------------------------------------------

    def channel(self, name: str, shift: float) -> tuple[list[Gate], float]:
        element = next((e for e in self.document.elements if _tag(e).startswith("ionChannel") and e.get("id") == name),
                       None)  # fmt: skip
        if element is None:
            raise UnsupportedModel(
                f"{_named(self.cell)} uses the channel {name!r}, which is not in {self.document.told}"
            )
        kind = element.get("type", _tag(element))
        if kind not in ("ionChannel", "ionChannelHH", "ionChannelPassive"):
            raise UnsupportedModel(f"the channel {name!r} is a {kind}, which is not supported; ionChannelHH is")
        factor, gates = 1.0, []
        for part in _children(element):
            if _tag(part) == "q10ConductanceScaling":
                factor *= self.q10(part, "q10Factor", "experimentalTemp")
            else:
                gates.append(self.gate(part, name, shift))
        self.channels[f"{name} {shift}"] = gates
        return gates, factor

    def gate(self, element: ElementTree.Element, channel: str, shift: float) -> Gate:
        kind = element.get("type", _tag(element)) if _tag(element) == "gate" else _tag(element)
        if kind not in _GATES:
            raise UnsupportedModel(
                f"{_named(element)} of the channel {channel!r} is a {kind}; these are read: {', '.join(_GATES)}"
            )
        name = self.gate_name(_identifier(element.get("id") or "x"), channel, shift)
        parts = {_tag(e): e for e in _children(element)}
        scale, extra = 1.0, set(parts) - {*_GATES[kind], "q10Settings"}
        missing = set(_GATES[kind]) - set(parts)
        if extra or missing:
            raise UnsupportedModel(
                f"{_named(element)} ({kind}) of the channel {channel!r} has "
                + (f"no {min(missing)}" if missing else f"{min(extra)}, which is not supported")
            )
        scaled = "q10Settings" in parts
        if scaled:
            scale = self.q10_of(parts["q10Settings"])
        found = {
            tag: self.rate(parts[tag], word, shift)
            for tag, word in (("forwardRate", "forward"), ("reverseRate", "reverse"))
            if tag in parts
        }
        both = {"alpha": found["forwardRate"].value, "beta": found["reverseRate"].value} if found else {}
        for tag, word in (("timeCourse", "tau"), ("steadyState", "steady")):
            if tag in parts:
                found[tag] = self.rate(parts[tag], word, shift, both)
        numbers = {n: v for r in found.values() for n, v in r.numbers.items()}
        units = {n: u for r in found.values() for n, u in r.units.items()}
        q10: Any = 1
        if scaled:
            numbers["q10"], units["q10"], q10 = scale, "", variable("q10")
        kinetics = _kinetics({tag: r.value for tag, r in found.items()}, q10, numbers, units)
        power = element.get("instances", "1")
        if not power.isdigit() or not int(power):
            raise ValueError(f"{_named(element)} of the channel {channel!r} has instances={power!r}, no whole number")
        limits = self.ranges.get(name, (0.0, 1.0))
        return Gate(name, kinetics, int(power), kind == "gateHHInstantaneous", limits)

    def gate_name(self, name: str, channel: str, shift: float) -> str:
        """A name no other channel's gate has: `m` again is `m_naChan`."""
        taken = {g.name for key, gates in self.channels.items() for g in gates if key != f"{channel} {shift}"}
        own = f"{name}_{_identifier(channel)}" if name in taken or name in (VOLTAGE, "I", "C", "t") else name
        while own in taken:
            own += "_"
        return own

    def q10_of(self, element: ElementTree.Element) -> float:
        kind = element.get("type", "")
        if kind == "q10Fixed":
            return _plain(element, "fixedQ10")
        if kind == "q10ExpTemp":
            return self.q10(element, "q10Factor", "experimentalTemp")
        raise UnsupportedModel(f"q10Settings of the type {kind!r} are not supported; q10ExpTemp and q10Fixed are")

    def q10(self, element: ElementTree.Element, factor: str, at: str) -> float:
        if self.temperature is None:
            raise ValueError(
                f"{_named(element)} scales with the temperature, and none is given: temperature='6.3 degC'"
            )
        return _plain(element, factor) ** ((self.temperature - _celsius(element.get(at) or "", at)) / 10)

    # Rates ----------------------------------------------------------------------------------------------------------

    def rate(
        self, element: ElementTree.Element, word: str, shift: float, known: Mapping[str, Expression] | None = None
    ) -> _Rate:
        kind = element.get("type", "")
        v: Any = variable(VOLTAGE) - constant(shift) if shift else variable(VOLTAGE)
        own = self.document.own_type(kind)
        if own is not None:
            return self.own(element, own, v, known or {})
        if kind == "fixedTimeCourse":
            name = word
            return _Rate(variable(name), {name: _quantity(element, "tau", TIME)}, {name: TIME})
        shape = _SHAPES.get(re.sub("(Rate|Variable)$", "", kind))
        if shape is None:
            raise UnsupportedModel(
                f"{_tag(element)} of the type {kind!r} is not supported; "
                f"{', '.join(f'{s}Rate, {s}Variable' for s in _SHAPES)} and fixedTimeCourse are"
            )
        unit = RATE if kind.endswith("Rate") else ""
        names = {f"{word}_rate": unit, f"{word}_midpoint": POTENTIAL, f"{word}_scale": POTENTIAL}
        values = {n: _quantity(element, n.removeprefix(f"{word}_"), u) for n, u in names.items()}
        if values[f"{word}_scale"] == 0:
            raise ValueError(f"the scale of {_tag(element)} is 0 mV")
        amount, middle, scale = map(variable, names)
        return _Rate(constant(amount * shape((v - middle) / scale)), values, names)

    def own(
        self, element: ElementTree.Element, kind: ElementTree.Element, v: Expression, known: Mapping[str, Expression]
    ) -> _Rate:
        """A type of the file's own: its constants, its parameters, and formulas in v."""
        told = f"the type {kind.get('name')!r}"
        names: dict[str, Expression] = {"v": v, "rateScale": constant(1), **known}
        for part in _children(kind):
            tag = _tag(part)
            name = part.get("name") or ""
            if tag in ("Constant", "Parameter"):
                dimension = part.get("dimension", "none")
                if dimension not in _DIMENSIONS:
                    raise UnsupportedModel(f"{tag} {name!r} of {told} is a {dimension}, which is not supported")
                holder, key = (part, "value") if tag == "Constant" else (element, name)
                names[name] = constant(_quantity(holder, key, _DIMENSIONS[dimension]))
            elif tag == "Requirement" and name not in names:
                raise UnsupportedModel(f"{told} needs {name!r}: a gate follows v alone")
            elif tag not in ("Requirement", "Exposure", "Text", "Dynamics"):
                raise UnsupportedModel(f"{tag} of {told} is not supported")
        dynamics = _only(kind, "Dynamics")
        for part in () if dynamics is None else _children(dynamics):
            name = part.get("name") or ""
            if _tag(part) == "DerivedVariable" and part.get("value") is not None:
                names[name] = self.formula(part.get("value") or "", names, told)
            elif _tag(part) == "ConditionalDerivedVariable":
                names[name] = self.cases(part, names, told)
            else:
                raise UnsupportedModel(f"{_tag(part)} {name!r} of {told} is not supported")
            if part.get("exposure") in ("r", "t", "x"):
                return _Rate(stable(names[name], {}), {}, {})
        raise UnsupportedModel(f"{told} exposes no r, t or x")

    def cases(self, element: ElementTree.Element, names: Mapping[str, Expression], told: str) -> Expression:
        found = None
        for case in reversed([e for e in element if _tag(e) == "Case"]):
            value = self.formula(case.get("value") or "", names, told)
            condition = case.get("condition")
            if condition is None:
                found = value
                continue
            match = _CONDITION.match(condition)
            if match is None or match[2] not in _RELATIONS:
                raise UnsupportedModel(f"the condition {condition!r} of {told} is not supported")
            if found is None:
                raise UnsupportedModel(f"{told} says nothing where {condition!r} does not hold")
            chosen = read(
                f"where(({match[1]}) - ({match[3]}) {_RELATIONS[match[2]]} 0, 1, 0)", names.__contains__, told
            ).arguments[0]  # fmt: skip
            inside = chosen.evaluate(**{n: names[n] for n in chosen.variables})
            found = constant(where(inside, value, found))
        if found is None:
            raise UnsupportedModel(f"{told} has a ConditionalDerivedVariable without a Case")
        return found

    def formula(self, text: str, names: Mapping[str, Expression], told: str) -> Expression:
        try:
            return constant(float(text))
        except ValueError:
            pass
        try:
            found = read(text, names.__contains__, f"{told}'s names: {', '.join(sorted(names))}")
        except FormulaError as error:
            raise UnsupportedModel(f"{told}: {error}") from None
        return constant(found.evaluate(**{n: names[n] for n in found.variables}))


def _kinetics(found: Mapping[str, Expression], q10: Any, numbers: Mapping[str, float], units: Mapping[str, str]
              ) -> Kinetics:  # fmt: skip
    """α and β, or x∞ and τ, scaled by q10: as NeuroML's gates combine what they are given."""
    alpha, beta = found.get("forwardRate"), found.get("reverseRate")
    tau, limit = found.get("timeCourse"), found.get("steadyState")
    if alpha is not None and beta is not None and tau is None and limit is None:
        return Kinetics(alpha=constant(q10 * alpha), beta=constant(q10 * beta), numbers=numbers, units=units)
    if limit is None:
        assert alpha is not None and beta is not None
        limit = constant(1 / (1 + beta / alpha))
    if tau is None and alpha is not None and beta is not None:
        tau = constant(1 / (alpha + beta))
    return Kinetics(steady=limit, tau=None if tau is None else constant(tau / q10), numbers=numbers, units=units)


def _plain(element: ElementTree.Element, name: str) -> float:
    text = element.get(name)
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"{name} of {_named(element)} is a number, got {text!r}") from None


def _identifier(text: str) -> str:
    plain = re.sub(r"\W", "_", text)
    return plain if plain.isidentifier() else f"_{plain}"
