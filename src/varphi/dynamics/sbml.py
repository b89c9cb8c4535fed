"""SBML, the format of systems biology: any model of equations, read.

Functions, rules, initial assignments, local parameters, conversion factors and submodels are worked into the equations;
events become happenings. What has no meaning here (delayed values, algebraic rules, fast reactions, constraints, other
packages) is refused by name: a model is read as a whole or not at all.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from varphi.numbers import Expression, evaluate, variable
from varphi.numbers.expression import constant
from varphi.numbers.jet import partial

from .happenings import Happening
from .mathml import LAW_OF, RATE_OF, Formulas, UnsupportedModel, exact, unsupported

# Drawings and groups change no equation; what l3v2extendedmath adds are functions, which are refused one by one.
_HARMLESS = ("l3v2extendedmath", "layout", "render", "groups")


@dataclass(frozen=True)
class SbmlReaction:
    """A reaction.

    Attributes:
        name: its id.
        law: amount per time.
        change: by how much each state's amount changes: numbers, or expressions where the model computes them.
        reversible: whether the law may be negative.
    """

    name: str
    law: Expression
    change: Mapping[str, float | Expression]
    reversible: bool


@dataclass(frozen=True)
class SbmlModel:
    """What an SBML file says, as equations.

    Attributes:
        name: its id.
        rates: the rate of change of each state. A species is its concentration, or its amount where the model says so
            or where its compartment changes (then the state of X is called amount_X, and X is among `derived`);
            boundary species that nothing changes are parameters.
        parameters: names and values.
        start: the state at time 0.
        derived: what rules and sizes define, by name: expressions in states and parameters.
        reactions: whose sums the rates are, but for rate rules.
        sizes: of each species, the size of its compartment by which its state is amount/size; 1 for amounts.
        species: the names of all species.
        happenings: its events.
        compartments: sizes that stay.
        spaces: of each species, the size of its compartment.
        concentrations: the species that are concentrations; the others are amounts.
        units: of species that change, as libsbml derives them.
        declared: the units that the model declares for parameters, and for time (`t`), as libsbml prints them.
        dimensions: of each species and of time (`t`), where they are known: base units, with exponents and factors.
        text: the SBML that it was read from.
    """

    name: str
    rates: Mapping[str, Expression]
    parameters: Mapping[str, float]
    start: Mapping[str, float]
    derived: Mapping[str, Expression]
    reactions: tuple[SbmlReaction, ...]
    sizes: Mapping[str, float]
    species: tuple[str, ...]
    happenings: tuple[Happening, ...]
    compartments: Mapping[str, float]
    spaces: Mapping[str, Expression]
    concentrations: frozenset[str]
    units: Mapping[str, str]
    declared: Mapping[str, str]
    dimensions: Mapping[str, Mapping[str, tuple[int, float]]]
    text: str


def read_sbml(source: str | Path) -> SbmlModel:
    """The equations of an SBML model.

    Args:
        source: a file, or the SBML text itself.

    Raises:
        ImportError: the package python-libsbml is missing.
        FileNotFoundError: no such file.
        ValueError: what is no SBML.
        UnsupportedModel: a model with something that is not supported, by name.
    """
    text, told = sbml_text(source)
    library = libsbml()
    document = library.readSBMLFromString(text)
    if told != "the text":
        document.setLocationURI(f"file:{Path(source).resolve()}")  # submodels may lie beside it
    for i in range(document.getNumErrors()):
        error = document.getError(i)
        if error.getSeverity() >= library.LIBSBML_SEV_ERROR:
            raise ValueError(f"{told} is not valid SBML: line {error.getLine()}: {error.getMessage().strip()}")
    if document.getModel() is None:
        raise ValueError(f"{told} holds no model")
    _flatten(library, document)
    return _Reader(library, document, text).read()


def refuse_unit_clashes(text: str) -> None:
    """Refuse SBML whose declared units contradict each other; what has no units contradicts nothing.

    Raises:
        ValueError: the first clash, in libsbml's words.
    """
    library = libsbml()
    document = library.readSBMLFromString(text)
    for category in _CHECKS:
        document.setConsistencyChecks(getattr(library, f"LIBSBML_CAT_{category}"), category == "UNITS_CONSISTENCY")
    document.checkConsistency()
    for i in range(document.getNumErrors()):
        error = document.getError(i)
        if error.getErrorId() in _UNIT_CLASHES:
            told = error.getMessage().strip().splitlines()[-1].strip()
            raise ValueError(
                f"the model's units clash: {told} Correct the units or take them out, or read it with check_units=False"
            )


_CHECKS = (
    "GENERAL_CONSISTENCY", "IDENTIFIER_CONSISTENCY", "UNITS_CONSISTENCY", "MATHML_CONSISTENCY", "SBO_CONSISTENCY",
    "OVERDETERMINED_MODEL", "MODELING_PRACTICE",
)  # fmt: skip
_UNIT_CLASHES = range(10501, 10600)
"""libsbml's errors on units that contradict each other; those on units that are missing have other numbers."""


