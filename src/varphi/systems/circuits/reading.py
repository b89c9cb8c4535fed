"""From a model that was read to a circuit, where its laws are those of a circuit.

The rate of each state must be a sum: productions, each a rate times Hill functions that a gate joins; and one loss in
proportion. Rates, K and n must each be a number or one of the model's parameters, so that the model's own names stay
names of the circuit's parameters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from varphi.dynamics.sbml import refuse_unit_clashes
from varphi.numbers import Expression, evaluate, variable

from .circuit import Circuit, Gate, Gene, Regulation, Transcript, hill
from .laws import HillLaw, competition, factors, signed_terms
from .model import Model
from .units import Units


class NotACircuit(ValueError):
    """A model that is no circuit, and why."""


def circuit_or_model(model: Model, check_units: bool) -> Circuit | Model:
    """The model as a circuit where it is one; else as it is, with the reason.

    Raises:
        ValueError: impossible values: a Hill function's K or n not above 0, a negative level of what acts by one;
            units that clash, if they are to be checked.
    """
    if check_units:
        refuse_unit_clashes(model.text)
    try:
        return _Converter(model).circuit()
    except NotACircuit as reason:
        _refuse_impossible(model)
        return replace(model, not_a_circuit=str(reason))


def _refuse_impossible(model: Model) -> None:
    values: dict[str, Any] = dict(model.equations.parameters)
    levels = {**values, **model.start}
    for law in model.hill_laws:
        for what, e in (("K", law.K), ("n", law.n)):
            if e.variables <= set(values):
                value = float(evaluate([e], values)[0])
                if not value > 0:
                    raise ValueError(
                        f"{what} = {e!r} of the {law.name} of {law.species} must be above 0, got {value!r}"
                    )
        if levels.get(law.species, 0.0) < 0:
            raise ValueError(f"{law.species} starts at {levels[law.species]!r}: a concentration must not be negative")


@dataclass(frozen=True)
class _Part:
    """A number or a parameter's name."""

    value: float
    name: str | None


@dataclass(frozen=True)
class _Made:
    """A production: its rate, the gate and the regulators; or of what mRNA it is the translation."""

    rate: _Part
    gate: Gate = "AND"
    laws: tuple[HillLaw, ...] = ()
    of: str | None = None


