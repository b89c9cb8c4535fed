"""VNN-LIB: what is asked about a network, as text (www.vnnlib.org), versions 1.0 and 2.x.

A property describes the inputs and outputs that must not occur together: `sat` means that some input meets all its
assertions. Every number is kept exactly as it is written; what is rounded, on the way to floats, is rounded outward.

1.0 is what VNN-COMP has used since 2021: `(declare-const X_0 Real)`, inputs X_0, X_1, ..., outputs Y_0, Y_1, ...
2.x declares a network with tensors, `(declare-input X float32 [1,5])`, whose elements are X[0,3].
"""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeAlias

import numpy as np
from jaxtyping import Float

from .deadline import check_deadline, in_time
from .onnx import read_packed

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_TOKEN = re.compile(r"""[()]|[^\s()\[\]";]+|\[[^\]()]*\]|"(?:[^"\\]|\\.)*"|(?P<comment>;[^\n]*)|(?P<wrong>\S)""")
_VERSION = re.compile(r"<(\d+)\.(\d+)>")
_FLAT = re.compile(r"(X|Y)_(0|[1-9]\d*)")
_ELEMENTS = ("real", "float32", "float64")
# Formulas between looks at the clock.
_OFTEN = 256
# A disjunction in several assertions multiplies out.
_MOST_CASES = 100_000
_ZERO, _ONE = Fraction(0), Fraction(1)
_NOT_LINEAR = ("sin", "cos", "exp", "log", "sqrt", "abs", "pow", "relu", "max", "min")

Variable: TypeAlias = tuple[str, int]
"""("X" or "Y", place): an element of the flattened input or output."""


class VnnlibError(ValueError):
    """What is wrong with a property, with the line and column of its text."""


class Side(NamedTuple):
    """Σ coefficient·variable + number, exact."""

    terms: dict[Variable, Fraction]
    number: Fraction

    def plus(self, other: Side) -> Side:
        terms = dict(self.terms)
        for variable, coefficient in other.terms.items():
            terms[variable] = terms[variable] + coefficient if variable in terms else coefficient
        return Side({v: c for v, c in terms.items() if c}, self.number + other.number)

    def negative(self) -> Side:
        return Side({v: -c for v, c in self.terms.items()}, -self.number)

    def times(self, factor: Fraction) -> Side:
        return Side({v: factor * c for v, c in self.terms.items() if factor}, factor * self.number)


@dataclass(frozen=True)
class Constraint:
    """Σ coefficient·variable <= limit, or < limit.

    Attributes:
        terms: the coefficients, none of them 0.
        limit: the right-hand side.
        strict: whether equality is excluded.
        place: where it stands in the text, for messages.
    """

    terms: dict[Variable, Fraction]
    limit: Fraction
    strict: bool = False
    place: int = field(default=0, compare=False)

    def met(self, inputs: Sequence[float], outputs: Sequence[float]) -> bool:
        """Whether floats meet it, decided without rounding."""
        found = {"X": inputs, "Y": outputs}
        value = sum((c * Fraction(float(found[kind][i])) for (kind, i), c in self.terms.items()), Fraction(0))
        return value < self.limit if self.strict else value <= self.limit


Formula: TypeAlias = "Constraint | Group"


@dataclass(frozen=True)
class Group:
    """All of several formulas, or any of them."""

    any: bool
    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class Case:
    """A box of inputs, and what must not happen in it: any of several conjunctions.

    Attributes:
        lower, upper: its corners, exact.
        unsafe: each a tuple of constraints that would all hold; an empty one holds everywhere.
    """

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    unsafe: tuple[tuple[Constraint, ...], ...]

    def corners(self) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """The corners in float64, rounded outward."""
        return np.array([_down(v) for v in self.lower]), np.array([-_down(-v) for v in self.upper])


