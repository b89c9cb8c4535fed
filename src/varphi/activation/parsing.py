"""Formula strings: "x*tanh(exp(x))" as a definition.

The text is parsed, never evaluated as Python: only the nodes named here mean anything, everything else is refused with
a caret under it.
"""

from __future__ import annotations

import ast
import difflib
import functools
import math
import operator
import re
from collections.abc import Callable
from numbers import Rational
from typing import Any, NoReturn

from varphi.numbers import ELEMENTARY, Expression, clamp, explinear, exprel, sinc, variable
from varphi.numbers.expression import constant

from .definition import Definition, Evaluation
from .registry import canonical, find, names

_LONGEST = 1000
_DEEPEST = 80
_CONSTANTS = {"pi": math.pi, "π": math.pi, "e": math.e}


class FormulaError(ValueError):
    """A formula string that cannot be read; the message points at the place."""


def parse(text: str) -> Definition:
    """The definition written as a formula in x.

    Args:
        text: Python's notation, `x*tanh(exp(x))`: numbers, `pi`, `e`, `+ - * /`, `**` or `^` for powers, comparisons
            inside `where(condition, a, b)`, varphi's elementary functions, and every name of the catalogue
            (`x*sigmoid(1.702*x)`, `leaky_relu(x, alpha=0.2)`).

    Returns:
        A definition without parameters; its name is the text.

    Raises:
        FormulaError: a syntax error, an unknown name, or a constant part that is not a finite number.
    """
    if not isinstance(text, str):
        raise TypeError(f"a formula is a string, got {type(text).__name__}")
    text = re.sub(r"\s", " ", text.strip())
    if not text:
        raise FormulaError("the formula is empty: write it in x, for example 'x*tanh(exp(x))'")
    if len(text) > _LONGEST:
        raise FormulaError(f"the formula has {len(text)} characters; at most {_LONGEST} are read")
    return Definition(name=text, function=Evaluation(_Reader(text).read()), doc="Given as a formula.")


def read(text: str, known: Callable[[str], bool], told: str) -> Expression:
    """A formula in several variables.

    Args:
        text: as in `parse`.
        known: whether a name is a variable.
        told: which variables there are, for the error.

    Raises:
        FormulaError: as `parse`.
    """
    text = re.sub(r"\s", " ", text.strip())
    if not text:
        raise FormulaError(f"the formula is empty; it has {told}")
    return _Reader(text, known, told).read()


def _power(a: Any, b: Any) -> Any:
    # Exact powers of large numbers would take for ever; as floats they are infinite at once.
    if isinstance(a, Expression) and isinstance(b, Expression) and a.is_constant and b.is_constant:
        magnitude = math.log10(abs(float(a.value)) or 1.0) * float(b.value)
        if abs(magnitude) > 300:
            raise OverflowError("overflows" if magnitude > 0 else "underflows to zero")
    return a**b


_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def _folded(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda *arguments: functools.reduce(function, arguments)


# Name -> function, fewest and most arguments. A catalogue name is used where none of these fits the call.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, float]] = {
    # A slope is for definitions to state: nobody has checked it in a user's formula.
    **{name: (f, f.arity, f.arity) for name, f in ELEMENTARY.items() if name != "with_slope"},
    "exprel": (exprel, 1, 1),
    "sinc": (sinc, 1, 1),
    "explinear": (explinear, 1, 1),
    "abs": (operator.abs, 1, 1),
    "clamp": (clamp, 3, 3),
    "max": (_folded(ELEMENTARY["maximum"]), 2, math.inf),
    "min": (_folded(ELEMENTARY["minimum"]), 2, math.inf),
    "pow": (_power, 2, 2),
    "ln": (ELEMENTARY["log"], 1, 1),
    "clip": (clamp, 3, 3),
    "arctan": (ELEMENTARY["atan"], 1, 1),
    "arcsinh": (ELEMENTARY["asinh"], 1, 1),
}
_REFUSED = {
    ast.BoolOp: "'and', 'or' have no meaning here: nest where(...) instead",
    ast.IfExp: "'a if condition else b' is written where(condition, a, b)",
    ast.Lambda: "a formula is an expression in x alone, without 'lambda x:'",
    ast.NamedExpr: "':=' assigns, and a formula has no variables besides x",
    ast.Attribute: "write functions by their bare name, without a module or object before them",
    ast.Subscript: "'[...]' has no meaning in a formula",
    ast.JoinedStr: "text has no meaning in a formula",
    ast.Starred: "'*' before an argument has no meaning in a formula",
    ast.Tuple: "a formula gives one number, not several",
    ast.List: "a formula gives one number, not a list",
}


