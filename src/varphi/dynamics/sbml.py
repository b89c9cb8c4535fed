"""SBML, the format of systems biology: any model of equations read as a `System`, and a `System` written.

Functions, rules, initial assignments and local parameters are worked into the equations. What has no meaning here
(events, delays, algebraic rules, fast reactions, compartments that change, packages) is refused by name: a model is
read as a whole or not at all.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from pathlib import Path
from typing import Any

from varphi.numbers import (
    Expression,
    cos,
    cosh,
    evaluate,
    exp,
    log,
    maximum,
    minimum,
    sech,
    sin,
    sinh,
    sqrt,
    tanh,
    variable,
    where,
)
from varphi.numbers import atan as arctan
from varphi.numbers.expression import constant

from .system import System

# Drawings and groups change no equation; what l3v2extendedmath adds are functions, which are refused one by one.
_HARMLESS = ("l3v2extendedmath", "layout", "render", "groups")


class UnsupportedModel(ValueError):
    """A model that holds something that is not supported; the message names it."""


@dataclass(frozen=True)
class SbmlReaction:
    """A reaction: its law (amount per time), by how much it changes each species' amount, whether it may run back."""

    name: str
    law: Expression
    change: Mapping[str, float]
    reversible: bool


@dataclass(frozen=True)
class SbmlModel:
    """What an SBML file says, as equations.

    Attributes:
        name: its id.
        rates: the rate of change of each state. A species is its concentration, or its amount where the file says so;
            boundary species that nothing changes are parameters.
        parameters: names and values.
        units: of species and of time, as libsbml derives them.
        declared: the units that the file declares for parameters, and for time (`t`), as libsbml prints them.
        start: the state at time 0.
        derived: what rules define, by name: expressions in states and parameters.
        reactions: whose sums the rates are, but for rate rules.
        sizes: of each species, the size of its compartment by which its state is amount/size; 1 for amounts.
        species: the names of all species.
    """

    name: str
    rates: Mapping[str, Expression]
    parameters: Mapping[str, float]
    units: Mapping[str, str]
    declared: Mapping[str, str]
    start: Mapping[str, float]
    derived: Mapping[str, Expression]
    reactions: tuple[SbmlReaction, ...]
    sizes: Mapping[str, float]
    species: tuple[str, ...]

    @property
    def system(self) -> System:
        """The differential equations."""
        return System.of(self.rates, self.parameters, units=self.units)


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
    text = source if isinstance(source, str) and "<" in source else Path(source).read_text("utf-8", "replace")
    told = "the text" if text is source else str(source)
    if "<sbml" not in text:
        raise ValueError(f"{told} is not SBML: it has no <sbml> element")
    library = libsbml()
    document = library.readSBMLFromString(text)
    for i in range(document.getNumErrors()):
        error = document.getError(i)
        if error.getSeverity() >= library.LIBSBML_SEV_ERROR:
            raise ValueError(f"{told} is not valid SBML: line {error.getLine()}: {error.getMessage().strip()}")
    model = document.getModel()
    if model is None:
        raise ValueError(f"{told} holds no model")
    return _Reader(library, document, model).read()