@dataclass(frozen=True)
class Tensor:
    """A declared tensor of version 2."""

    name: str
    element: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Property:
    """A property: the network violates it where some input lies in a case and its output in the unsafe set of that.

    Attributes:
        inputs, outputs: how many numbers the network takes and gives.
        cases: boxes with their unsafe sets.
        version: of the language, as (2, 0).
        tensors: the declared input and output; None in version 1.
    """

    inputs: int
    outputs: int
    cases: tuple[Case, ...]
    version: tuple[int, int] = (1, 0)
    tensors: tuple[Tensor, Tensor] | None = None


def read_vnnlib(path: str | Path) -> Property:
    """A property from a file, .vnnlib or packed by gzip.

    Raises:
        FileNotFoundError: no such file.
        VnnlibError: what does not follow the language, or is outside of what is supported, with line and column.
    """
    content = read_packed(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise VnnlibError(f"{str(path)!r} is no text in UTF-8") from None
    return parse_vnnlib(text, str(path))


def parse_vnnlib(text: str, name: str = "the property") -> Property:
    """A property from its text; `name` stands in messages."""
    return _Parser(text, name).parsed()


def _down(value: Fraction) -> float:
    """The largest float64 that is at most an exact number."""
    near = float(value)
    return near if Fraction(near) <= value else math.nextafter(near, -math.inf)


class _Token(NamedTuple):
    text: str
    place: int


class _Parser:
    """One reading, by recursive descent: a method for each kind of expression."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.lines = [0, *(m.end() for m in in_time(re.finditer("\n", text)))]
        # Apart, as plain texts and numbers: millions of pairs would keep the garbage collector busy for seconds.
        self.texts: list[str] = []
        self.places: list[int] = []
        self._split()
        self.next = self.formulas = 0
        self.version = (1, 0)
        self.declared: dict[str, dict[int, int]] = {"X": {}, "Y": {}}
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[str, Variable] = {}
        self.numbers: dict[str, Fraction] = {}

    def refuse(self, place: int, what: str, remedy: str = "") -> NoReturn:
        line = bisect_right(self.lines, place)
        column = place - self.lines[line - 1] + 1
        quoted = self.text[place:].partition("\n")[0].rstrip()
        quoted = quoted if len(quoted) <= 60 else quoted[:57] + "..."
        shown = f": {quoted!r}" if quoted else ""
        raise VnnlibError(f"{self.name}, line {line}, column {column}: {what}{shown}{remedy and '; ' + remedy}")

    # ---------------------------------------------------------------------------------------- tokens

    def _split(self) -> None:
        for match in in_time(_TOKEN.finditer(self.text)):
            if match.lastgroup is None:
                self.texts.append(match[0])
                self.places.append(match.start())
            elif match.lastgroup == "wrong":
                self.refuse(match.start(), "no word of VNN-LIB")

    def peek(self) -> str:
        return self.texts[self.next] if self.next < len(self.texts) else ""

    def take(self, wanted: str = "") -> _Token:
        if self.next >= len(self.texts):
            self.refuse(len(self.text), f"the text ends where {wanted or 'more'!r} was expected")
        token = _Token(self.texts[self.next], self.places[self.next])
        if wanted and token.text != wanted:
            self.refuse(token.place, f"expected {wanted!r}")
        self.next += 1
        return token

    # ---------------------------------------------------------------------------------------- the whole

    def parsed(self) -> Property:
        fixed: list[Constraint] = []
        choices: list[Group] = []
        if not self.texts:
            self.refuse(0, "the property is empty")
        while self.next < len(self.texts):
            self.take("(")
            word = self.take()
            if word.text == "assert":
                formula = self.formula()
                self._sorted_in(formula, fixed, choices)
            elif word.text == "vnnlib-version":
                self._read_version(word)
            elif word.text == "declare-const":
                self._declare_number(word)
            elif word.text == "declare-network":
                self._declare_network(word)
            else:
                self.refuse(word.place, "expected a declaration or an assertion", "as in (assert (<= X_0 1.0))")
            self.take(")")
        return self._property(fixed, choices)

    def _sorted_in(self, formula: Formula, fixed: list[Constraint], choices: list[Group]) -> None:
        """What holds throughout, and what is open."""
        if isinstance(formula, Constraint):
            fixed.append(formula)
        elif formula.any and len(formula.parts) != 1:
            choices.append(formula)
        else:
            for part in formula.parts:
                self._sorted_in(part, fixed, choices)

    def _property(self, fixed: list[Constraint], choices: list[Group]) -> Property:
        tensors: tuple[Tensor, Tensor] | None = None
        if self.version == (1, 0):
            inputs, outputs = self._counted("X"), self._counted("Y")
        else:
            if not self.tensors:
                self.refuse(len(self.text), "no network is declared", "as in (declare-network f (declare-input ...))")
            tensors = self.tensors["X"], self.tensors["Y"]
            inputs, outputs = (math.prod(t.shape) for t in tensors)
        cases = _Cases(self, inputs, fixed).found(choices)
        return Property(inputs, outputs, cases, self.version, tensors)

    def _counted(self, kind: str) -> int:
        """How many variables of a kind there are: X_0 to X_(n-1), all of them declared."""
        places = self.declared[kind]
        word = {"X": "inputs", "Y": "outputs"}[kind]
        if not places:
            self.refuse(len(self.text), f"no {word} are declared", f"as in (declare-const {kind}_0 Real)")
        for i in range(len(places)):
            if i not in places:
                last = max(places)
                self.refuse(places[last], f"{kind}_{last} is declared and {kind}_{i} is not")
        return len(places)

    # ---------------------------------------------------------------------------------------- declarations

    def _read_version(self, word: _Token) -> None:
        token = self.take()
        match = _VERSION.fullmatch(token.text)
        if match is None:
            self.refuse(token.place, "no version", "as in (vnnlib-version <2.0>)")
        if word.place != self.places[1]:
            self.refuse(word.place, "the version must come first")
        self.version = int(match[1]), int(match[2])
        if self.version[0] not in (1, 2):
            self.refuse(token.place, f"VNN-LIB {match[1]}.{match[2]} is not known", "versions 1.0 and 2.x are")
        self.version = (1, 0) if self.version[0] == 1 else self.version

    def _declare_number(self, word: _Token) -> None:
        if self.version != (1, 0):
            self.refuse(word.place, "declare-const is of version 1.0", "2.x has (declare-network ...)")
        name = self.take()
        match = _FLAT.fullmatch(name.text)
        if match is None:
            self.refuse(name.place, "inputs are named X_0, X_1, ... and outputs Y_0, Y_1, ...")
        kind = self.take()
        if kind.text != "Real":
            self.refuse(kind.place, f"{name.text} must be Real")
        if int(match[2]) in self.declared[match[1]]:
            self.refuse(name.place, f"{name.text} is declared twice")
        self.declared[match[1]][int(match[2])] = name.place
        self.names[name.text] = match[1], int(match[2])

    def _declare_network(self, word: _Token) -> None:
        if self.version[0] < 2:
            self.refuse(word.place, "declare-network is of version 2", "begin with (vnnlib-version <2.0>)")
        if self.tensors:
            self.refuse(word.place, "a second network; properties of one network are supported")
        self.take()  # its name, of which nothing depends
        found: dict[str, list[Tensor]] = {"declare-input": [], "declare-output": []}
        while self.peek() == "(":
            self.take()
            what = self.take()
            if what.text not in found:
                self.refuse(what.place, f"{what.text} is not supported", "one declare-input, one declare-output are")
            found[what.text].append(self._tensor())
            if len(found[what.text]) > 1:
                self.refuse(what.place, f"a second {what.text}; networks with one input and one output are supported")
            self.take(")")
        missing = next((k for k, v in found.items() if not v), None)
        if missing is not None:
            self.refuse(word.place, f"the network has no {missing}")
        (first,), (second,) = found.values()
        if first.name == second.name:
            self.refuse(word.place, f"input and output have one name, {first.name}")
        self.tensors = {"X": first, "Y": second}

    def _tensor(self) -> Tensor:
        name, element = self.take(), self.take()
        if not re.fullmatch(r"[A-Za-z]\w*", name.text):
            self.refuse(name.place, "a name is of letters, digits and _, a letter first")
        if element.text.lower() not in _ELEMENTS:
            self.refuse(element.place, f"numbers of {element.text} are not supported", f"{', '.join(_ELEMENTS)} are")
        shape = self.take()
        if not re.fullmatch(r"\[\s*(\d+\s*(,\s*\d+\s*)*)?\]", shape.text):
            self.refuse(shape.place, "a shape is written as in [1,5]")
        if self.peek() == "initialized":
            self.refuse(self.take().place, "inputs with a default value are not supported")
        return Tensor(name.text, element.text, tuple(int(n) for n in re.findall(r"\d+", shape.text)))

    # ---------------------------------------------------------------------------------------- formulas

    def formula(self) -> Formula:
        self.formulas += 1
        if self.formulas % _OFTEN == 0:
            check_deadline()
        opening = self.take("(")
        word = self.take()
        if word.text in ("and", "or"):
            parts = []
            while self.peek() == "(":
                parts.append(self.formula())
            if not parts:
                self.refuse(opening.place, f"an {word.text!r} of nothing")
            found: Formula = Group(word.text == "or", tuple(parts))
        elif word.text in ("<=", ">=", "<", ">", "=", "==", "!="):
            found = self._compared(word)
        else:
            self.refuse(word.place, f"{word.text!r} is no formula", "and, or, <=, >=, <, >, = are")
        self.take(")")
        return found

    def _compared(self, word: _Token) -> Formula:
        plain = self._plain(word)
        if plain is not None:
            return plain
        first, second = self.side(), self.side()
        if self.peek() != ")":
            self.refuse(self.take().place, f"{word.text!r} compares two terms, this is a third")
        if word.text in ("<=", "<"):
            return _below(first, second, word)
        if word.text in (">=", ">"):
            return _below(second, first, word)
        return Group(word.text == "!=", (_below(first, second, word), _below(second, first, word)))

    def _plain(self, word: _Token) -> Constraint | None:
        """A bound such as (<= X_0 1.5), of which files may have hundreds of thousands, by a short way."""
        if word.text not in ("<=", ">=") or self.next + 2 >= len(self.texts):
            return None
        name, number, end = self.texts[self.next : self.next + 3]
        variable = self.names.get(name)
        if variable is None or end != ")" or not _NUMBER.fullmatch(number):
            return None
        self.next += 2
        limit = self.number(_Token(number, self.places[self.next - 1]))
        if word.text == "<=":
            return Constraint({variable: _ONE}, limit, False, word.place)
        return Constraint({variable: -_ONE}, -limit, False, word.place)

    def number(self, token: _Token) -> Fraction:
        found = self.numbers.get(token.text)
        if found is None:
            exponent = token.text.lower().partition("e")[2]
            if len(exponent) > 5 or not math.isfinite(float(token.text)):
                self.refuse(token.place, f"{token.text} is beyond what float64 holds")
            found = self.numbers[token.text] = Fraction(token.text)
        return found

    def side(self) -> Side:
        token = self.take()
        if token.text == "(":
            found = self._computed(token)
            self.take(")")
            return found
        if _NUMBER.fullmatch(token.text):
            return Side({}, self.number(token))
        if token.text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            self.refuse(token.place, f"{token.text} is no number of VNN-LIB", "bounds must be finite")
        return Side({self.variable(token): _ONE}, _ZERO)

    def _computed(self, opening: _Token) -> Side:
        word = self.take()
        parts: list[Side] = []
        while self.peek() not in (")", ""):
            parts.append(self.side())
        if word.text not in ("+", "-", "*", "/"):
            kind = "is not linear" if word.text in _NOT_LINEAR else "is no term"
            self.refuse(word.place, f"{word.text!r} {kind}", "sums and multiples of variables are supported")
        if not parts:
            self.refuse(opening.place, f"a {word.text!r} of nothing")
        total, *others = parts
        if word.text == "-" and not others:
            return total.negative()
        for part in others:
            total = self._joined(opening, word.text, total, part)
        return total

    def _joined(self, opening: _Token, sign: str, first: Side, second: Side) -> Side:
        if sign in "+-":
            return first.plus(second if sign == "+" else second.negative())
        if sign == "/":
            if second.terms or not second.number:
                self.refuse(opening.place, "division by a variable or by 0")
            return first.times(1 / second.number)
        if first.terms and second.terms:
            self.refuse(opening.place, "a product of variables is not linear", "multiples of variables are supported")
        number, other = (first, second) if not first.terms else (second, first)
        return other.times(number.number)

    def variable(self, token: _Token) -> Variable:
        if self.version[0] >= 2:
            return self._element(token)
        found = self.names.get(token.text)
        if found is None:
            self.refuse(token.place, f"{token.text} is not declared", "declare it before, (declare-const X_0 Real)")
        return found

    def _element(self, token: _Token) -> Variable:
        kind = next((k for k, t in self.tensors.items() if t.name == token.text), None)
        if kind is None:
            self.refuse(token.place, f"{token.text} is not declared")
        shape = self.tensors[kind].shape
        index: tuple[int, ...] = ()
        if self.peek().startswith("["):
            written = self.take()
            if not re.fullmatch(r"\[\s*\d+\s*(,\s*\d+\s*)*\]", written.text):
                self.refuse(written.place, "an index is written as in X[0,3]")
            index = tuple(int(n) for n in re.findall(r"\d+", written.text))
        if len(index) != len(shape) or any(i >= n for i, n in zip(index, shape, strict=False)):
            self.refuse(token.place, f"{token.text} has the shape {list(shape)}, {list(index)} is no place of it")
        return kind, int(np.ravel_multi_index(index, shape)) if shape else 0


def _below(first: Side, second: Side, word: _Token) -> Constraint:
    difference = first.plus(second.negative())
    return Constraint(difference.terms, -difference.number, word.text in ("<", ">", "!="), word.place)


class _Box:
    """Bounds of each input, and the constraints they come from; `before`'s where it has none of its own."""

    def __init__(self, before: _Box | None = None) -> None:
        self.before = before
        self.lower: dict[int, Constraint] = {}
        self.upper: dict[int, Constraint] = {}

    def side(self, upper: bool, i: int) -> Constraint | None:
        own = (self.upper if upper else self.lower).get(i)
        return own if own is not None or self.before is None else self.before.side(upper, i)

    def add(self, constraint: Constraint) -> None:
        ((_, i), coefficient) = next(iter(constraint.terms.items()))
        upper = coefficient > 0
        before = self.side(upper, i)
        if before is None or (_bound(constraint) < _bound(before)) == upper:
            (self.upper if upper else self.lower)[i] = constraint

    def crossed(self) -> int | None:
        """An input whose bounds contradict each other, of those that have bounds of this box's own."""
        for i in sorted(self.lower.keys() | self.upper.keys()):
            low, high = self.side(False, i), self.side(True, i)
            if low is not None and high is not None and _bound(low) > _bound(high):
                return i
        return None


_Changes: TypeAlias = "tuple[tuple[tuple[int, Fraction], ...], ...]"


def _bound(constraint: Constraint) -> Fraction:
    coefficient = next(iter(constraint.terms.values()))
    if coefficient == 1:
        return constraint.limit
    return -constraint.limit if coefficient == -1 else constraint.limit / coefficient


def _is_bound(constraint: Constraint) -> bool:
    return len(constraint.terms) == 1 and next(iter(constraint.terms))[0] == "X"


class _Cases:
    """From assertions to boxes with unsafe sets: the disjunctive normal form, boxes of one kind together."""

    def __init__(self, parser: _Parser, inputs: int, fixed: list[Constraint]) -> None:
        self.parser, self.inputs = parser, inputs
        self.box = _Box()
        self.rest: list[Constraint] = []
        self.never: Constraint | None = None
        for constraint in fixed:
            self._take(constraint, self.box, self.rest)
        crossed = self.box.crossed()
        if crossed is not None:
            self._contradiction(self.box, crossed)

    def _take(self, constraint: Constraint, box: _Box, rest: list[Constraint]) -> bool:
        """Whether a constraint can hold at all; it is put where it belongs."""
        if not constraint.terms:
            holds = constraint.limit > 0 if constraint.strict else constraint.limit >= 0
            self.never = self.never if holds else constraint
            return holds
        if _is_bound(constraint):
            box.add(constraint)
        else:
            rest.append(constraint)
        return True

    def _contradiction(self, box: _Box, i: int) -> NoReturn:
        low, high = box.side(False, i), box.side(True, i)
        assert low is not None and high is not None
        self.parser.refuse(
            max(low.place, high.place),
            f"no input can meet this: input {i} would be at least {_shown(low)} and at most {_shown(high)}",
        )

    def found(self, choices: list[Group]) -> tuple[Case, ...]:
        if self.never is not None:
            self.parser.refuse(self.never.place, "a comparison of numbers that is false")
        boxes: dict[_Changes, tuple[_Box, list[tuple[Constraint, ...]]]] = {}
        contradiction: tuple[_Box, int] | None = None
        for chosen in in_time(self._chosen(choices)):
            box, rest = _Box(self.box), list(self.rest)
            if not all([self._take(c, box, rest) for c in chosen]):
                continue
            crossed = box.crossed()
            if crossed is not None:
                contradiction = contradiction or (box, crossed)
                continue
            boxes.setdefault(_changes(box), (box, []))[1].append(tuple(rest))
        if not boxes and contradiction is not None:
            self._contradiction(*contradiction)
        if not boxes and self.never is not None:
            self.parser.refuse(self.never.place, "no part of the disjunction can be true")
        return tuple(Case(*self._corners(box), tuple(unsafe)) for box, unsafe in in_time(boxes.values()))

    def _corners(self, box: _Box) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        return self._ends(box, False), self._ends(box, True)

    def _ends(self, box: _Box, upper: bool) -> tuple[Fraction, ...]:
        ends = [box.side(upper, i) for i in range(self.inputs)]
        if None in ends:
            word = "upper" if upper else "lower"
            self.parser.refuse(
                len(self.parser.text), f"input {ends.index(None)} has no {word} bound", "every input needs both"
            )
        return tuple(_bound(end) for end in ends if end is not None)

    def _chosen(self, choices: list[Group]) -> Iterator[tuple[Constraint, ...]]:
        """Every way to meet the disjunctions, one part of each."""
        parts = [self._ways(choice) for choice in choices]
        count = math.prod(len(p) for p in parts)
        if count > _MOST_CASES:
            place = min(self._place(c) for c in choices)
            self.parser.refuse(place, f"the disjunctions multiply out to {count} cases, more than {_MOST_CASES}")
        for combination in itertools.product(*parts):
            yield tuple(itertools.chain(*combination))

    def _ways(self, formula: Formula) -> list[tuple[Constraint, ...]]:
        if isinstance(formula, Constraint):
            return [(formula,)]
        if formula.any:
            return [way for part in in_time(formula.parts) for way in self._ways(part)]
        parts = [self._ways(part) for part in formula.parts]
        if math.prod(len(p) for p in parts) > _MOST_CASES:
            self.parser.refuse(self._place(formula), f"this multiplies out to more than {_MOST_CASES} cases")
        return [tuple(itertools.chain(*way)) for way in itertools.product(*parts)]

    def _place(self, formula: Formula) -> int:
        return formula.place if isinstance(formula, Constraint) else self._place(formula.parts[0])


def _changes(box: _Box) -> _Changes:
    """What tells a box from the one before it."""
    sides = (box.lower, box.upper)
    return tuple(tuple(sorted((i, _bound(c)) for i, c in side.items())) for side in sides)


def _shown(constraint: Constraint) -> str:
    return repr(float(_bound(constraint)))