class _Reader:
    """One pass over the syntax tree of one formula."""

    def __init__(self, text: str, known: Callable[[str], bool] = "x".__eq__, told: str = "the one variable x") -> None:
        self.text, self.known, self.told = text, known, told
        # `^` binds like `**` in formulas; in Python it does not, so it is rewritten before Python's parser sees it.
        self.source = text.replace("^", "**")
        self.uses_variable = False

    def read(self) -> Expression:
        if "#" in self.text:
            self.fail("a formula has no comments", self.text.index("#"))
        result = self.value(self.tree(), 0)
        if not self.uses_variable:
            self.fail(f"the formula does not contain {self.told.removeprefix('the one variable ')}", 0, len(self.text))
        return result

    def tree(self) -> ast.expr:
        try:
            return ast.parse(self.source, mode="eval").body
        except SyntaxError as error:
            start = (error.offset or 1) - 1
            end = (error.end_offset or 0) - 1 if error.end_lineno == error.lineno else 0
            if self.text[-1] in "+-*/^<>=,":
                self.fail("the formula ends where a number or x must follow", len(self.text))
            hint = " (a product is written with *: 2*x)" if re.search(r"\d\s*[A-Za-z(]|\)\s*[\w(]", self.text) else ""
            self.fail(f"{error.msg}{hint}", self.place(start), self.place(end))
        except (MemoryError, RecursionError):
            self.fail("the formula is nested too deeply", 0, len(self.text))
        except ValueError as error:  # a null character, an integer with thousands of digits
            self.fail(str(error), 0, len(self.text))

    def place(self, column: int) -> int:
        """The column in the user's text of one in `source`."""
        shift = 0
        for match in re.finditer(r"\^", self.text):
            if match.start() + shift + 1 < column:
                shift += 1
        return min(column - shift, len(self.text))

    def fail(self, message: str, start: int, end: int = 0, allowed: bool = False) -> NoReturn:
        # A long formula is shown around the place.
        left = max(0, start - 60)
        shown = self.text[left : left + 120]
        width = max(1, min(end - start, 120 - (start - left)))
        lines = [message, f"    {shown}", "    " + " " * (start - left) + "^" * width]
        if allowed:
            lines.append(
                "Known here: x, numbers, pi, e, + - * / ** ^, comparisons inside where(condition, a, b), and the "
                f"functions {', '.join(sorted(_FUNCTIONS))}, besides every name of vp.names()."
            )
        raise FormulaError("\n".join(lines))

    def fail_at(self, node: ast.expr | ast.keyword, message: str, allowed: bool = False) -> NoReturn:
        encoded = self.source.encode()
        start, end = (len(encoded[:n].decode()) for n in (node.col_offset, node.end_col_offset or 0))
        self.fail(message, self.place(start), self.place(end), allowed)

    def value(self, node: ast.expr, depth: int) -> Expression:
        if depth > _DEEPEST:
            self.fail_at(node, f"the formula is nested more than {_DEEPEST} deep")
        read = _READERS.get(type(node))
        if read is None:
            self.fail_at(node, _REFUSED.get(type(node), f"{type(node).__name__} has no meaning in a formula"))
        try:
            result = constant(read(self, node, depth + 1))
            number = None if result.variables else float(result.evaluate())
        except (OverflowError, ZeroDivisionError):
            self.fail_at(node, "this is too large for a floating-point number")
        if number is None:
            return result
        if not math.isfinite(number):
            self.fail_at(node, f"this is {number}, not a finite number")
        # An integer that no float holds exactly would not fit torch's integers either.
        return constant(number) if isinstance(result.value, Rational) and abs(number) > 2**53 else result

    def number(self, node: ast.Constant, depth: int) -> Any:
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            self.fail_at(node, f"{node.value!r} is not a real number")
        return node.value

    def name(self, node: ast.Name, depth: int) -> Any:
        if self.known(node.id):
            self.uses_variable = True
            return variable(node.id)
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        if node.id in _FUNCTIONS or find(node.id):
            self.fail_at(node, f"{node.id} is a function: write {node.id}(x)")
        self.fail_at(node, f"unknown symbol {node.id!r}: a formula has {self.told}", allowed=True)

    def operation(self, node: ast.BinOp | ast.UnaryOp, depth: int) -> Any:
        function = _OPERATORS.get(type(node.op))
        if function is None:
            self.fail_at(node, "the operators of a formula are + - * / and ** or ^")
        operands = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.operand]
        return function(*[self.value(operand, depth) for operand in operands])

    def comparison(self, node: ast.Compare, depth: int) -> Any:
        self.fail_at(node, "a comparison stands only as the condition of where(condition, a, b)")

    def condition(self, node: ast.expr, depth: int) -> Any:
        if not isinstance(node, ast.Compare):
            self.fail_at(node, "the first argument of where must be a comparison such as x > 0")
        if len(node.ops) > 1:
            self.fail_at(node, "a chain of comparisons is written as one where(...) inside another")
        compare = _COMPARISONS.get(type(node.ops[0]))
        if compare is None:
            self.fail_at(node, "conditions are written with < <= > >= == !=")
        left, right = self.value(node.left, depth), self.value(node.comparators[0], depth)
        # A condition asks where something crosses a constant.
        return compare(left - right, 0) if "x" in left.variables & right.variables else compare(left, right)

    def call(self, node: ast.Call, depth: int) -> Any:
        if not isinstance(node.func, ast.Name):
            self.fail_at(node.func, _REFUSED.get(type(node.func), "this cannot be called"), allowed=True)
        name = node.func.id
        function, fewest, most = _FUNCTIONS.get(name, (None, 0, -1))
        fits = not node.keywords and fewest <= len(node.args) <= most
        if fits and name == "where":
            branches = [self.value(a, depth) for a in node.args[1:]]
            return ELEMENTARY["where"](self.condition(node.args[0], depth), *branches)
        if function is not None and fits:
            return function(*[self.value(a, depth) for a in node.args])
        known = find(name)
        if known is not None and node.args and (function is None or known.parameters):
            return self.catalogued(known, node, depth)
        if known is not None and function is None:
            self.fail_at(node, f"{known.name} is applied to nothing: write {known.name}(x)")
        if function is None:
            self.unknown(node.func)
        takes = f"{fewest}" if fewest == most else f"at least {fewest}"
        given = f"{len(node.args)} and the keyword {node.keywords[0].arg}" if node.keywords else len(node.args)
        self.fail_at(node, f"{name} takes {takes} argument(s), got {given}")

    def catalogued(self, known: Definition, node: ast.Call, depth: int) -> Any:
        """A catalogue definition applied to a formula; its parameters follow by position or by name."""
        parameters = [p.name for p in known.parameters]
        if len(node.args) > 1 + len(parameters):
            self.fail_at(node.args[1 + len(parameters)], f"{known.name} takes {', '.join(['x', *parameters])}")
        given = dict(zip(parameters, node.args[1:], strict=False))
        for keyword in node.keywords:
            if keyword.arg not in parameters or keyword.arg in given:
                self.fail_at(keyword, f"{known.name} takes {', '.join(['x', *parameters])}, each once")
            given[keyword.arg] = keyword.value
        argument = self.value(node.args[0], depth)
        numbers = {name: self.value(value, depth) for name, value in given.items()}
        for name, number in numbers.items():
            if number.variables:
                self.fail_at(given[name], f"the parameter {name} of {known.name} must be a number, without x")
        plain = {name: number.evaluate() for name, number in numbers.items()}
        try:
            return known.function(argument, **known.values(plain))
        except (TypeError, ValueError) as error:
            self.fail_at(node, str(error))

    def unknown(self, node: ast.Name) -> NoReturn:
        if self.known(node.id) or node.id in _CONSTANTS:
            self.fail_at(node, f"{node.id} is not a function: a product is written with *")
        close = difflib.get_close_matches(canonical(node.id), {*_FUNCTIONS, *names()}, n=3)
        hint = f". Did you mean {' or '.join(close)}?" if close else ""
        self.fail_at(node, f"there is no function {node.id!r}{hint}", allowed=not close)


_READERS: dict[type, Callable[..., Any]] = {
    ast.Constant: _Reader.number,
    ast.Name: _Reader.name,
    ast.BinOp: _Reader.operation,
    ast.UnaryOp: _Reader.operation,
    ast.Compare: _Reader.comparison,
    ast.Call: _Reader.call,
}