class _Reader:
    def __init__(self, library: Any, document: Any, model: Any) -> None:
        self.library, self.document, self.model = library, document, model
        self.values: dict[str, float] = {}
        self.names: dict[str, Expression] = {}
        self.functions = {f.getId(): f for f in model.getListOfFunctionDefinitions()}
        self.renamed = {"t": "t_"} if model.getElementBySId("t") is not None else {}

    def refuse(self, what: str) -> UnsupportedModel:
        return UnsupportedModel(f"the model has {what}, which is not supported; libroadrunner or COPASI can run it")

    def read(self) -> SbmlModel:
        self.refuse_unsupported()
        m = self.model
        rules = {r.getVariable(): r for r in m.getListOfRules()}
        initial = {a.getSymbol(): a for a in m.getListOfInitialAssignments()}
        assigned = {n: r.getMath() for n, r in rules.items() if r.isAssignment()}
        rated = {n: r.getMath() for n, r in rules.items() if r.isRate()}
        for name, math_ in (*assigned.items(), *rated.items()):
            if math_ is None:
                raise self.refuse(f"a rule for {name!r} without a formula")
        sizes = {c.getId(): c for c in m.getListOfCompartments()}
        for name in sizes:
            if name in rules:
                raise self.refuse(f"a compartment that changes ({name!r})")
        species = {s.getId(): s for s in m.getListOfSpecies()}
        # Every symbol is a name; assigned ones are replaced by their formulas.
        everything = [*sizes, *species, *(p.getId() for p in m.getListOfParameters())]
        for name in everything:
            self.names[name] = variable(self.name(name))
        self.inline(assigned)
        start = self.starts(species, sizes, assigned, initial)
        laws, changes = [], dict.fromkeys(species, constant(0))
        for reaction in m.getListOfReactions():
            laws.append(self.reaction(reaction, species))
        states: dict[str, Expression] = {}
        volume = {n: start[s.getCompartment()] if self.is_concentration(s) else 1.0 for n, s in species.items()}
        for name, math_ in rated.items():
            states[name] = self.formula(math_)
        for process in laws:
            for name, by in process.change.items():
                changes[name] = changes[name] + constant(int(by) if float(by).is_integer() else by) * process.law
        touched = {n for process in laws for n in process.change}
        for name in species:
            if name in touched and name not in rules:
                states[name] = changes[name] / _exact(volume[name]) if volume[name] != 1 else changes[name]
        if not states:
            raise UnsupportedModel("the model has nothing that changes: no reactions and no rate rules")
        parameters = {n: start[n] for n in everything if n not in states and n not in assigned}
        missing = [n for n in (*states, *parameters) if not math.isfinite(start.get(n, math.nan))]
        used = frozenset().union(*(e.variables for e in (*states.values(), *(self.names[n] for n in assigned))))
        for name in missing:
            if name in states or self.name(name) in used:
                raise UnsupportedModel(f"{name!r} has no finite value at the start")
            del parameters[name]
        for name, value in self.values.items():  # local parameters
            parameters[name] = value
        return SbmlModel(
            name=m.getId() or "model",
            rates={self.name(n): e for n, e in states.items()},
            parameters={self.name(n): v for n, v in parameters.items()},
            units=self.units(species, states),
            declared=self.declared(),
            start={self.name(n): start[n] for n in states},
            derived={self.name(n): self.names[n] for n in assigned},
            reactions=tuple(
                SbmlReaction(p.name, p.law, {self.name(k): v for k, v in p.change.items()}, p.reversible) for p in laws
            ),
            sizes={self.name(n): v for n, v in volume.items()},
            species=tuple(self.name(n) for n in species),
        )

    def name(self, name: str) -> str:
        return self.renamed.get(name, name)

    def refuse_unsupported(self) -> None:
        m = self.model
        for i in range(self.document.getNumPlugins()):
            name = self.document.getPlugin(i).getPackageName()
            if name not in _HARMLESS and self.document.getPackageRequired(name):
                raise self.refuse(f"the SBML package {name!r}")
        for event in m.getListOfEvents():
            kind = "an event with a delay" if event.isSetDelay() else "an event"
            raise self.refuse(f"{kind} ({event.getId() or event.getName() or 'unnamed'!r})")
        for rule in m.getListOfRules():
            if rule.isAlgebraic():
                raise self.refuse("an algebraic rule")
        if m.getNumConstraints():
            raise self.refuse("a constraint")
        if m.isSetConversionFactor():
            raise self.refuse("a conversion factor")
        for s in m.getListOfSpecies():
            if s.isSetConversionFactor():
                raise self.refuse(f"a conversion factor (of {s.getId()!r})")
        for reaction in m.getListOfReactions():
            if reaction.isSetFast() and reaction.getFast():
                raise self.refuse(f"a fast reaction ({reaction.getId()!r})")

    def is_concentration(self, species: Any) -> bool:
        compartment = self.model.getCompartment(species.getCompartment())
        return not species.getHasOnlySubstanceUnits() and compartment.getSpatialDimensions() != 0

    # Values at the start --------------------------------------------------------------------------------------------

    def starts(self, species: dict[str, Any], sizes: dict[str, Any], assigned: dict[str, Any], initial: dict[str, Any]
               ) -> dict[str, float]:  # fmt: skip
        known: dict[str, float] = {}
        for name, c in sizes.items():
            if name not in initial:
                known[name] = c.getSize() if c.isSetSize() else 1.0 if self.document.getLevel() < 3 else math.nan
        for p in self.model.getListOfParameters():
            if p.getId() not in assigned and p.getId() not in initial:
                known[p.getId()] = p.getValue() if p.isSetValue() else math.nan
        formulas = {n: self.formula(a.getMath()) for n, a in initial.items() if a.getMath() is not None}
        waiting = {n: s for n, s in species.items() if n not in assigned and n not in initial}
        while formulas or waiting:
            done = len(formulas) + len(waiting)
            for name, s in list(waiting.items()):
                if s.getCompartment() in known:
                    known[name] = self.initial(s, known[s.getCompartment()])
                    del waiting[name]
            for name, formula in list(formulas.items()):
                needs = {v for v in formula.variables if v != "t" or self.renamed}
                here = {self.name(n): v for n, v in known.items()} | self.values
                if needs - {"t"} <= set(here):
                    known[name] = float(evaluate([formula], {**here, "t": 0.0})[0])
                    del formulas[name]
            if len(formulas) + len(waiting) == done:
                raise UnsupportedModel(f"the initial value of {min([*formulas, *waiting])!r} cannot be worked out")
        return known

    def initial(self, s: Any, size: float) -> float:
        if s.isSetInitialAmount():
            return s.getInitialAmount() / size if self.is_concentration(s) else s.getInitialAmount()
        if s.isSetInitialConcentration():
            return s.getInitialConcentration() * (1.0 if self.is_concentration(s) else size)
        return math.nan

    # Formulas -------------------------------------------------------------------------------------------------------

    def inline(self, assigned: dict[str, Any]) -> None:
        """Replace each assigned name by its formula, in the order in which they need each other."""
        waiting = dict(assigned)
        while waiting:
            ready = [n for n, a in waiting.items() if not self.mentioned(a) & set(waiting)]
            if not ready:
                raise UnsupportedModel(f"the rules for {', '.join(sorted(waiting))} need each other in a circle")
            for name in ready:
                self.names[name] = self.formula(waiting.pop(name))

    def mentioned(self, node: Any) -> set[str]:
        here = {node.getName()} if node.getType() == self.library.AST_NAME else set()
        return here.union(*(self.mentioned(node.getChild(i)) for i in range(node.getNumChildren())))

    def reaction(self, reaction: Any, species: dict[str, Any]) -> SbmlReaction:
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
        change: dict[str, float] = {}
        for sign, references in ((-1, reaction.getListOfReactants()), (1, reaction.getListOfProducts())):
            for reference in references:
                self.refuse_varying(reference, name)
                s = species[reference.getSpecies()]
                if not s.getBoundaryCondition() and not s.getConstant():
                    by = sign * reference.getStoichiometry()
                    change[s.getId()] = change.get(s.getId(), 0.0) + by
        formula = self.formula(law.getMath(), local)
        return SbmlReaction(name, formula, change, bool(reaction.getReversible()))

    def refuse_varying(self, reference: Any, reaction: str) -> None:
        own = reference.getId()
        ruled = own and (self.model.getRule(own) is not None or self.model.getInitialAssignment(own) is not None)
        math_ = reference.isSetStoichiometryMath() if self.document.getLevel() < 3 else False
        if ruled or math_ or not math.isfinite(reference.getStoichiometry()):
            raise self.refuse(f"a stoichiometry that is computed (of {reference.getSpecies()!r} in {reaction!r})")

    def formula(self, node: Any, local: Mapping[str, Expression] | None = None) -> Expression:
        return constant(self.number(node, local or {}))

    def number(self, node: Any, local: Mapping[str, Any]) -> Any:
        ast, kind = self.library, node.getType()
        if kind in (ast.AST_INTEGER,):
            return constant(node.getInteger())
        if kind in (ast.AST_REAL, ast.AST_REAL_E):
            return _exact(node.getReal())
        if kind == ast.AST_RATIONAL:
            return constant(node.getNumerator()) / node.getDenominator()
        if kind == ast.AST_NAME:
            return self.symbol(node.getName(), local)
        if kind == ast.AST_NAME_TIME:
            return variable("t")
        if kind in (ast.AST_CONSTANT_PI, ast.AST_CONSTANT_E):
            return constant(math.pi if kind == ast.AST_CONSTANT_PI else math.e)
        if kind == ast.AST_FUNCTION:
            return self.call(node, local)
        if kind == ast.AST_FUNCTION_PIECEWISE:
            return self.piecewise(node, local)
        arguments = [node.getChild(i) for i in range(node.getNumChildren())]
        apply = self.operations().get(kind)
        if apply is None:
            raise self.refuse(f"the operation {self.told(node)!r} in a formula")
        values = [self.number(a, local) for a in arguments]
        try:
            return apply(*values)
        except TypeError:
            raise self.refuse(f"the operation {self.told(node)!r} with {len(values)} arguments") from None

    def told(self, node: Any) -> str:
        known = {
            self.library.AST_FUNCTION_DELAY: "delay",
            self.library.AST_FUNCTION_RATE_OF: "rateOf",
            self.library.AST_NAME_AVOGADRO: "avogadro",
        }
        return known.get(node.getType()) or node.getName() or self.library.formulaToL3String(node)

    def symbol(self, name: str, local: Mapping[str, Any]) -> Any:
        if name in local:
            return local[name]
        if name in self.names:
            return self.names[name]
        raise self.refuse(f"{name!r} in a formula, which is neither a species, a compartment nor a parameter")

    def call(self, node: Any, local: Mapping[str, Any]) -> Any:
        definition = self.functions.get(node.getName())
        if definition is None or definition.getBody() is None:
            raise self.refuse(f"the function {node.getName()!r} without a definition")
        given = [self.number(node.getChild(i), local) for i in range(node.getNumChildren())]
        names = [definition.getArgument(i).getName() for i in range(definition.getNumArguments())]
        if len(names) != len(given):
            raise UnsupportedModel(f"the function {node.getName()!r} takes {len(names)} arguments, got {len(given)}")
        return self.number(definition.getBody(), dict(zip(names, given, strict=True)))

    def piecewise(self, node: Any, local: Mapping[str, Any]) -> Any:
        count = node.getNumChildren()
        if count % 2 == 0:
            raise self.refuse("a piecewise formula that is undefined somewhere (no otherwise)")
        value = self.number(node.getChild(count - 1), local)
        for i in range(count - 3, -1, -2):
            value = self.chosen(node.getChild(i + 1), local, self.number(node.getChild(i), local), value)
        return value

    def chosen(self, node: Any, local: Mapping[str, Any], yes: Any, no: Any) -> Any:
        """`yes` where the condition holds, else `no`."""
        ast, kind = self.library, node.getType()
        parts = [node.getChild(i) for i in range(node.getNumChildren())]
        if kind in (ast.AST_CONSTANT_TRUE, ast.AST_CONSTANT_FALSE):
            return yes if kind == ast.AST_CONSTANT_TRUE else no
        if kind == ast.AST_LOGICAL_AND:
            return reduce(lambda found, part: self.chosen(part, local, found, no), reversed(parts), yes)
        if kind == ast.AST_LOGICAL_OR:
            return reduce(lambda found, part: self.chosen(part, local, yes, found), reversed(parts), no)
        if kind == ast.AST_LOGICAL_NOT:
            return self.chosen(parts[0], local, no, yes)
        compare: dict[int, Callable[[Any], Any]] = {
            ast.AST_RELATIONAL_LT: lambda d: d < 0, ast.AST_RELATIONAL_LEQ: lambda d: d <= 0,
            ast.AST_RELATIONAL_GT: lambda d: d > 0, ast.AST_RELATIONAL_GEQ: lambda d: d >= 0,
            ast.AST_RELATIONAL_EQ: lambda d: d == 0, ast.AST_RELATIONAL_NEQ: lambda d: d != 0,
        }  # fmt: skip
        if kind not in compare or len(parts) != 2:
            raise self.refuse(f"the condition {self.library.formulaToL3String(node)!r}")
        return where(compare[kind](constant(self.number(parts[0], local)) - self.number(parts[1], local)), yes, no)

    def operations(self) -> dict[int, Callable[..., Any]]:
        ast = self.library

        def root(*a: Any) -> Any:
            return sqrt(a[-1]) if len(a) == 1 or (a[0].is_constant and a[0].value == 2) else a[1] ** (1 / a[0])

        def logarithm(*a: Any) -> Any:
            return log(a[-1]) / (math.log(10) if len(a) == 1 else log(a[0]))

        return {
            ast.AST_PLUS: lambda *a: sum(a[1:], start=a[0]) if a else constant(0),
            ast.AST_TIMES: lambda *a: math.prod(a[1:], start=a[0]) if a else constant(1),
            ast.AST_MINUS: lambda *a: -a[0] if len(a) == 1 else a[0] - a[1],
            ast.AST_DIVIDE: lambda a, b: a / b,
            ast.AST_POWER: lambda a, b: a**b,
            ast.AST_FUNCTION_POWER: lambda a, b: a**b,
            ast.AST_FUNCTION_ROOT: root,
            ast.AST_FUNCTION_LOG: logarithm,
            ast.AST_FUNCTION_LN: log,
            ast.AST_FUNCTION_EXP: exp,
            ast.AST_FUNCTION_ABS: abs,
            ast.AST_FUNCTION_SIN: sin,
            ast.AST_FUNCTION_COS: cos,
            ast.AST_FUNCTION_TAN: lambda a: sin(a) / cos(a),
            ast.AST_FUNCTION_SINH: sinh,
            ast.AST_FUNCTION_COSH: cosh,
            ast.AST_FUNCTION_TANH: tanh,
            ast.AST_FUNCTION_SECH: sech,
            ast.AST_FUNCTION_ARCTAN: arctan,
            ast.AST_FUNCTION_MAX: lambda *a: reduce(maximum, a),
            ast.AST_FUNCTION_MIN: lambda *a: reduce(minimum, a),
        }

    def units(self, species: Mapping[str, Any], states: Mapping[str, Expression]) -> dict[str, str]:
        """The derived units of species and of time, as libsbml tells them."""
        found = {}
        for name, s in species.items():
            told = (
                self.library.UnitDefinition.printUnits(s.getDerivedUnitDefinition(), True)
                if s.getDerivedUnitDefinition()
                else ""
            )
            if name in states and told and "indeterminable" not in told:
                found[self.name(name)] = told
        return found

    def declared(self) -> dict[str, str]:
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


