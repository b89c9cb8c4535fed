"""Membranes from NMODL, NEURON's language for mechanisms: density mechanisms whose gates follow V.

What is read: NEURON, UNITS, PARAMETER, CONSTANT, ASSIGNED, STATE, BREAKPOINT, DERIVATIVE, PROCEDURE and FUNCTION, with
local variables, `if`, calls, and units in parentheses (which NMODL does not convert either). INITIAL and TABLE change
no equation and are passed over. Everything else is refused by name, with its line.

A procedure is run over expressions: what it leaves in `minf` is the formula of minf in v.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from varphi.numbers import Expression, cos, cosh, exp, explinear, log, sin, sinh, sqrt, tanh, variable, where
from varphi.numbers.expression import constant

from .assembly import Equations, Range, UnsupportedModel, assembled
from .gates import VOLTAGE
from .model import Current, Model
from .recognise import replaced
from .units import CAPACITANCE, as_written, quantity

_MILLIAMPERES = 1000  # NMODL's densities are mA/cm²; a membrane's currents are µA/cm².
_DEEPEST = 40

_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<text>\"[^\"\n]*\")"
    r"|(?P<sign><=|>=|==|!=|&&|\|\||[-+*/^(){}=,<>!'~;.\[\]&|$@#%])"
)
_SKIPPED = ("INITIAL", "INDEPENDENT")
_READ = ("NEURON", "UNITS", "PARAMETER", "CONSTANT", "ASSIGNED", "STATE", "BREAKPOINT", "DERIVATIVE", "PROCEDURE",
         "FUNCTION")  # fmt: skip
_WHY = {
    "VERBATIM": "C code",
    "KINETIC": "a kinetic scheme, whose gates are no products of independent ones",
    "POINT_PROCESS": "a point process, which is no current per area",
    "ARTIFICIAL_CELL": "an artificial cell",
    "ELECTRODE_CURRENT": "the current of an electrode",
    "POINTER": "a pointer to another mechanism",
    "NET_RECEIVE": "synaptic events",
}
_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "exp": (1, exp), "log": (1, log), "log10": (1, lambda x: log(x) / log(10)), "sqrt": (1, sqrt), "fabs": (1, abs),
    "abs": (1, abs), "sin": (1, sin), "cos": (1, cos), "sinh": (1, sinh), "cosh": (1, cosh), "tanh": (1, tanh),
    "pow": (2, operator.pow), "exprelr": (1, lambda x: explinear(-x)),
}  # fmt: skip
# Constants of nature by NMODL's names (SI Brochure 2019: exact).
_PHYSICS = {
    ("faraday", "coulomb"): 96485.33212331001, ("faraday", "kilocoulomb"): 96.48533212331001,
    ("k-mole", "joule/degC"): 8.31446261815324, ("k", "joule/degC"): 1.380649e-23, ("e", "coulomb"): 1.602176634e-19,
    ("pi", "1"): math.pi, ("pi", ""): math.pi,
}  # fmt: skip
_LOOPS = ("while", "for", "FROM", "forall")
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
            "!=": operator.ne}  # fmt: skip


def from_nmodl(
    *sources: str | Path,
    C: float | str = 1.0,
    numbers: Mapping[str, float] | None = None,
    currents: Sequence[Current] = (),
    name: str | None = None,
    ranges: Mapping[str, Range] | None = None,
    window: tuple[float, float] | None = None,
) -> Model:
    """A membrane from one or several NMODL files.

    Args:
        sources: .mod files, or their text.
        C: capacitance, µF/cm², which NEURON keeps with the section.
        numbers: what a file reads but does not set, such as {"ena": 50, "ek": -77, "celsius": 6.3}; and other values
            for its parameters, in the file's own units.
        currents: further ones, such as a leak that NEURON's `pas` would give.
        name: of the model; by default the mechanism's.
        ranges: from a gate to what its steady state lies in, where that is not 0 to 1.
        window: as of `Model`.

    Raises:
        FileNotFoundError: no such file.
        UnsupportedModel: a statement that is not supported, with its line; a number that is missing.
    """
    if not sources:
        raise ValueError("from_nmodl takes one or more .mod files")
    given = {n: float(v) for n, v in (numbers or {}).items()}
    read = [_read(source, given) for source in sources]
    known = set().union(*(m.known for m in read))
    unused = sorted(set(given) - known)
    if unused:
        raise ValueError(f"numbers gives {unused[0]!r}, which no file reads; they read {', '.join(sorted(known))}")
    whole = _apart(read, set(given))
    flows = [(label, e) for m in whole for label, e in m.currents]
    return assembled(
        Equations(
            currents=flows,
            rates={n: e for m in whole for n, e in m.rates.items()},
            values={n: v for m in whole for n, v in m.values.items()},
            units={n: u for m in whole for n, u in m.units.items()},
            C=quantity(C, CAPACITANCE, "C"),
            name=name or " + ".join(m.suffix for m in read),
            source="NMODL, " + ", ".join(m.told for m in read),
            ranges=ranges or {},
            window=window if window is not None or not currents else (-100.0, 60.0),
            extra=tuple(currents),
        )
    )


@dataclass(frozen=True)
class _Mechanism:
    """What one file says; `known` is every name it reads that may be given a value, `units` are those of values."""

    suffix: str
    told: str
    currents: tuple[tuple[str, Expression], ...]
    rates: Mapping[str, Expression]
    values: Mapping[str, float]
    units: Mapping[str, str]
    known: frozenset[str]


def _apart(read: Sequence[_Mechanism], given: set[str]) -> list[_Mechanism]:
    """Mechanisms in which no two use one name for two things: gates and parameters of one name take the suffix."""
    found = []
    for m in read:
        others = [o for o in read if o is not m]
        taken = {n for o in others for n in (*o.rates, *o.values)}
        new = {n: f"{n}_{m.suffix}" for n in (*m.rates, *m.values) if n in taken and n not in given}
        labels = {label for o in others for label, _ in o.currents}
        to = {old: variable(name) for old, name in new.items()}
        found.append(
            _Mechanism(
                m.suffix,
                m.told,
                tuple((f"{n}_{m.suffix}" if n in labels else n, replaced(e, to)) for n, e in m.currents),
                {new.get(n, n): replaced(e, to) for n, e in m.rates.items()},
                {new.get(n, n): v for n, v in m.values.items()},
                {new.get(n, n): u for n, u in m.units.items()},
                m.known,
            )
        )
    return found


# Tokens ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


class _Tokens:
    """The words of a file, with the lines they stand on."""

    def __init__(self, text: str, told: str) -> None:
        self.told, self.at = told, 0
        self.list: list[_Token] = []
        comment = False
        for number, line in enumerate(text.splitlines(), 1):
            words = line.strip()
            if comment or words.startswith("COMMENT"):
                comment = not words.startswith("ENDCOMMENT")
                continue
            if re.match(r"TITLE\b", words):
                continue
            self.words(re.split(r"[:?]", line, maxsplit=1)[0], number)
        last = self.list[-1].line if self.list else 1
        self.list.append(_Token("end", "the end of the file", last))

    def words(self, line: str, number: int) -> None:
        at = 0
        while at < len(line):
            if line[at].isspace():
                at += 1
                continue
            match = _TOKEN.match(line, at)
            if match is None:
                # µ and the like occur in units only; one sign of a unit is as good as another.
                self.list.append(_Token("sign", line[at], number))
                at += 1
                continue
            assert match.lastgroup is not None
            self.list.append(_Token(match.lastgroup, match[0], number))
            at = match.end()

    @property
    def now(self) -> _Token:
        return self.list[self.at]

    @property
    def after(self) -> _Token:
        return self.list[min(self.at + 1, len(self.list) - 1)]

    def next(self) -> _Token:
        token = self.now
        if token.kind != "end":
            self.at += 1
        return token

    def has(self, text: str) -> bool:
        return self.now.text == text and self.now.kind != "end"

    def take(self, text: str) -> bool:
        if self.has(text):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> _Token:
        if not self.has(text):
            self.fail(f"{text!r} is needed before {self.now.text!r}")
        return self.next()

    def name(self) -> str:
        if self.now.kind != "name":
            self.fail(f"a name is needed, not {self.now.text!r}")
        return self.next().text

    def fail(self, words: str, line: int | None = None) -> NoReturn:
        raise UnsupportedModel(f"{self.told}, line {line or self.now.line}: {words}")

    def refuse(self, token: _Token) -> NoReturn:
        why = _WHY.get(token.text)
        self.fail(f"{token.text}{f' ({why})' if why else ''} is not supported", token.line)

    def unit(self) -> str:
        """What stands in (mV), where it stands."""
        found = ""
        if not self.take("("):
            return found
        while not self.take(")"):
            if self.now.kind == "end":
                self.fail("a unit's parenthesis is not closed")
            found += self.next().text
        return found

    def skip_block(self) -> None:
        self.expect("{")
        depth = 1
        while depth:
            token = self.next()
            if token.kind == "end":
                self.fail("a block is not closed: '}' is missing")
            if token.text == "VERBATIM":
                self.refuse(token)
            depth += {"{": 1, "}": -1}.get(token.text, 0)


# Syntax ---------------------------------------------------------------------------------------------------------------

# An expression is a function of a scope; so is a condition, which chooses between two expressions; a statement changes
# the scope.
_Value = Callable[["_Scope"], Expression]
_Choice = Callable[["_Scope"], Callable[[Expression, Expression], Expression]]
_Statement = Callable[["_Scope"], None]


@dataclass
class _Routine:
    kind: str
    name: str
    arguments: list[str]
    body: list[_Statement]


@dataclass
class _File:
    """The blocks of a file."""

    suffix: str = ""
    ions: list[str] = field(default_factory=list)
    currents: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    assigned: set[str] = field(default_factory=set)
    states: list[str] = field(default_factory=list)
    routines: dict[str, _Routine] = field(default_factory=dict)
    breakpoint: list[_Statement] | None = None


class _Parser:
    def __init__(self, tokens: _Tokens) -> None:
        self.tokens, self.file = tokens, _File()

    def parse(self) -> _File:
        t = self.tokens
        blocks = {
            "NEURON": self.neuron, "UNITS": self.units, "PARAMETER": self.parameters, "CONSTANT": self.parameters,
            "ASSIGNED": self.assigned, "STATE": self.states,
        }  # fmt: skip
        while t.now.kind != "end":
            token = t.next()
            if token.text in ("UNITSON", "UNITSOFF", "THREADSAFE"):
                continue
            if token.text == "LOCAL":
                self.file.assigned.update(self.names())
            elif token.text in _SKIPPED:
                t.skip_block()
            elif token.text in blocks:
                t.expect("{")
                blocks[token.text]()
            elif token.text == "BREAKPOINT":
                self.file.breakpoint = self.block()
            elif token.text in ("DERIVATIVE", "PROCEDURE", "FUNCTION"):
                self.routine(token.text)
            elif token.kind == "name":
                t.refuse(token)
            else:
                t.fail(f"{token.text!r} begins no block; these are read: {', '.join(_READ)}", token.line)
        return self.file

    # Declarations ---------------------------------------------------------------------------------------------------

    def neuron(self) -> None:
        t, f = self.tokens, self.file
        while not t.take("}"):
            token = t.next()
            if token.text == "SUFFIX":
                f.suffix = t.name()
            elif token.text == "USEION":
                self.ion()
            elif token.text == "NONSPECIFIC_CURRENT":
                for name in self.names():
                    f.currents[name] = token.line
            elif token.text in ("RANGE", "GLOBAL", "EXTERNAL"):
                self.names()
            elif token.text == "REPRESENTS":
                t.next()
            elif token.text != "THREADSAFE":
                t.refuse(token)

    def ion(self) -> None:
        t = self.tokens
        ion = t.name()
        while t.now.text in ("READ", "WRITE", "VALENCE", "REPRESENTS"):
            what = t.next()
            if what.text == "VALENCE":
                t.take("-")
                t.next()
            elif what.text == "REPRESENTS":
                t.next()
            elif what.text == "READ":
                self.file.ions += self.names()
            else:
                for name in self.names():
                    if name != f"i{ion}":
                        t.fail(f"it writes {name}, which is no current: concentrations stay as given", what.line)
                    self.file.currents[name] = what.line

    def names(self) -> list[str]:
        found = [self.tokens.name()]
        while self.tokens.take(","):
            found.append(self.tokens.name())
        return found

    def units(self) -> None:
        t = self.tokens
        while not t.take("}"):
            if t.has("("):
                t.unit()
                t.expect("=")
                t.unit()
                continue
            name = t.name()
            t.expect("=")
            if t.now.kind == "number" or t.has("-"):
                self.file.parameters[name] = self.number()
                t.unit()
            else:
                self.constant(name)

    def constant(self, name: str) -> None:
        """FARADAY = (faraday) (coulomb)."""
        t = self.tokens
        line, quantity, unit = t.now.line, t.unit(), t.unit().removesuffix("s")
        if (quantity, unit) not in _PHYSICS:
            known = ", ".join(f"({q}) ({u})" for q, u in _PHYSICS)
            t.fail(f"the constant ({quantity}) ({unit}) is not known; these are: {known}", line)
        self.file.parameters[name] = _PHYSICS[quantity, unit]

    def parameters(self) -> None:
        t = self.tokens
        while not t.take("}"):
            if t.take("UNITSON") or t.take("UNITSOFF"):
                continue
            name = t.name()
            if t.take("="):
                self.file.parameters[name] = self.number()
            else:
                self.file.assigned.add(name)
            self.declared(name)

    def declared(self, name: str) -> None:
        """(unit) <low, high>, or FROM low TO high."""
        t = self.tokens
        if t.has("("):
            self.file.units[name] = as_written(t.unit())
        if t.take("FROM"):
            self.number()
            t.expect("TO")
            self.number()
        if t.take("<"):
            self.number()
            if t.take(","):
                self.number()
            t.expect(">")

    def number(self) -> float:
        t = self.tokens
        sign = -1.0 if t.take("-") else 1.0
        if t.now.kind != "number":
            t.fail(f"a number is needed, not {t.now.text!r}")
        return sign * float(t.next().text)

    def assigned(self) -> None:
        while not self.tokens.take("}"):
            name = self.plain_name()
            self.file.assigned.add(name)
            self.declared(name)

    def states(self) -> None:
        while not self.tokens.take("}"):
            name = self.plain_name()
            self.file.states.append(name)
            self.declared(name)

    def plain_name(self) -> str:
        name = self.tokens.name()
        if self.tokens.has("["):
            self.tokens.fail(f"{name} is an array, which is not supported")
        return name

    # Routines -------------------------------------------------------------------------------------------------------

    def routine(self, kind: str) -> None:
        t = self.tokens
        line, name = t.now.line, t.name()
        arguments: list[str] = []
        if kind != "DERIVATIVE":
            t.expect("(")
            while not t.take(")"):
                arguments.append(t.name())
                t.unit()
                t.take(",")
            t.unit()
        if name in self.file.routines:
            t.fail(f"{name} is written twice", line)
        self.file.routines[name] = _Routine(kind, name, arguments, self.block())

    def block(self) -> list[_Statement]:
        t = self.tokens
        t.expect("{")
        found = []
        while not t.take("}"):
            if t.now.kind == "end":
                t.fail("a block is not closed: '}' is missing")
            found += self.statement()
        return found

    def statement(self) -> list[_Statement]:
        t = self.tokens
        token = t.now
        if token.text in ("UNITSON", "UNITSOFF", ";"):
            t.next()
            return []
        if t.take("TABLE"):
            self.table()
            return []
        if t.take("LOCAL"):
            names = self.names()
            return [lambda scope: scope.declare(names)]
        if t.take("SOLVE"):
            return [self.solve(token.line)]
        if t.take("if"):
            return [self.branch()]
        if token.kind != "name":
            t.fail(f"{token.text!r} begins no statement")
        if token.text in _LOOPS:
            t.refuse(token)
        if t.after.text == "(" and not _is_keyword(token.text):
            return [_dropped(self.primary())]
        if t.after.text not in ("=", "'"):
            t.refuse(token)
        name = t.name()
        if t.take("'"):
            t.expect("=")
            slope = self.expression()
            return [lambda scope: scope.move(name, slope(scope), token.line)]
        t.expect("=")
        value = self.expression()
        return [lambda scope: scope.assign(name, value(scope), token.line)]

    def table(self) -> None:
        """TABLE minf, mtau DEPEND celsius FROM -100 TO 100 WITH 200."""
        t = self.tokens
        if t.now.kind == "name" and t.now.text not in ("DEPEND", "FROM"):
            self.names()
        if t.take("DEPEND"):
            self.names()
        t.expect("FROM")
        self.expression()
        t.expect("TO")
        self.expression()
        t.expect("WITH")
        self.number()

    def solve(self, line: int) -> _Statement:
        t = self.tokens
        name = t.name()
        if t.take("METHOD"):
            t.name()
        if t.take("STEADYSTATE"):
            t.fail("SOLVE ... STEADYSTATE is not supported", line)
        return lambda scope: scope.solve(name, line)

    def branch(self) -> _Statement:
        t = self.tokens
        t.expect("(")
        condition = self.condition()
        t.expect(")")
        yes, no = self.block(), list[_Statement]()
        if t.take("else"):
            no = [self.branch()] if t.take("if") else self.block()
        return lambda scope: scope.branch(condition(scope), yes, no)

    # Expressions ----------------------------------------------------------------------------------------------------

    def condition(self) -> _Choice:
        first = self.both()
        while self.tokens.take("||"):
            first = _either(first, self.both())
        return first

    def both(self) -> _Choice:
        first = self.comparison()
        while self.tokens.take("&&"):
            first = _both(first, self.comparison())
        return first

    def comparison(self) -> _Choice:
        t = self.tokens
        if t.take("!"):
            inner = self.comparison()
            return lambda scope: _swapped(inner(scope))
        if t.has("(") and self.holds_comparison():
            t.expect("(")
            inner = self.condition()
            t.expect(")")
            return inner
        left = self.expression()
        if t.now.text not in _COMPARE:
            t.fail(f"a condition compares two values; {t.now.text!r} does not")
        compare = _COMPARE[t.next().text]
        right = self.expression()
        return lambda scope: lambda yes, no: constant(where(compare(constant(left(scope) - right(scope)), 0), yes, no))

    def holds_comparison(self) -> bool:
        """Whether the parenthesis that begins here holds a condition, and no value."""
        depth = 0
        for token in self.tokens.list[self.tokens.at :]:
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if token.text in _COMPARE and depth > 0:
                return True
            if depth == 0:
                return False
        return False

    def expression(self) -> _Value:
        t = self.tokens
        left = self.term()
        while t.now.text in ("+", "-"):
            left = _binary(operator.add if t.next().text == "+" else operator.sub, left, self.term())
        return left

    def term(self) -> _Value:
        t = self.tokens
        left = self.signed()
        while t.now.text in ("*", "/"):
            left = _binary(operator.mul if t.next().text == "*" else operator.truediv, left, self.signed())
        return left

    def signed(self) -> _Value:
        t = self.tokens
        if t.take("-"):
            inner = self.signed()
            return lambda scope: constant(-inner(scope))
        if t.take("+"):
            return self.signed()
        base = self.primary()
        return _binary(operator.pow, base, self.signed()) if t.take("^") else base

    def primary(self) -> _Value:
        t = self.tokens
        token = t.next()
        if token.kind == "number":
            t.unit()
            value = float(token.text)
            return lambda scope: constant(int(value) if value.is_integer() else value)
        if token.text == "(":
            inner = self.expression()
            t.expect(")")
            return inner
        if token.kind != "name":
            t.fail(f"a value is needed, not {token.text!r}", token.line)
        if not t.take("("):
            return lambda scope: scope.value(token.text, token.line)
        arguments = []
        while not t.take(")"):
            arguments.append(self.expression())
            if not t.has(")"):
                t.expect(",")
        return lambda scope: scope.call(token.text, [a(scope) for a in arguments], token.line)


def _dropped(call: _Value) -> _Statement:
    def run(scope: _Scope) -> None:
        call(scope)

    return run


def _is_keyword(name: str) -> bool:
    return name.isupper() and len(name) > 3


def _binary(apply: Callable[[Any, Any], Any], left: _Value, right: _Value) -> _Value:
    return lambda scope: constant(apply(left(scope), right(scope)))


def _both(first: _Choice, second: _Choice) -> _Choice:
    return lambda scope: lambda yes, no: first(scope)(second(scope)(yes, no), no)


def _either(first: _Choice, second: _Choice) -> _Choice:
    return lambda scope: lambda yes, no: first(scope)(yes, second(scope)(yes, no))


def _swapped(choice: Callable[[Expression, Expression], Expression]) -> Callable[[Any, Any], Expression]:
    return lambda yes, no: choice(no, yes)


# Running --------------------------------------------------------------------------------------------------------------


class _Scope:
    """Names and what they stand for, while routines run over expressions."""

    def __init__(self, file: _File, tokens: _Tokens, given: Mapping[str, float]) -> None:
        self.file, self.tokens, self.given = file, tokens, given
        self.globals: dict[str, Expression] = {}
        self.locals: list[dict[str, Expression | None]] = [{}]
        self.rates: dict[str, Expression] = {}
        self.values: dict[str, float] = {}
        self.read: set[str] = set()

    def value(self, name: str, line: int) -> Expression:
        if name in self.locals[-1]:
            found = self.locals[-1][name]
            if found is None:
                self.tokens.fail(f"{name} has no value yet", line)
            return found
        if name in self.globals:
            return self.globals[name]
        if name == "v":
            return variable(VOLTAGE)
        if name in self.file.states:
            return variable(name)
        if name in ("t", "dt"):
            self.tokens.fail(f"{name} in a formula is not supported: a gate follows v alone", line)
        self.read.add(name)
        if name in self.given or name in self.file.parameters:
            self.values[name] = self.given.get(name, self.file.parameters.get(name, 0.0))
            return variable(name)
        if name in (*self.file.assigned, *self.file.ions, "celsius"):
            self.tokens.fail(
                f"{name} is read, and the file gives it no value: numbers={{{name!r}: ...}} does", line
            )  # fmt: skip
        self.tokens.fail(f"{name} is not declared", line)

    def declare(self, names: Iterable[str]) -> None:
        self.locals[-1].update(dict.fromkeys(names))

    def assign(self, name: str, value: Expression, line: int) -> None:
        if name in self.locals[-1]:
            self.locals[-1][name] = value
            return
        if name in self.file.states:
            self.tokens.fail(f"the state {name} is set, not moved by {name}' = ...: that is not supported", line)
        if name not in self.file.assigned and name not in self.file.currents and name not in self.file.parameters:
            self.tokens.fail(f"{name} is not declared", line)
        self.globals[name] = value

    def move(self, name: str, slope: Expression, line: int) -> None:
        if name not in self.file.states:
            self.tokens.fail(f"{name}' is given, and {name} is no STATE", line)
        self.rates[name] = slope

    def solve(self, name: str, line: int) -> None:
        routine = self.file.routines.get(name)
        if routine is None or routine.kind != "DERIVATIVE":
            self.tokens.fail(f"SOLVE {name}: it is no DERIVATIVE block", line)
        self.run(routine, [], line)

    def call(self, name: str, given: list[Expression], line: int) -> Expression:
        known = _FUNCTIONS.get(name)
        if known is not None and name not in self.file.routines:
            if len(given) != known[0]:
                self.tokens.fail(f"{name} takes {known[0]} argument(s), got {len(given)}", line)
            return constant(known[1](*given))
        routine = self.file.routines.get(name)
        if routine is None or routine.kind == "DERIVATIVE":
            self.tokens.fail(f"there is no function or procedure {name!r}", line)
        return self.run(routine, given, line)

    def run(self, routine: _Routine, given: list[Expression], line: int) -> Expression:
        if len(given) != len(routine.arguments):
            self.tokens.fail(f"{routine.name} takes {len(routine.arguments)} argument(s), got {len(given)}", line)
        if len(self.locals) > _DEEPEST:
            self.tokens.fail(f"{routine.name} calls itself without end", line)
        own: dict[str, Expression | None] = dict(zip(routine.arguments, given, strict=True))
        if routine.kind == "FUNCTION":
            own[routine.name] = None
        self.locals.append(own)
        for statement in routine.body:
            statement(self)
        result = self.locals.pop().get(routine.name)
        if routine.kind == "FUNCTION" and result is None:
            self.tokens.fail(f"the function {routine.name} sets no value of its own name", line)
        return constant(0) if result is None else result

    def branch(
        self, choose: Callable[[Expression, Expression], Expression], yes: list[_Statement], no: list[_Statement]
    ) -> None:
        decided = choose(constant(1), constant(0))
        if decided.is_constant:
            for statement in yes if decided.value else no:
                statement(self)
            return
        sides = []
        for body in (yes, no):
            kept = dict(self.globals), [dict(names) for names in self.locals]
            for statement in body:
                statement(self)
            sides.append((self.globals, self.locals))
            self.globals, self.locals = kept
        (first, ours), (second, theirs) = sides
        self.globals = {n: self.chosen(choose, first, second, n) for n in {**first, **second}}
        self.locals = [
            {n: choose(x, y) if (x := a.get(n)) is not None and (y := b.get(n)) is not None else None for n in a}
            for a, b in zip(ours, theirs, strict=True)
        ]

    def chosen(self, choose: Callable[..., Expression], a: dict[str, Any], b: dict[str, Any], name: str) -> Expression:
        sides = [s[name] if name in s else self.value(name, self.tokens.now.line) for s in (a, b)]
        return sides[0] if sides[0] is sides[1] else choose(*sides)


def _read(source: str | Path, given: Mapping[str, float]) -> _Mechanism:
    is_text = isinstance(source, str) and "{" in source
    text = str(source) if is_text else Path(source).read_text("utf-8", "replace")
    told = "the text" if is_text else Path(source).name
    tokens = _Tokens(text, told)
    file = _Parser(tokens).parse()
    scope = _Scope(file, tokens, given)
    if file.breakpoint is None:
        raise UnsupportedModel(f"{told} has no BREAKPOINT block: it makes no current")
    if not file.currents:
        raise UnsupportedModel(f"{told} writes no current: USEION ... WRITE or NONSPECIFIC_CURRENT names one")
    for statement in file.breakpoint:
        statement(scope)
    missing = [s for s in file.states if s not in scope.rates]
    if missing:
        raise UnsupportedModel(f"{told}: the state {missing[0]} has no equation {missing[0]}' = ... that is solved")
    flows = []
    for name, line in file.currents.items():
        if name not in scope.globals:
            tokens.fail(f"the current {name} is never set", line)
        flows.append((name.removeprefix("i") or name, constant(_MILLIAMPERES * scope.globals[name])))
    known = {*file.parameters, *scope.read}
    units = {n: file.units[n] for n in scope.values if n in file.units}
    return _Mechanism(
        file.suffix or "mechanism", told, tuple(flows), scope.rates, scope.values, units, frozenset(known)
    )  # fmt: skip