class _Converter:
    def __init__(self, model: Model) -> None:
        self.model, self.system = model, model.equations
        self.aliases: dict[str, list[str]] = {}
        self.hills = {id(hill(w.sign, variable(w.species), w.K, w.n)): w for w in self.laws()}
        self.groups = [(factors(competition(g)), g) for g in model.competing]

    def laws(self) -> Iterable[HillLaw]:
        from .laws import recognised

        yield from self.model.hill_laws
        for group in self.model.competing:
            yield from group
        for rate in self.system.rates:
            yield from recognised(rate, self.model.species)[1]

    def circuit(self) -> Circuit:
        model = self.model
        if model.happenings:
            raise NotACircuit(f"it has events ({model.happenings[0].name!r})")
        if model.derived:
            raise NotACircuit(f"a rule defines {next(iter(model.derived))!r}")
        made = {s: self.rate(s) for s in self.system.states}
        mrna = {of: s for s, (_, parts) in made.items() for p in parts if (of := p.of) is not None}
        genes = {}
        for name in self.system.states:
            if name not in mrna:
                genes[name] = self.gene(name, made, mrna)
        used = {r.source for g in genes.values() for r in g.regulators}
        inputs = {s: self.system.parameters[s] for s in sorted(used) if s not in genes}
        for name in [*genes, *inputs]:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
                raise NotACircuit(f"{name!r} cannot name a gene: use letters and digits, beginning with a letter")
        told = {k: tuple(v) for k, v in self.aliases.items() if tuple(v) != (k,)}
        canonical = set(Circuit(genes, inputs, self.units()).parameters)
        clash = canonical & set(told)
        if clash:
            raise NotACircuit(f"its parameter {min(clash)!r} has the name that a circuit gives to another")
        return Circuit(genes, inputs, self.units(), told)

    def gene(self, name: str, made: dict[str, tuple[_Part, list[_Made]]], mrna: dict[str, str]) -> Gene:
        loss, parts = made[name]
        transcript = None
        product = name
        translated = [p for p in parts if p.of is not None]
        if translated:
            if len(parts) > 1 or translated[0].of != f"m{name}":
                raise NotACircuit(
                    f"{name} is made from {translated[0].of!r}: a circuit's mRNA of Y is called mY, and Y's only source"
                )
            product = f"m{name}"
            if mrna.get(product) != name or self.model.start[product] != 0:
                raise NotACircuit(f"the mRNA {product!r} makes several products, or does not start at 0")
            transcript = Transcript(
                self.put(made[product][0], f"alpha_{product}"), self.put(translated[0].rate, f"translation_{name}")
            )
            parts = made[product][1]
        basal = [p for p in parts if not p.laws]
        regulated = [p for p in parts if p.laws]
        if any(p.of is not None for p in basal) or len(basal) > 1:
            raise NotACircuit(f"{product} is made by several reactions without regulation")
        if not regulated:
            if not basal:
                raise NotACircuit(f"nothing makes {product}")
            regulated, basal = basal, []
        gate, laws, rate = self.joined(product, regulated)
        regulators = tuple(
            Regulation(w.species, w.sign, *(self.put(self.part(e), f"{k}_{w.species}_{name}") for k, e in w.constants))
            for w in laws
        )  # fmt: skip
        if len({w.species for w in laws}) < len(laws):
            raise NotACircuit(f"a regulator acts on {name} twice")
        return Gene(
            regulators, gate, self.put(rate, f"beta_{name}"), self.put(loss, f"alpha_{name}"),
            self.put(basal[0].rate, f"basal_{name}") if basal else 0.0, self.model.start[name], transcript,
        )  # fmt: skip

    def joined(self, name: str, parts: list[_Made]) -> tuple[Gate, tuple[HillLaw, ...], _Part]:
        """Several productions as one with the gate SUM."""
        if len(parts) == 1:
            return parts[0].gate, parts[0].laws, parts[0].rate
        if any(p.rate != parts[0].rate or (len(p.laws) > 1 and p.gate != "SUM") for p in parts):
            raise NotACircuit(f"{name} is made by several reactions that no gate joins")
        return "SUM", tuple(w for p in parts for w in p.laws), parts[0].rate

    def rate(self, state: str) -> tuple[_Part, list[_Made]]:
        """A state's loss and productions."""
        losses, made = [], []
        for sign, term in signed_terms(self.system.rates[self.system.states.index(state)], 1):
            if sign < 0:
                losses.append(self.loss(state, term))
            else:
                made.append(self.production(state, term))
        if len(losses) != 1:
            raise NotACircuit(f"{state} has {len(losses)} losses in proportion, not one")
        return losses[0], made

    def loss(self, state: str, term: Expression) -> _Part:
        product = factors(term)
        if product.pop(variable(state), None) != {None: 1}:
            raise NotACircuit(f"the loss {term!r} of {state} is not in proportion to it")
        return self.single(product, term)

    def production(self, state: str, term: Expression) -> _Made:
        product = factors(term)
        for inner, group in self.groups:
            if all(product.get(base) == power for base, power in inner.items()):
                rest = {b: p for b, p in product.items() if b not in inner}
                return _Made(self.single(rest, term), "OR", group)
        found = [b for b, p in product.items() if id(b) in self.hills and p == {None: 1}]
        rest = {b: p for b, p in product.items() if b not in set(found)}
        others = [b for b in rest if b.operation == "variable" and b.arguments[0] in self.system.states]
        if others:
            of = others[0]
            if found or len(others) > 1 or rest.pop(of) != {None: 1} or of.arguments[0] == state:
                raise NotACircuit(f"the production {term!r} of {state} is no gate of Hill functions")
            return _Made(self.single(rest, term), of=of.arguments[0])
        return _Made(self.single(rest, term), "AND", tuple(self.hills[id(b)] for b in found))

    def part(self, e: Expression) -> _Part:
        """K or n."""
        return self.single(factors(e), e)

    def single(self, product: Any, term: Expression) -> _Part:
        """A product as a number, or one parameter; sizes of compartments cancel."""
        number, names = 1.0, []
        for base, power in product.items():
            if set(power) != {None}:
                raise NotACircuit(f"{term!r} has no rate that is a number or one parameter")
            p = float(power[None])
            if base.is_constant:
                number *= float(base.value) ** p
            elif base.operation == "variable" and base.arguments[0] in self.model.compartments:
                number *= self.model.compartments[base.arguments[0]] ** p
            elif base.operation == "variable" and base.arguments[0] in self.system.parameters and p == 1:
                names.append(base.arguments[0])
            else:
                raise NotACircuit(f"{base!r} in {term!r} is neither a number nor a parameter, nor a Hill function")
        if not names:
            return _Part(number, None)
        if len(names) > 1 or not math.isclose(number, 1.0, rel_tol=1e-12):
            raise NotACircuit(f"{term!r} has no rate that is a number or one parameter")
        if names[0] in self.model.species:
            raise NotACircuit(f"{names[0]!r} acts in {term!r}, but not by a Hill function")
        return _Part(self.system.parameters[names[0]], names[0])

    def put(self, part: _Part, own: str) -> float:
        """A value, noted under the model's name for it."""
        if part.name is not None:
            self.aliases.setdefault(part.name, []).append(own)
        return part.value

    def units(self) -> Units:
        """The model's units, where they are a circuit's."""
        return self.model.known_units