def _exact(value: float) -> Any:
    """A number as a constant; whole ones as whole numbers, which powers need."""
    return constant(int(value) if math.isfinite(value) and value.is_integer() and abs(value) < 2**53 else value)


# Writing --------------------------------------------------------------------------------------------------------------

_INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), "pow": ("^", 4)}
_RELATIONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
# What SBML's mathematics has no word for, as a formula of its arguments. x == 0 is a single point: sinh is accurate
# beside it, where e^x - 1 is not.
_SPELLED: dict[str, Callable[..., str]] = {
    "expm1": lambda x: f"2*exp(({x})/2)*sinh(({x})/2)",
    "log1p": lambda x: f"ln(1 + ({x}))",
    "sigmoid": lambda x: f"1/(1 + exp(-({x})))",
    "log_sigmoid": lambda x: f"-ln(1 + exp(-({x})))",
    "softplus": lambda x: f"ln(1 + exp({x}))",
    "tanhshrink": lambda x: f"({x}) - tanh({x})",
    "asinh": lambda x: f"arcsinh({x})",
    "atan": lambda x: f"arctan({x})",
    "log": lambda x: f"ln({x})",
    "maximum": lambda a, b: f"piecewise({a}, ({a}) > ({b}), {b})",
    "minimum": lambda a, b: f"piecewise({a}, ({a}) < ({b}), {b})",
    "squareplus": lambda x, b: f"(({x}) + sqrt(({x})^2 + ({b})))/2",
    "hill": lambda x, k, n: f"({x})^({n})/(({k})^({n}) + ({x})^({n}))",
    "where": lambda condition, a, b: f"piecewise({a}, {condition}, {b})",
}
_SAME = frozenset({"exp", "sqrt", "sin", "cos", "sinh", "cosh", "tanh", "sech", "abs"})