def sbml_text(source: str | Path) -> tuple[str, str]:
    """The text of a file or the text itself, and what to call it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what is no SBML.
    """
    if isinstance(source, str) and "<" in source:
        text, told = source, "the text"
    else:
        text, told = Path(source).read_text("utf-8", "replace"), str(source)
    if "<sbml" not in text:
        raise ValueError(f"{told} is not SBML: it has no <sbml> element")
    return text, told


def libsbml() -> Any:
    """The library.

    Raises:
        ImportError: it is missing.
    """
    try:
        return importlib.import_module("libsbml")
    except ImportError:
        raise ImportError("SBML needs the package python-libsbml: pip install python-libsbml") from None


def _flatten(library: Any, document: Any) -> None:
    """Work submodels (the package comp) into the model."""
    names = [document.getPlugin(i).getPackageName() for i in range(document.getNumPlugins())]
    if "comp" not in names or not document.getPackageRequired("comp"):
        return
    wanted = library.ConversionProperties()
    wanted.addOption("flatten comp", True)
    wanted.addOption("leavePorts", False)
    if document.convert(wanted) != library.LIBSBML_OPERATION_SUCCESS or document.getModel() is None:
        raise unsupported("submodels (the SBML package 'comp') that libsbml cannot put together")


class _Reader:
    """Reads one document.

    Each symbol of the model has a base: a state or a parameter of the equations. It has the symbol's own name and
    value, but where a species is a concentration in a compartment whose size changes, the base is its amount.
    """

    def __init__(self, library: Any, document: Any, text: str) -> None:
        self.library, self.document, self.text = library, document, text
        self.model = m = document.getModel()
        self.values: dict[str, float] = {}  # of local parameters
        self.formula = Formulas(library, {f.getId(): f for f in m.getListOfFunctionDefinitions()})
        self.names = self.formula.names
        self.renamed = {"t": "t_"} if m.getElementBySId("t") is not None else {}
        rules = {r.getVariable(): r for r in m.getListOfRules() if not r.isAlgebraic()}
        self.assigned = {n: self.given(r.getMath(), n) for n, r in rules.items() if r.isAssignment()}
        self.rated = {n: self.given(r.getMath(), n) for n, r in rules.items() if r.isRate()}
        self.initial = {a.getSymbol(): a.getMath() for a in m.getListOfInitialAssignments() if a.getMath() is not None}
        self.sizes = {c.getId(): c for c in m.getListOfCompartments()}
        self.species = {s.getId(): s for s in m.getListOfSpecies()}
        self.events = [e for e in m.getListOfEvents() if e.getTrigger() is not None and e.getTrigger().getMath()]
        self.targets = {
            a.getVariable(): None for e in self.events for a in e.getListOfEventAssignments() if a.getMath() is not None
        }
        self.references = {
            r.getId(): r for reaction in m.getListOfReactions()
            for r in (*reaction.getListOfReactants(), *reaction.getListOfProducts()) if r.isSetId()
        }  # fmt: skip

    def given(self, node: Any, name: str) -> Any:
        if node is None:
            raise unsupported(f"a rule for {name!r} without a formula")
        return node

    def read(self) -> SbmlModel:
        self.refuse_unsupported()
        m = self.model
        symbols = [*self.sizes, *self.species, *(p.getId() for p in m.getListOfParameters()), *self.references]
        changing = {*self.assigned, *self.rated, *self.targets}
        if unknown := sorted({*changing, *self.initial} - set(symbols)):
            raise UnsupportedModel(f"a rule is for {unknown[0]!r}, which is none of the model's symbols")
        by_reactions = [n for n in self.species if n not in self.assigned and n not in self.rated]
        self.by_amount = {
            n: f"amount_{n}" for n in by_reactions
            if self.is_concentration(self.species[n]) and self.species[n].getCompartment() in changing
        }  # fmt: skip
        for name in symbols:
            self.names[name] = variable(self.base(name))
        for r in m.getListOfReactions():
            self.names[r.getId()] = variable(LAW_OF + r.getId())
        self.inline(self.assigned)
        for name in self.by_amount:
            self.names[name] = variable(self.base(name)) / self.names[self.species[name].getCompartment()]
        if self.by_amount:
            # Rules may have read the concentrations: once more, with amounts.
            self.inline(self.assigned)
        reactions = [self.reaction(r) for r in m.getListOfReactions()]
        start = self.starts(symbols)
        rates = self.rates(reactions, start)
        self.substitute_rates(rates, symbols, reactions)
        self.refuse_nothing(rates, symbols, start)
        return SbmlModel(
            name=m.getId() or "model",
            rates=rates,
            parameters=self.parameters(symbols, rates, start),
            start={n: start[n] for n in rates},
            derived={self.base(n): self.names[n] for n in self.assigned}
            | {self.name(n): self.names[n] for n in self.by_amount},
            reactions=tuple(reactions),
            sizes=self.volumes(start),
            species=tuple(self.name(n) for n in self.species),
            happenings=tuple(self.happening(e, rates) for e in self.events),
            compartments={self.name(n): start[self.base(n)] for n in self.sizes if n not in changing},
            spaces={self.name(n): self.names[s.getCompartment()] for n, s in self.species.items()},
            concentrations=frozenset(self.name(n) for n, s in self.species.items() if self.is_concentration(s)),
            units=self.units(rates),
            declared=self.declared_units(),
            dimensions=self.dimensions(),
            text=self.text,
        )

    def refuse_nothing(self, rates: dict[str, Expression], symbols: Iterable[str], start: Mapping[str, float]) -> None:
        """Refuse a model in which nothing changes and nothing is computed; equations need a state, if one at rest."""
        if not any(not (r.is_constant and r.value == 0) for r in rates.values()) and not (self.events or self.assigned):
            raise UnsupportedModel("the model has nothing that changes: no reactions, no rules and no events")
        still = [n for n in symbols if n not in self.assigned and math.isfinite(start[self.base(n)])]
        if not rates and not still:
            raise UnsupportedModel("the model has nothing but rules: no species, no compartment and no parameter")
        if not rates:
            rates[self.base(still[0])] = constant(0)

    # Names ----------------------------------------------------------------------------------------------------------

    def name(self, name: str) -> str:
        return self.renamed.get(name, name)

    def base(self, name: str) -> str:
        """The state or parameter behind a symbol."""
        return self.by_amount.get(name) or self.name(name)

    def inline(self, assigned: Mapping[str, Any]) -> None:
        """Replace each assigned name by its formula, in the order in which they need each other."""
        waiting = dict(assigned)
        while waiting:
            ready = [n for n, a in waiting.items() if not self.formula.mentioned(a) & set(waiting)]
            if not ready:
                raise UnsupportedModel(f"the rules for {', '.join(sorted(waiting))} need each other in a circle")
            for name in ready:
                self.names[name] = self.formula(waiting.pop(name))

    def is_concentration(self, species: Any) -> bool:
        compartment = self.model.getCompartment(species.getCompartment())
        return not species.getHasOnlySubstanceUnits() and compartment.getSpatialDimensions() != 0

    def refuse_unsupported(self) -> None:
        m = self.model
        for i in range(self.document.getNumPlugins()):
            name = self.document.getPlugin(i).getPackageName()
            if name not in _HARMLESS and self.document.getPackageRequired(name):
                raise unsupported(f"the SBML package {name!r}")
        if any(rule.isAlgebraic() for rule in m.getListOfRules()):
            raise unsupported("an algebraic rule")
        if m.getNumConstraints():
            raise unsupported("a constraint")
        for reaction in m.getListOfReactions():
            if reaction.isSetFast() and reaction.getFast():
                raise unsupported(f"a fast reaction ({reaction.getId()!r})")

    # Values at the start --------------------------------------------------------------------------------------------

    def starts(self, symbols: Iterable[str]) -> dict[str, float]:
        """The value of every base at time 0; NaN where the model gives none."""
        known: dict[str, float] = {}
        waiting = [n for n in symbols if n not in self.assigned]
        formulas = {n: self.formula(self.initial[n]) for n in waiting if n in self.initial}
        while waiting:
            left = [n for n in waiting if not self.start(n, formulas.get(n), known)]
            if len(left) == len(waiting):
                raise UnsupportedModel(f"the initial value of {min(left)!r} cannot be worked out")
            waiting = left
        return known

    def start(self, name: str, formula: Expression | None, known: dict[str, float]) -> bool:
        """Work out one start; False if it needs others first."""
        space = self.names[self.species[name].getCompartment()] if name in self.species else constant(1)
        here = known | self.values | {"t": 0.0}
        needed = (formula.variables if formula is not None else set()) | space.variables
        if not needed <= set(here):
            return False
        size = float(evaluate([space], here)[0])
        value = float(evaluate([formula], here)[0]) if formula is not None else self.declared(name, size)
        known[self.base(name)] = value * size if name in self.by_amount else value
        return True

    def declared(self, name: str, size: float) -> float:
        """What a symbol's own attributes say."""
        if name in self.species:
            s = self.species[name]
            if s.isSetInitialAmount():
                return s.getInitialAmount() / (size if self.is_concentration(s) else 1.0)
            if s.isSetInitialConcentration():
                return s.getInitialConcentration() * (1.0 if self.is_concentration(s) else size)
            return math.nan
        if name in self.sizes:
            c = self.sizes[name]
            return c.getSize() if c.isSetSize() else 1.0 if self.document.getLevel() < 3 else math.nan
        if name in self.references:
            return self.stoichiometry(self.references[name])
        p = self.model.getParameter(name)
        return p.getValue() if p.isSetValue() else math.nan

    def stoichiometry(self, reference: Any) -> float:
        return (
            reference.getStoichiometry() if reference.isSetStoichiometry() or self.document.getLevel() < 3 else math.nan
        )

    # Equations ------------------------------------------------------------------------------------------------------

    def reaction(self, reaction: Any) -> SbmlReaction:
        name = reaction.getId()
        law = reaction.getKineticLaw()
        if law is None or law.getMath() is None:
            raise UnsupportedModel(f"the reaction {name!r} has no kinetic law")
        local: dict[str, Expression] = {}
        for p in (*law.getListOfParameters(), *law.getListOfLocalParameters()):
            own = f"{name}_{p.getId()}"
            while own in self.names or own in self.values:
                own += "_"
            if not p.isSetValue():
                raise UnsupportedModel(f"the local parameter {p.getId()!r} of {name!r} has no value")
            self.values[own], local[p.getId()] = p.getValue(), variable(own)
        change: dict[str, Any] = {}
        for sign, references in ((-1, reaction.getListOfReactants()), (1, reaction.getListOfProducts())):
            for reference in references:
                s = self.species[reference.getSpecies()]
                if not s.getBoundaryCondition() and not s.getConstant():
                    base = self.base(s.getId())
                    by = change.get(base, constant(0)) + sign * self.each(reference, s, name)
                    change[base] = constant(by)
        known = {k: _number(v) for k, v in change.items()}
        return SbmlReaction(name, self.formula(law.getMath(), local), known, bool(reaction.getReversible()))

    def each(self, reference: Any, species: Any, reaction: str) -> Expression:
        """By how much one reaction changes a species."""
        own = reference.getId()
        if self.document.getLevel() < 3 and reference.isSetStoichiometryMath():
            by = self.formula(reference.getStoichiometryMath().getMath())
        elif own and own in {*self.assigned, *self.rated, *self.targets, *self.initial}:
            by = self.names[own]
        elif math.isfinite(self.stoichiometry(reference)):
            by = exact(self.stoichiometry(reference))
        else:
            raise unsupported(f"a stoichiometry without a value (of {species.getId()!r} in {reaction!r})")
        factor = species.getConversionFactor() or self.model.getConversionFactor()
        return constant(by * self.names[factor]) if factor else by

    def rates(self, reactions: Iterable[SbmlReaction], start: Mapping[str, float]) -> dict[str, Expression]:
        """How each base that changes does."""
        rates = {self.base(n): self.formula(math_) for n, math_ in self.rated.items()}
        made: dict[str, Expression] = {}
        for reaction in reactions:
            for base, by in reaction.change.items():
                told = exact(by) if isinstance(by, float) else by
                made[base] = constant(made.get(base, constant(0)) + told * reaction.law)
        for name, s in self.species.items():
            base = self.base(name)
            if base in made and name not in self.rated and name not in self.assigned:
                size = start[self.base(s.getCompartment())] if self.is_kept(name) else 1.0
                rates[base] = constant(made[base] / exact(size)) if size != 1 else made[base]
        for name in self.targets:
            rates.setdefault(self.base(name), constant(0))
        return rates

    def is_kept(self, name: str) -> bool:
        """Whether a species' base is a concentration, in a compartment whose size is one number."""
        return self.is_concentration(self.species[name]) and name not in self.by_amount and (
            self.species[name].getCompartment() not in self.assigned
        )  # fmt: skip

    def substitute_rates(
        self, rates: dict[str, Expression], symbols: Iterable[str], reactions: list[SbmlReaction]
    ) -> None:
        """Put in the rates that formulas ask for (rateOf)."""
        asked = {v for e in (*rates.values(), *self.names.values(), *(r.law for r in reactions)) for v in e.variables}
        asked |= {v for c in self.conditions().values() for e in c for v in e.variables}
        names = {RATE_OF + n: n for n in symbols}
        found: dict[str, Expression] = {LAW_OF + r.name: r.law for r in reactions}
        for _ in range(len(asked) + 1):
            for told in [v for v in asked if v.startswith(RATE_OF)]:
                found[told] = self.along(_put(self.names[names[told]], found), rates)
            found = {k: _put(v, found) for k, v in found.items()}
            for base, rate in rates.items():
                rates[base] = _put(rate, found)
        if any(v.startswith((RATE_OF, LAW_OF)) for e in rates.values() for v in e.variables):
            raise unsupported("rates (rateOf) that need each other in a circle")
        self.rate_of = found
        for name, e in list(self.names.items()):
            self.names[name] = _put(e, self.rate_of)
        reactions[:] = [replace(r, law=_put(r.law, self.rate_of)) for r in reactions]

    def conditions(self) -> dict[str, list[Expression]]:
        """All formulas of events, by event."""
        result = {}
        for i, e in enumerate(self.events):
            nodes = [a.getMath() for a in e.getListOfEventAssignments() if a.getMath() is not None]
            margins = [c.margin for c in self.formula.condition(e.getTrigger().getMath()).comparisons()]
            result[str(i)] = [*(self.formula(n) for n in nodes), *margins]
        return result

    def along(self, e: Expression, rates: Mapping[str, Expression]) -> Expression:
        """The rate of change of an expression."""
        total = partial(e, "t") if "t" in e.variables else constant(0)
        for base, rate in rates.items():
            if base in e.variables:
                total = total + partial(e, base) * rate
        return constant(total)

    def parameters(
        self, symbols: Iterable[str], rates: Mapping[str, Expression], start: Mapping[str, float]
    ) -> dict[str, float]:
        """The bases that do not change; those without a value only if nothing uses them."""
        used = [*rates.values(), *(self.names[n] for n in (*self.assigned, *self.by_amount))]
        used += [e for c in self.conditions().values() for e in c]
        needed = {v for e in used for v in e.variables} | set(rates)
        found: dict[str, float] = {}
        for name in symbols:
            base = self.base(name)
            if name in self.assigned:
                continue
            if not math.isfinite(start[base]) and base in needed:
                raise UnsupportedModel(f"{name!r} has no finite value at the start")
            if math.isfinite(start[base]) and base not in rates:
                found[base] = start[base]
        return found | self.values

    def volumes(self, start: Mapping[str, float]) -> dict[str, float]:
        return {
            self.base(n): start[self.base(s.getCompartment())] if self.is_kept(n) else 1.0
            for n, s in self.species.items()
        }

    # Events ---------------------------------------------------------------------------------------------------------

    def happening(self, event: Any, rates: Mapping[str, Expression]) -> Happening:
        name = event.getId() or event.getName() or "unnamed"
        trigger = event.getTrigger()
        three = self.document.getLevel() >= 3

        def formula(node: Any) -> Expression:
            return _put(self.formula(node), self.rate_of)

        condition = self.formula.condition(trigger.getMath()).replaced(lambda e: _put(e, self.rate_of))
        moving = {"t", *(n for n, r in rates.items() if not (r.is_constant and r.value == 0))}
        for c in condition.comparisons():
            if c.kind in ("==", "!=") and c.margin.variables & moving:
                raise unsupported(f"an event whose trigger compares for equality ({name!r})")
        changes = {}
        for a in event.getListOfEventAssignments():
            if a.getMath() is None:
                continue
            target, value = a.getVariable(), formula(a.getMath())
            if target in self.by_amount:
                value = constant(value * self.names[self.species[target].getCompartment()])
            changes[self.base(target)] = value
        moved = [n for n in self.targets if n in self.sizes]
        if any(s.getCompartment() in moved and n in self.rated for n, s in self.species.items()):
            raise unsupported(f"an event that changes the compartment of a species with a rate rule ({name!r})")
        delay = event.getDelay().getMath() if event.isSetDelay() else None
        priority = event.getPriority().getMath() if event.isSetPriority() else None
        return Happening(
            name, condition, changes,
            delay=formula(delay) if delay is not None else None,
            priority=formula(priority) if priority is not None else None,
            fires_at_start=three and not trigger.getInitialValue(),
            persistent=trigger.getPersistent() if three else True,
            as_triggered=event.getUseValuesFromTriggerTime() or not event.isSetUseValuesFromTriggerTime(),
        )  # fmt: skip

    # Units ----------------------------------------------------------------------------------------------------------

    def dimensions(self) -> dict[str, dict[str, tuple[int, float]]]:
        """What species and time are counted in, by base units; a species without a definition is left out."""
        definitions = {self.name(n): s.getDerivedUnitDefinition() for n, s in self.species.items()}
        found = {n: self.si(d) for n, d in definitions.items() if d is not None}
        if self.model.isSetTimeUnits():
            own = self.model.getUnitDefinition(self.model.getTimeUnits())
            if own is not None:
                found["t"] = self.si(own)
            elif self.model.getTimeUnits() == "second":
                found["t"] = {"second": (1, 1.0)}
        return found

    def si(self, definition: Any) -> dict[str, tuple[int, float]]:
        """Base units with their exponents, and the factor of each."""
        parts: dict[str, tuple[int, float]] = {}
        converted = self.library.UnitDefinition.convertToSI(definition)
        for i in range(converted.getNumUnits()):
            u = converted.getUnit(i)
            kind = self.library.UnitKind_toString(u.getKind())
            size = (u.getMultiplier() * 10.0 ** u.getScale()) ** u.getExponent()
            before = parts.get(kind, (0, 1.0))
            parts[kind] = (before[0] + u.getExponent(), before[1] * size)
        return {k: v for k, v in parts.items() if v[0] and k != "dimensionless"}

    def units(self, rates: Mapping[str, Expression]) -> dict[str, str]:
        """The derived units of species and of time, as libsbml tells them."""
        found = {}
        for name, s in self.species.items():
            definition = s.getDerivedUnitDefinition()
            told = self.library.UnitDefinition.printUnits(definition, True) if definition else ""
            if self.base(name) in rates and name not in self.by_amount and told and "indeterminable" not in told:
                found[self.name(name)] = told
        return found

    def declared_units(self) -> dict[str, str]:
        """The units that parameters and time are given in, where the file says so."""

        def told(definition: Any) -> str:
            return self.library.UnitDefinition.printUnits(definition, True) if definition is not None else ""

        found = {self.name(p.getId()): told(p.getDerivedUnitDefinition()) for p in self.model.getListOfParameters()
                 if p.isSetUnits()}  # fmt: skip
        # Before level 3 a model says what `time` is by a definition of that name.
        time = self.model.getTimeUnits() if self.model.isSetTimeUnits() else "time"
        own = self.model.getUnitDefinition(time)
        if own is not None or time != "time":
            found["t"] = f"(1 {time})^1" if own is None else told(own)
        return found


def _number(e: Expression) -> float | Expression:
    return float(e.value) if e.is_constant else e


def _put(e: Expression, values: Mapping[str, Expression]) -> Expression:
    """An expression with some variables replaced."""
    if not e.variables & set(values):
        return e
    names: dict[str, Any] = {v: variable(v) for v in e.variables}
    return constant(evaluate([e], names | {k: v for k, v in values.items() if k in names})[0])