def sbml_formula(expression: Expression) -> str:
    """An expression in the infix notation of SBML level 3, which libsbml turns into MathML.

    Raises:
        UnsupportedModel: a function that SBML's mathematics cannot say.
    """
    return _written(expression, 0)


def _written(node: Expression, outer: int) -> str:
    operation, arguments = node.operation, node.arguments
    if operation == "variable":
        return arguments[0]
    if operation == "constant":
        return _number(arguments[0], outer)
    if operation == "with_slope":
        return _written(arguments[1], outer)
    if operation == "neg":
        text = "-" + _written(arguments[0], 3)
        return f"({text})" if outer > 0 else text
    if operation in _INFIX:
        sign, level = _INFIX[operation]
        left = _written(arguments[0], level + (operation == "pow"))
        right = _written(arguments[1], level + (operation in ("sub", "div", "pow")))
        text = f"{left} {sign} {right}" if level == 1 else left + sign + right
        return f"({text})" if level < outer else text
    if operation in _RELATIONS:
        return f" {_RELATIONS[operation]} ".join(_written(a, 2) for a in arguments)
    if operation == "exprel" and arguments[1].is_constant and arguments[1].value == 0:
        x = _written(arguments[0], 0)
        return f"piecewise(1, ({x}) == 0, exp(({x})/2)*sinh(({x})/2)/(({x})/2))"
    given = [_written(a, 0) for a in arguments]
    if operation in _SAME:
        return f"{operation}({', '.join(given)})"
    if operation not in _SPELLED:
        raise UnsupportedModel(f"SBML's mathematics has no {operation}, which {node!r} needs")
    return f"({_SPELLED[operation](*given)})"


def _number(value: Any, outer: int) -> str:
    if isinstance(value, Fraction) and value.denominator != 1:
        text = f"{value.numerator}/{value.denominator}"
        return f"({text})" if outer > 1 else text
    text = repr(value) if isinstance(value, float) else str(value)
    return f"({text})" if value < 0 and outer > 0 else text


def libsbml() -> Any:
    """The package libsbml.

    Raises:
        ImportError: it is missing.
    """
    try:
        return importlib.import_module("libsbml")
    except ImportError:
        raise ImportError("SBML needs the package python-libsbml: pip install python-libsbml") from None
